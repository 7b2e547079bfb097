"""Settings inside the pictures of other programs: AUTOMATIC1111 (and Forge), ComfyUI, InvokeAI, Fooocus, SwarmUI.

What maps onto a recipe is taken, everything else is named. Nothing here trusts a file: texts that are no metadata are none, and
numbers out of range are left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from controlnext.errors import shorten
from controlnext.recipes.limits import LIMITS
from controlnext.recipes.parameters import NEGATIVE
from controlnext.recipes.png import read_texts
from controlnext.recipes.recipe import PROMPT_LENGTH, Recipe, field_words
from controlnext.recipes.schedulers import SCHEDULERS

_SAMPLERS = {
    "ddim": "ddim", "unipc": "unipc", "unipcbh2": "unipc", "euler": "euler", "eulera": "euler_a", "eulerancestral": "euler_a",
    "dpm2m": "dpmpp", "dpmpp2m": "dpmpp", "lcm": "lcm",
}  # fmt: skip
"""Samplers of other programs, letters and digits alone."""
_PAIR = re.compile(r'\s*([\w][\w \-/+]*?):\s*("(?:\\.|[^"\\])*"|[^,]*)(?:,|$)')
_MOST_NODES = 10_000


@dataclass
class Foreign:
    """What a picture of another program says.

    Attributes:
        program: which one.
        values: fields of a recipe: prompt, negative_prompt, seed, width, height, num_inference_steps, guidance_scale,
            scheduler; those that it says and that a recipe can hold.
        left_out: everything else, a few words each.
    """

    program: str
    values: dict[str, Any] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def sentence(self) -> str:
        """Say what was read and what was not, in one line."""
        read = ["size" if name == "width" else field_words(name) for name in self.values if name != "height"]
        left = f" Left out: {', '.join(self.left_out)}." if self.left_out else ""
        return f"Read from a picture of {self.program}: {', '.join(read) or 'nothing'}.{left}"

    def without(self, *names: str) -> Foreign:
        """Return a copy that leaves fields out; the last text says what is left out."""
        values = {name: value for name, value in self.values.items() if name not in names}
        return Foreign(self.program, values, [*self.left_out, names[-1]])

    def take(self, name: str, value: object) -> None:
        """Take one field of a recipe; a value that a recipe cannot hold is left out."""
        if value is None or value == "":
            return
        try:
            if name in ("prompt", "negative_prompt"):
                text = str(value).strip()
                if len(text) > PROMPT_LENGTH:
                    self.left_out.append(f"the end of the {name.replace('_', ' ')}")
                self.values[name] = text[:PROMPT_LENGTH]
                Recipe(**{name: self.values[name]})
            else:
                number = float(str(value))
                whole = name not in ("guidance_scale",)
                self.values[name] = LIMITS[name].check(int(number) if whole else number)
        except (ValueError, OverflowError):
            self.values.pop(name, None)
            self.left_out.append(f"{name.replace('_', ' ')} {shorten(value)}")

    def sampler(self, name: object, schedule: object = "") -> None:
        """Take a sampler by another program's name, and the spacing of its noise levels."""
        if not name:
            return
        text, schedule = str(name), str(schedule or "")
        plain = re.sub(r"[^a-z0-9]", "", text.lower())
        karras = "karras" in plain or plain.endswith("2mk") or "karras" in schedule.lower()
        found = _SAMPLERS.get(plain.replace("karras", "").replace("2mk", "2m"))
        if found is None:
            self.left_out.append(f"sampler {shorten(text)}")
            return
        if karras and f"{found}_karras" in SCHEDULERS:
            found, karras = f"{found}_karras", False
        self.values["scheduler"] = found
        if karras or schedule.lower() not in ("", "normal", "automatic", "karras", "simple", "sgm_uniform", "uniform"):
            self.left_out.append(f"schedule {shorten(schedule or 'karras')}")

    def lora(self, name: object, weight: object = 1.0) -> None:
        """Take a LoRA as a tag of the prompt."""
        stem = re.sub(r"\.(safetensors|pt|ckpt)$", "", str(name).replace("\\", "/").rsplit("/", 1)[-1])
        try:
            tag = f"<lora:{stem}:{float(str(weight)):g}>"
        except ValueError:
            return
        prompt = str(self.values.get("prompt", ""))
        if stem and "<" not in stem and tag not in prompt and len(prompt) + len(tag) < PROMPT_LENGTH:
            self.values["prompt"] = f"{prompt} {tag}".strip()


