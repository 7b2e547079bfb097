"""Apps in trouble, for `bench faults`: each a process of its own on a scratch folder, and a check that it bears what befalls it."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from controlnext.assets import EXAMPLES, IMPORT_ROOT, ROOT
from controlnext.bench.command import BenchError
from controlnext.bench.trust import files
from controlnext.bench.trust.client import Answer
from controlnext.bench.trust.malformed import LONGEST, PATH
from controlnext.bench.trust.running import RunningApp
from controlnext.scratch import PREFIX
from controlnext.training.runs.run_folder import RunFolder

TERMINATED = 143
"""Exit status of an app that a SIGTERM has ended in good order."""


def need(condition: bool, said: str) -> None:
    """Raise `BenchError` with `said` unless the condition holds."""
    if not condition:
        raise BenchError(said)


def sentence(said: str | None) -> str:
    """Check that something is one short sentence without a path, and return it."""
    need(bool(said), "no sentence")
    need(len(said) <= LONGEST, f"{len(said)} characters: {said}")
    need(PATH.search(said) is None and "console says why" not in said, f"not fit to be shown: {said}")
    return said


def _port_taken(folder: Path) -> str:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        app = RunningApp(folder, port=holder.getsockname()[1])
        status = app.process.wait(120)
    need(status == 1, f"exit status {status}")
    return sentence(app.last_words())


def _name_taken(folder: Path) -> str:
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    (folder / "tmp").mkdir()
    (folder / "tmp" / f"controlnext-{os.getuid()}").symlink_to(elsewhere)
    with RunningApp(folder) as app:
        _works(app)
    need(not list(elsewhere.iterdir()), "it wrote into the other's folder")
    return "it took another name and works"


def _killed_app(folder: Path) -> str:
    app = RunningApp(folder).wait_for_page()
    _works(app)
    app.kill()
    left = app.kept()[0]
    with RunningApp(folder) as after:
        _works(after)
        app_folders = list(after.temporary.glob("controlnext-*/app-*"))
        need(len(app_folders) == 1, f"{len(app_folders)} folders are there")
    need(not list(after.temporary.glob("controlnext-*/app-*")), "its own folder stays after a good end")
    return f"{left} files of the killed app were removed by the next start"


def _damaged_loras(folder: Path) -> str:
    library = folder / "styles"
    library.mkdir()
    for name, data in files.bad_loras().items():
        (library / name).write_bytes(data)
    with RunningApp(folder, ["--loras", str(library)]) as app:
        _works(app)
        rows = app.client.call("loras", ["starter", ""]).values[0]
        reasons = {row["name"]: row["reason"] for row in rows if not row["usable"]}
        named = [
            name for name in reasons if name in {Path(bad).stem for bad in files.bad_loras()} or name.endswith(".ckpt")
        ]
        need(len(named) == len(files.bad_loras()), f"{len(named)} of {len(files.bad_loras())} are named")
        for reason in reasons.values():
            sentence(reason)
    return f"it starts, and gives the reason of each of {len(named)}"


def _folder_removed(folder: Path) -> str:
    with RunningApp(folder) as app:
        _works(app)
        shutil.rmtree(app.outputs)
        _works(app)
        need(len(list(app.outputs.glob("*.png"))) == 1, "the next picture was not saved")
    return "it is made again"


def _folder_is_file(folder: Path) -> str:
    with RunningApp(folder) as app:
        _works(app)
        before = sorted(path.name for path in app.outputs.glob("*.png"))
        app.outputs.rename(folder / "moved")
        app.outputs.write_text("")
        said = sentence(_draw(app).sentence)
        app.outputs.unlink()
        (folder / "moved").rename(app.outputs)
        _works(app)
        need(set(before) <= {path.name for path in app.outputs.glob("*.png")}, "a picture is gone")
    return said


def _no_room(folder: Path) -> str:
    with RunningApp(folder, limits={resource.RLIMIT_FSIZE: 4_000_000}) as app:
        answer = app.client.http.post(
            f"{app.client.url}/gradio_api/upload", files={"files": ("a.png", bytes(9_000_000))}
        )
        said = sentence(answer.text)
        need(answer.status_code >= 500, f"status {answer.status_code}")
        _works(app)
    return said


def _no_ffmpeg(folder: Path) -> str:
    with RunningApp(folder, environment={"IMAGEIO_FFMPEG_EXE": str(folder / "none"), "PATH": ""}) as app:
        said = sentence(_read_clip(app).sentence)
        need("ffmpeg" in said, f"not about ffmpeg: {said}")
        _works(app)
    return said


def _copied(folder: Path) -> tuple[Path, Path]:
    """Copy the packages and their data; return the copy's import root and the folder of its `assets` and `presets`."""
    package = folder / "package"
    for name in ("controlnext", "annotators", *(("presets", "assets") if ROOT == IMPORT_ROOT else ())):
        shutil.copytree(IMPORT_ROOT / name, package / name, ignore=shutil.ignore_patterns("__pycache__"))
    return package, package / ROOT.relative_to(IMPORT_ROOT)


