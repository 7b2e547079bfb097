"""The list of malformed requests: every parameter of every endpoint, the page's drop areas, and the addresses themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from controlnext.bench.trust import files
from controlnext.bench.trust.client import MARK


@dataclass(frozen=True)
class Upload:
    """A file that is uploaded before the request, and named in it."""

    name: str
    data: bytes = field(repr=False)


SOUND = Upload("sound.png", files.picture())
"""The picture of every request whose picture is not what is wrong."""


@dataclass(frozen=True)
class Case:
    """One malformed request.

    Attributes:
        name: says what is wrong.
        target: name of an endpoint; `#id` of a component whose event is sent; `POST /path` for an address.
        change: parameter by name -> what is wrong with it; for an event the `#id` of the component.
        body: of an address.
    """

    name: str
    target: str
    change: Mapping[str, Any] = field(default_factory=dict, repr=False)
    body: str = field(default="", repr=False)


LONG = "x" * 1_000_000
HUGE = 10**400

_TEXT: Mapping[str, Any] = {
    "number": 3,
    "truth": True,
    "list": ["a"],
    "object": {"a": 1},
    "1 MB": LONG,
    "half a character": "\ud800",
}
_NAME: Mapping[str, Any] = {**_TEXT, "unknown": "nonesuch", "path": "../../etc/passwd", "null byte": "a\0b"}
_NUMBER: Mapping[str, Any] = {
    "text": "much", "empty text": "", "list": [1], "object": {}, "truth": True, "400 digits": HUGE, "infinity": float("inf"),
    "far too large": 1e18, "far below": -1e18,
}  # fmt: skip
_WHOLE: Mapping[str, Any] = {**_NUMBER, "half": 1.5}
_SEED: Mapping[str, Any] = {**_WHOLE, "far too large": 1e19, "far below": -5.5}
_TRUTH: Mapping[str, Any] = {"text": "yes", "number": 3, "list": [], "object": {}}
_FILE: Mapping[str, Any] = {
    "number": 3, "text": "picture.png", "truth": True, "list": [], "empty object": {}, "no path": {"meta": MARK},
    "path null": {"path": None, "meta": MARK}, "path empty": {"path": ""}, "path number": {"path": 3}, "path list": {"path": ["a"]},
    "path object": {"path": {}}, "other file": {"path": "/etc/hostname", "meta": MARK}, "no such file": {"path": "/nonesuch", "meta": MARK},
    "folder": {"path": "/", "meta": MARK}, "device": {"path": "/dev/zero"}, "address here": {"path": "http://127.0.0.1:1/x.png", "meta": MARK},
    "address alone": {"url": "http://127.0.0.1:1/x.png"}, "data address": {"url": "data:image/png;base64,AAAA"},
    "file address": {"path": "file:///etc/hostname"}, "null byte": {"path": "a\0b"}, "1 MB path": {"path": LONG},
}  # fmt: skip
_SETTINGS: Mapping[str, Any] = {
    "number": 3, "text": "low", "list": [1], "unknown name": {"nonesuch": 1}, "name": {"name": "x"}, "image": {"image": "x"},
    "resolution": {"resolution": 64}, "self": {"self": 1}, "400 digits": {"low": HUGE}, "infinity": {"low": float("inf")},
    "a value that is text": {"low": "much"}, "a value that is a list": {"low": [1]}, "a value that is an object": {"low": {}},
    "a value that is null": {"low": None}, "out of range": {"low": -5}, "backend number": {"backend": 3}, "backend unknown": {"backend": "x"},
    "backend list": {"backend": []}, "1 MB value": {"low": LONG}, "1 MB name": {LONG: 1}, "half a character": {"\ud800": 1},
}  # fmt: skip
_LORAS: Mapping[str, Any] = {
    "number": 3, "text": "x", "object": {}, "of numbers": [3], "of null": [None], "of lists": [["x"]], "unknown": ["nonesuch"],
    "name number": [{"name": 3, "weight": 1}], "no name": [{"weight": 1}], "weight text": [{"name": "x", "weight": "y"}],
    "weight infinite": [{"name": "x", "weight": float("inf")}], "unknown field": [{"name": "x", "nonesuch": 1}], "a thousand": ["x"] * 1000,
    "path": ["../../etc/passwd"], "1 MB name": [LONG],
}  # fmt: skip
_CONTROLS: Mapping[str, Any] = {
    "number": 3, "text": "canny", "object": {"annotator": "canny"}, "of numbers": [3], "of null": [None], "empty object": [{}],
    "unknown field": [{"annotator": "depth", "nonesuch": 1}], "annotator list": [{"annotator": []}], "annotator object": [{"annotator": {}}],
    "annotator unknown": [{"annotator": "nonesuch"}], "image empty": [{"annotator": "depth", "image": {}}],
    "image text": [{"annotator": "depth", "image": "x.png"}], "image number": [{"annotator": "depth", "image": 3}],
    "image elsewhere": [{"annotator": "depth", "image": {"path": "/etc/hostname"}}],
    "image address alone": [{"annotator": "depth", "image": {"url": "http://127.0.0.1:1/"}}],
    "image path list": [{"annotator": "depth", "image": {"path": ["a"]}}], "gamma text": [{"annotator": "depth", "gamma": "much"}],
    "settings list": [{"annotator": "depth", "settings": [1]}], "settings name": [{"annotator": "depth", "settings": {"name": "x"}}],
    "settings 400 digits": [{"annotator": "canny", "settings": {"low": HUGE}}], "start text": [{"annotator": "depth", "control_start": "x"}],
    "ten": [{"annotator": "depth"}] * 10, "a curve that is none": [{"annotator": "depth", "gamma_curve": "up"}],
}  # fmt: skip
_VALUES: Mapping[str, Any] = {
    "number": 3, "text": "x", "object": {}, "none": [], "one": [1], "twice": [1, 1], "of lists": [[1], [2]], "of null": [None, 1], "of texts": ["a", "b"],
    "of truths": [True, False], "infinity": [0, float("inf")], "400 digits": [0, HUGE], "ten": list(range(10)), "a thousand": list(range(1000)),
    "1 MB": [LONG, 1],
}  # fmt: skip
_CURVE: Mapping[str, Any] = {
    "number": 3, "list": [], "words": "up and down", "one point of two": "0.5:", "text": "a:b", "infinity": "0:inf", "backwards": "0.9:1, 0.1:1",
    "negative": "0:-5, 1:1", "1 MB": LONG, "400 digits": f"0:{HUGE}",
}  # fmt: skip

_DETAIL: Mapping[str, Any] = {
    "number": 3, "text": "face", "object": {}, "of numbers": [1], "of null": [None], "of lists": [["face"]], "unknown": ["foot"],
    "twice": ["face", "face"], "a thousand": ["face"] * 1000, "1 MB": [LONG],
}  # fmt: skip
_ENHANCE: Mapping[str, Mapping[str, Any]] = {"detail": _DETAIL, "upscale": {**_WHOLE, "three": 3}, "upscaler": _NAME}

PARAMETERS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "annotate": {"image": _FILE, "annotator": _NAME, "resolution": _WHOLE, "settings": _SETTINGS},
    "generate": {
        "image": _FILE, "prompt": _TEXT, "negative_prompt": _TEXT, "model": _NAME, "annotator": _NAME, "gamma": _NUMBER,
        "num_inference_steps": _WHOLE, "guidance_scale": _NUMBER, "seed": _SEED, "num_images": _WHOLE,
        "width": _WHOLE, "height": _WHOLE, "control_start": _NUMBER, "control_end": _NUMBER, "loras": _LORAS, "settings": _SETTINGS,
        "gamma_curve": _CURVE, "init_image": _FILE, "strength": _NUMBER, "mask": _FILE, "controls": _CONTROLS, "scheduler": _NAME,
        "alpha": _NUMBER, "best_of": _WHOLE, **_ENHANCE, "area": _FILE, "area_outside": _TRUTH, "area_soft": _NUMBER,
        "people": {"number": 3, "text": "x", "object": {}, "of numbers": [1], "of null": [None], "of lists": [["x"]], "without a pose": ["x"], "1 MB": [LONG]},
        "reference": _FILE, "ip_adapter": _NAME, "ip_adapter_scale": _NUMBER,
    },
    "score": {"image": _FILE, "condition": _FILE, "annotator": _NAME, "settings": _SETTINGS, "model": _NAME},
    "repair": {"image": _FILE},
    "enhance": {"image": _FILE, **_ENHANCE},
    "sweep": {
        "image": _FILE, "axis": _NAME, "values": _VALUES, "second_axis": _NAME, "second_values": {"number": 3, "text": "x", "object": {}}, "target": _NUMBER, "distance": _TRUTH,
        "prompt": _TEXT, "negative_prompt": _TEXT, "model": _NAME, "annotator": _NAME, "gamma": _NUMBER, "num_inference_steps": _WHOLE,
        "guidance_scale": _NUMBER, "seed": _SEED, "width": _WHOLE, "height": _WHOLE, "control_start": _NUMBER, "control_end": _NUMBER,
        "loras": _LORAS, "settings": _SETTINGS, "gamma_curve": _CURVE, "scheduler": _NAME, "alpha": _NUMBER,
    },
    "loras": {"model": _NAME, "annotator": _TEXT},
    "poses": {"video": _FILE, "start": _NUMBER, "end": _NUMBER, "fps": _NUMBER, "person": _WHOLE, **dict.fromkeys(
        ("smooth", "follow", "hands", "face"), _TRUTH
    ), "reader": _NAME},
    "animate": {
        "reference": _FILE, "video": _FILE, "model": _NAME, "gamma": _NUMBER, "num_inference_steps": _WHOLE, "guidance_scale": _NUMBER,
        "seed": _SEED, "fps": _NUMBER, "max_frames": _WHOLE, "start": _NUMBER, "end": _NUMBER, "person": _WHOLE,
        "prompt": _TEXT, "negative_prompt": _TEXT, "gamma_curve": _CURVE, "reader": _NAME, "drawing": _NAME,
        **dict.fromkeys(("fit", "keep_sound", "micro_conditioning", "limbs", "smooth", "follow", "hands", "face"), _TRUTH),
        **dict.fromkeys(("width", "height", "window", "overlap", "motion_bucket_id"), _WHOLE),
        **dict.fromkeys(("noise_aug_strength", "shared_noise"), _NUMBER), "area": _FILE, "area_outside": _TRUTH, "area_soft": _NUMBER, "loras": _LORAS,
    },
}  # fmt: skip
"""What is wrong with each parameter of each endpoint."""

BASE: Mapping[str, Any] = {"annotator": "canny", "image": SOUND, "condition": SOUND, "video": SOUND}
"""Values that a request has where nothing is wrong with them; the rest have their defaults."""


def sound(endpoint: str, name: str, default: object) -> object:
    """Return the value of a parameter where nothing is wrong with it; only a video needs a reference."""
    return SOUND if (endpoint, name) == ("animate", "reference") else BASE.get(name, default)


_BODIES: Mapping[str, str] = {
    "nothing": "", "no JSON": "{", "a list": "[]", "a text": '"data"', "no data": "{}", "data null": '{"data": null}',
    "data text": '{"data": "x"}', "data object": '{"data": {"a": 1}}', "too few": '{"data": []}', "too many": '{"data": [' + "1," * 99 + "1]}",
    "NaN": '{"data": [NaN]}', "deep": '{"data": ' + "[" * 3000 + "]" * 3000 + "}", "not UTF-8": '{"data": ["\\udcff"]}',
}  # fmt: skip


def cases() -> Iterator[Case]:
    """Return every malformed request, in a fixed order."""
    yield from _parameter_cases()
    yield from _file_cases()
    yield from _address_cases()


def _parameter_cases() -> Iterator[Case]:
    for endpoint, parameters in PARAMETERS.items():
        for parameter, wrong in parameters.items():
            for what, value in wrong.items():
                yield Case(f"{endpoint} {parameter}: {what}", endpoint, {parameter: value})


def _file_cases() -> Iterator[Case]:
    for name, data in files.bad_pictures().items():
        short = f"{name[:12]}...{name[-8:]}" if len(name) > 40 else name
        yield Case(f"annotate picture: {short}", "annotate", {"image": Upload(name, data)})
    for name in ("cut.png", "text.png", "bomb.png", "tampered.webp"):
        data = files.bad_pictures()[name]
        yield Case(f"generate init_image: {name}", "generate", {"init_image": Upload(name, data)})
        yield Case(f"generate mask: {name}", "generate", {"mask": Upload(name, data)})
        yield Case(
            f"generate controls image: {name}",
            "generate",
            {"controls": [{"annotator": "depth", "image": Upload(name, data)}]},
        )
        yield Case(f"animate reference: {name}", "animate", {"reference": Upload(name, data)})
    for name, data in files.bad_clips().items():
        yield Case(f"poses clip: {name}", "poses", {"video": Upload(name, data)})
        yield Case(f"animate clip: {name}", "animate", {"video": Upload(name, data)})
        yield Case(f"page clip: {name}", "#cnx-clip", {"#cnx-clip": Upload(name, data)})
    for name, data in files.bad_packs().items():
        yield Case(f"page pack: {name}", "#cnx-moving", {"#cnx-moving": [Upload(name, data)]})
    for name, data in files.bad_loras().items():
        yield Case(f"page LoRA: {name}", "#cnx-lora-upload", {"#cnx-lora-upload": [Upload(name, data)]})
    for name, recipe in files.bad_recipes().items():
        yield Case(
            f"page recipe in a PNG: {name}",
            "#cnx-restore",
            {"#cnx-restore": Upload("recipe.png", files.recipe_png(recipe))},
        )
        text = recipe if isinstance(recipe, str) else None
        contents = f'{{"controlnext": {text}}}' if text is not None else {"controlnext": recipe}
        yield Case(f"page recipe in an MP4: {name}", "#cnx-video-restore", {"#cnx-video-restore": Upload("recipe.mp4", files.recipe_mp4(contents))})  # fmt: skip


def _address_cases() -> Iterator[Case]:
    for what, body in _BODIES.items():
        for path in ("call/annotate", "run/generate", "queue/join"):
            yield Case(f"POST {path}: {what}", f"POST /gradio_api/{path}", body=body)
    for path in (
        "call/nonesuch",
        "run/nonesuch",
        "call/v2/nonesuch",
        "component_server",
        "upload",
        "cancel",
    ):
        yield Case(f"POST {path}: no such thing", f"POST /gradio_api/{path}", body='{"data": []}')
    for what, number in (("far", 100_000), ("negative", -1), ("text", '"x"'), ("null", "null")):
        body = f'{{"data": [], "fn_index": {number}, "session_hash": "x"}}'
        yield Case(f"POST queue/join: event {what}", "POST /gradio_api/queue/join", body=body)


def wrong_for(kind: str) -> Sequence[tuple[str, Any]]:
    """Return values that no component of the page of a kind can hold, by what is wrong with them."""
    listed: Mapping[str, Mapping[str, Any]] = {
        "textbox": {"number": 3, "list": ["a"], "object": {"a": 1}, "1 MB": LONG},
        "checkbox": {"text": "yes", "number": 3, "list": []},
        "slider": {"text": "much", "list": [1], "400 digits": HUGE, "infinity": float("inf")},
        "number": {"text": "much", "list": [1], "400 digits": HUGE},
        "radio": {"unknown": "nonesuch", "list": ["a"], "object": {}},
        "dropdown": {"object": {"a": 1}, "number list": [[1]], "1 MB": LONG},
        "image": {"text": "x.png", "number": 3, "elsewhere": {"path": "/etc/hostname"}, "list": []},
        "video": {"text": "x.mp4", "elsewhere": {"path": "/etc/hostname"}},
        "file": {"text": "x", "elsewhere": {"path": "/etc/hostname"}, "elsewhere listed": [{"path": "/etc/hostname"}], "number": 3},
        "uploadbutton": {"text": "x", "elsewhere": {"path": "/etc/hostname"}, "number": 3},
        "imageeditor": {
            "text": "x", "layers elsewhere": {"background": None, "layers": [{"path": "/etc/hostname"}], "composite": None}, "list": [],
        },
    }  # fmt: skip
    return list(listed.get(kind, {}).items())