def read_foreign(source: str | Path | bytes | BinaryIO) -> Foreign | None:
    """Read the settings inside a PNG of another program; None where there are none."""
    texts = read_texts(source)
    readers = (
        ("invokeai_metadata", _invoke), ("sd-metadata", _old_invoke), ("parameters", _parameters), ("prompt", _comfy),
    )  # fmt: skip
    for key, reader in readers:
        if key in texts:
            try:
                found = reader(texts[key])
            except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError):
                continue
            if found is not None and found.values:
                for side in {"width", "height"} if not {"width", "height"} <= found.values.keys() else ():
                    found.values.pop(side, None)  # one side alone says nothing
                return found
    return None


def _parameters(text: str) -> Foreign | None:
    """The chunk `parameters`: text of AUTOMATIC1111, or JSON of Fooocus and SwarmUI."""
    if not text.lstrip().startswith("{"):
        return _a1111(text)
    values = json.loads(text)
    if "sui_image_params" in values:
        return _swarm(values["sui_image_params"])
    return _fooocus(values)


def _a1111(text: str) -> Foreign | None:
    lines = text.strip().split("\n")
    pairs = {key.strip(): _unquoted(value) for key, value in _PAIR.findall(lines[-1])}
    if len(pairs) < 3 or "Steps" not in pairs:
        return None
    words, _, negative = "\n".join(lines[:-1]).partition(NEGATIVE)
    found = Foreign("Fooocus" if "Fooocus" in pairs.get("Version", "") else "AUTOMATIC1111's web UI")
    found.take("prompt", words)
    found.take("negative_prompt", negative)
    taken = {"Steps": "num_inference_steps", "CFG scale": "guidance_scale", "Seed": "seed"}
    for key, name in taken.items():
        found.take(name, pairs.pop(key, None))
    found.sampler(pairs.pop("Sampler", ""), pairs.pop("Schedule type", ""))
    width, _, height = pairs.pop("Size", "").partition("x")
    found.take("width", width)
    found.take("height", height)
    found.left_out += [
        f"{key} {shorten(value)}" for key, value in pairs.items() if key not in ("Version", "Model hash")
    ]
    return found


def _unquoted(value: str) -> str:
    return str(json.loads(value)) if value.startswith('"') else value.strip()


def _fooocus(values: Mapping[str, Any]) -> Foreign | None:
    if "prompt" not in values:
        return None
    found = Foreign("Fooocus")
    used = {
        "prompt",
        "negative_prompt",
        "seed",
        "steps",
        "guidance_scale",
        "resolution",
        "sampler",
        "scheduler",
        "loras",
        "version",
    }
    names = {"prompt": "prompt", "negative_prompt": "negative_prompt", "seed": "seed", "steps": "num_inference_steps",
             "guidance_scale": "guidance_scale"}  # fmt: skip
    for key, name in names.items():
        found.take(name, values.get(key))
    found.sampler(values.get("sampler"), values.get("scheduler"))
    size = re.findall(r"\d+", str(values.get("resolution", "")))[:2]
    for name, value in zip(("width", "height"), size, strict=False):
        found.take(name, value)
    for row in values.get("loras") or ():
        found.lora(*row[:2])
    found.left_out += _others(values, used | {"full_prompt", "full_negative_prompt", "metadata_scheme", "created_by"})
    return found


def _swarm(values: Mapping[str, Any]) -> Foreign:
    found = Foreign("SwarmUI")
    names = {"prompt": "prompt", "negativeprompt": "negative_prompt", "seed": "seed", "steps": "num_inference_steps",
             "cfgscale": "guidance_scale", "width": "width", "height": "height"}  # fmt: skip
    for key, name in names.items():
        found.take(name, values.get(key))
    found.sampler(values.get("sampler"), values.get("scheduler"))
    weights = list(values.get("loraweights") or ())
    for index, name in enumerate(values.get("loras") or ()):
        found.lora(name, weights[index] if index < len(weights) else 1)
    found.left_out += _others(
        values, {*names, "sampler", "scheduler", "loras", "loraweights", "swarm_version", "aspectratio", "images"}
    )
    return found


def _invoke(text: str) -> Foreign:
    values = json.loads(text)
    found = Foreign("InvokeAI")
    names = {"positive_prompt": "prompt", "negative_prompt": "negative_prompt", "seed": "seed", "steps": "num_inference_steps",
             "cfg_scale": "guidance_scale", "width": "width", "height": "height"}  # fmt: skip
    for key, name in names.items():
        found.take(name, values.get(key))
    found.sampler(values.get("scheduler"))
    for row in values.get("loras") or ():
        model = row.get("model") or row.get("lora") or {}
        found.lora(model.get("name") or model.get("model_name") or "", row.get("weight", 1))
    found.left_out += _others(values, {*names, "scheduler", "loras", "app_version", "generation_mode", "rand_device"})
    return found