def _damaged_weights(folder: Path, *, missing: bool) -> str:
    package, data = _copied(folder)
    unet = next((data / "assets" / "starter" / "base" / "unet").glob("*.safetensors"))
    whole = unet.read_bytes()
    if missing:
        unet.unlink()
    else:
        unet.write_bytes(whole[: len(whole) // 2])
    with RunningApp(folder, package=package) as app:
        said = sentence(_draw(app).sentence)
        unet.write_bytes(whole)
        _works(app)
    return f"{said} With the file back the next request works."


def _damaged_preset(folder: Path) -> str:
    package, data = _copied(folder)
    (data / "presets" / "broken.yaml").write_text("name: [", encoding="utf-8")
    with RunningApp(folder, package=package) as app:
        _works(app)
        rows = app.client.call("models", []).values[0]
        broken = [row["reason"] for row in rows if row["name"] == "broken"]
        need(len(broken) == 1, "the list of models does not name it")
        return sentence(broken[0])


def _no_room_for_results(folder: Path) -> str:
    with RunningApp(folder) as app:
        _works(app)
        image, before = app.client.upload("picture.png", files.picture()), sorted(app.outputs.iterdir())
        most = resource.prlimit(app.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(app.process.pid, resource.RLIMIT_FSIZE, (24_000, most[1]))
        said = sentence(_draw(app, image=image).sentence)
        need(sorted(app.outputs.iterdir()) == before, "something is left behind, or gone")
        resource.prlimit(app.process.pid, resource.RLIMIT_FSIZE, most)
        _works(app)
    return said


def _read_only(folder: Path) -> str:
    """Writes to `/proc` fail even for root, whom permissions do not stop."""
    app = RunningApp(folder, outputs=Path("/proc/controlnext"))
    try:
        app.wait_for_page()
    except BenchError:
        return f"it does not start: {sentence(app.last_words())}"
    try:
        return sentence(_draw(app).sentence)
    finally:
        app.end()


def _little_memory(folder: Path) -> str:
    app = RunningApp(folder, limits={resource.RLIMIT_AS: 3 * 2**30})
    try:
        app.wait_for_page()
    except BenchError:
        return f"it does not start: {sentence(app.last_words())}"
    try:
        said = _draw(app).sentence
        return sentence(said) if said else "it draws"
    finally:
        app.end()


def _terminated(folder: Path, work: str) -> str:
    app = RunningApp(folder).wait_for_page()
    _works(app)
    if work == "train":
        _begin_training(app)
    elif work:
        threading.Thread(target=_quietly, args=(app, work), daemon=True).start()
    time.sleep(3)
    begun = time.perf_counter()
    status = app.end()
    seconds = time.perf_counter() - begun
    need(status == TERMINATED, f"exit status {status}: {app.last_words()}")
    left = [path.name for path in app.outputs.rglob("*") if path.name.startswith(PREFIX)]
    need(not list(app.temporary.glob("controlnext-*/app-*")), "its temporary folder stays")
    need(len(list(app.outputs.glob("*.png"))) >= 1, "a picture is gone")
    if work == "train":
        need(bool(list(app.outputs.glob("training/*/checkpoints/step-*"))), "the training saved no checkpoint")
    return f"status {status} after {seconds:.1f} s; {len(left)} half-written files for the next start to sweep"


def _two_apps(folder: Path) -> str:
    with RunningApp(folder) as one, RunningApp(folder) as two:
        answers = []
        threads = [threading.Thread(target=lambda app=app: answers.append(_draw(app, 3))) for app in (one, two)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        refused = [answer.sentence for answer in answers if not answer.worked]
        need(not refused and len(answers) == 2, f"one was refused: {refused}")
        count = len(list(one.outputs.glob("*.png")))
        need(count == 6, f"{count} pictures of 6")
    return "6 pictures of 6, each under a name of its own"


def _draw(app: RunningApp, count: int = 1, steps: int = 2, image: dict[str, Any] | None = None) -> Answer:
    values = {"annotator": "canny", "prompt": "a person", "seed": 1, "num_inference_steps": steps, "num_images": count}
    values["image"] = image or app.client.upload("picture.png", files.picture())
    return app.client.call(
        "generate", [values.get(name, default) for name, default in app.client.parameters()["generate"]]
    )


def _read_clip(app: RunningApp) -> Answer:
    values = {"video": app.client.upload("clip.mp4", _clip().read_bytes())}
    return app.client.call("poses", [values.get(name, default) for name, default in app.client.parameters()["poses"]])


def _works(app: RunningApp) -> None:
    answer = _draw(app)
    need(answer.worked, f"the next request does not work: {answer.sentence}")


def _quietly(app: RunningApp, work: str) -> None:
    with contextlib.suppress(httpx.HTTPError, ValueError, KeyError):
        if work == "generate":
            _draw(app, 16, 150)
        elif work == "poses":
            _read_clip(app)
        else:
            figure = next(iter(sorted((EXAMPLES / "video").rglob("*.png"))))
            values = {"reference": app.client.upload("figure.png", figure.read_bytes()), "video": app.client.upload("clip.mp4", _clip().read_bytes())}  # fmt: skip
            app.client.call(
                "animate", [values.get(name, default) for name, default in app.client.parameters()["animate"]]
            )


def _begin_training(app: RunningApp) -> None:
    """Start a training of the page and wait until it has taken a step."""
    begin = next(event for event in app.client.events() if event.trigger == "cnx-train-begin")
    wanted = {
        "cnx-train-files": [app.client.upload(f"{number}.png", files.picture()) for number in range(4)],
        "cnx-train-caption": "a person",
        "cnx-train-minutes": 5,
    }
    refused = app.client.begin(
        begin, [wanted.get(i, v) for i, v in zip(begin.ids, begin.values, strict=True)], "faults"
    )
    need(refused is None, "the training was refused")
    until = time.monotonic() + 120
    while time.monotonic() < until:
        runs = [RunFolder(path.parent).status() for path in app.outputs.glob("training/*/status.json")]
        if any(run.get("step", 0) > 0 for run in runs):
            return
        time.sleep(0.5)
    raise BenchError(f"the training took no step: {runs}")


def _clip() -> Path:
    clip = next(iter(sorted(EXAMPLES.rglob("*.mp4"))), None)
    if clip is None:
        raise BenchError("There is no example clip in assets/examples.")
    return clip


FAULTS_OF_APPS: dict[str, Callable[[Path], str]] = {
    "port taken": _port_taken,
    "temporary folder's name taken by another": _name_taken,
    "temporary files of a killed app": _killed_app,
    "bundled weights damaged": lambda folder: _damaged_weights(folder, missing=False),
    "bundled weights missing": lambda folder: _damaged_weights(folder, missing=True),
    "damaged preset in the folder": _damaged_preset,
    "damaged LoRAs in the folder": _damaged_loras,
    "output folder read-only": _read_only,
    "output folder removed while running": _folder_removed,
    "output folder replaced by a file": _folder_is_file,
    "no room for an upload": _no_room,
    "no room for a result": _no_room_for_results,
    "ffmpeg missing": _no_ffmpeg,
    "3 GB of address space": _little_memory,
    "SIGTERM while idle": lambda folder: _terminated(folder, ""),
    "SIGTERM while a picture is drawn": lambda folder: _terminated(folder, "generate"),
    "SIGTERM while a video is made": lambda folder: _terminated(folder, "animate"),
    "SIGTERM while a clip is read": lambda folder: _terminated(folder, "poses"),
    "SIGTERM while a training runs": lambda folder: _terminated(folder, "train"),
    "two apps on one output folder": _two_apps,
}
"""What befalls apps; each check raises `BenchError` where it is not borne, and returns what was seen."""