def _old_invoke(text: str) -> Foreign:
    values = json.loads(text)
    image = values["image"]
    words = image.get("prompt", "")
    words = words[0]["prompt"] if isinstance(words, list) else words
    found = Foreign("InvokeAI")
    prompt, _, negative = str(words).partition("[")
    found.take("prompt", prompt)
    found.take("negative_prompt", negative.rstrip("] "))
    for key, name in {"seed": "seed", "steps": "num_inference_steps", "cfg_scale": "guidance_scale", "width": "width", "height": "height"}.items():  # fmt: skip
        found.take(name, image.get(key))
    found.sampler(image.get("sampler"))
    found.left_out += _others(values, {"image", "app_id", "app_version", "model_hash"})
    return found


def _others(values: Mapping[str, Any], used: set[str]) -> list[str]:
    """Name what a table says besides what was used: short values with the value, others by their name."""
    left = []
    for key, value in values.items():
        if key in used or value in (None, "", [], {}, False):
            continue
        if isinstance(value, Mapping):
            value = value.get("name") or value.get("model_name") or ""
        left.append(f"{key} {shorten(value)}" if isinstance(value, str | int | float) and value != "" else str(key))
    return left


def _comfy(text: str) -> Foreign | None:
    """The graph of ComfyUI: the sampler node and what leads to it."""
    nodes = json.loads(text)
    if not isinstance(nodes, dict) or len(nodes) > _MOST_NODES:
        return None
    graph = {
        str(key): node
        for key, node in nodes.items()
        if isinstance(node, dict) and isinstance(node.get("inputs"), dict)
    }
    samplers = [
        key
        for key, node in graph.items()
        if {"positive", "negative"} <= node["inputs"].keys() and "steps" in node["inputs"]
    ]
    if not samplers:
        return None
    found, sampler = Foreign("ComfyUI"), samplers[0]
    inputs = graph[sampler]["inputs"]
    for link, name in (("positive", "prompt"), ("negative", "negative_prompt")):
        found.take(name, _text(graph, inputs[link]))
    found.take("seed", _number(graph, inputs.get("seed", inputs.get("noise_seed"))))
    found.take("num_inference_steps", _number(graph, inputs["steps"]))
    found.take("guidance_scale", _number(graph, inputs.get("cfg")))
    found.sampler(inputs.get("sampler_name"), inputs.get("scheduler"))
    size = next(
        (node for node in _before(graph, inputs.get("latent_image")) if {"width", "height"} <= node["inputs"].keys()),
        None,
    )
    if size is not None:
        for name in ("width", "height"):
            found.take(name, _number(graph, size["inputs"][name]))
    for node in _before(graph, inputs.get("model")):
        if "lora_name" in node["inputs"]:
            found.lora(node["inputs"]["lora_name"], node["inputs"].get("strength_model", 1))
    known = (
        "KSampler",
        "CLIPTextEncode",
        "EmptyLatentImage",
        "VAEDecode",
        "SaveImage",
        "PreviewImage",
        "LoraLoader",
        "VAELoader",
    )
    others = dict.fromkeys(str(node.get("class_type")) for node in graph.values())
    found.left_out += [f"node {shorten(kind)}" for kind in others if not kind.startswith(known)]
    if len(samplers) > 1:
        found.left_out.append(f"{len(samplers) - 1} more samplers")
    return found


def _before(graph: Mapping[str, Any], link: object) -> Iterator[dict[str, Any]]:
    """Yield the nodes that lead to a link, the nearest first, each once."""
    waiting: list[object] = [link]
    seen: set[str] = set()
    while waiting:
        one = waiting.pop(0)
        key = str(one[0]) if isinstance(one, list) and one else ""
        if key in seen or key not in graph:
            continue
        seen.add(key)
        yield graph[key]
        waiting += [value for value in graph[key]["inputs"].values() if isinstance(value, list)]


def _text(graph: Mapping[str, Any], link: object) -> str:
    """The first text that leads to a link."""
    if isinstance(link, str):
        return link
    for node in _before(graph, link):
        for name in ("text", "text_g", "string", "value", "prompt"):
            if isinstance(node["inputs"].get(name), str):
                return str(node["inputs"][name])
    return ""


def _number(graph: Mapping[str, Any], value: object) -> object:
    """A number, or the one in the node that a link names."""
    if not isinstance(value, list):
        return value
    inputs: Mapping[str, Any] = next((node["inputs"] for node in _before(graph, value)), {})
    return next((one for one in inputs.values() if isinstance(one, int | float)), None)
