"""`python -m controlnext bench faults`: broken machines, on scratch folders: each a sentence, nothing lost, and the app goes on.

Kills at random moments while pictures, videos, LoRAs and checkpoints are saved; then apps of its own whose port is taken, whose
folders vanish, fill up or hold damaged files, that lack ffmpeg or memory, that are ended in the middle of work, or share a folder.
"""

from __future__ import annotations

import contextlib
import random
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from controlnext.assets import EXAMPLES, IMPORT_ROOT
from controlnext.bench.command import BenchError, bench_parser, publish, whole
from controlnext.bench.tables import markdown
from controlnext.bench.trust import files
from controlnext.bench.trust.malformed import LONGEST, PATH
from controlnext.bench.trust.running import RunningApp
from controlnext.bench.trust.savers import KINDS
from controlnext.scratch import PREFIX, sweep_unfinished

TERMINATED = 143
"""Exit status of an app that a SIGTERM has ended in good order."""


@dataclass(frozen=True)
class FaultRow:
    """One fault: what it was, whether it was borne, and what was seen."""

    fault: str
    passed: bool
    seen: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Break things and print; return 0 if everything was borne."""
    parser = bench_parser("faults", __doc__)
    parser.add_argument("--kills", type=whole(4), default=50, help="kills in total, shared between the kinds")
    parser.add_argument("--only", default="", help="only faults whose name holds this text")
    options = parser.parse_args(arguments)
    rows: list[FaultRow] = []
    for name, check in faults(options.kills).items():
        if options.only not in name:
            continue
        with tempfile.TemporaryDirectory(prefix="controlnext-faults-") as folder:
            try:
                rows.append(FaultRow(name, True, check(Path(folder))))
            except (BenchError, httpx.HTTPError, OSError) as error:
                rows.append(FaultRow(name, False, " ".join(str(error).split())[:200]))
    text = markdown(
        ["fault", "borne", "seen"],
        [(row.fault, "yes" if row.passed else "NO", row.seen.replace("|", "/")) for row in rows],
    )
    return publish(options, [asdict(row) for row in rows], text, passed=bool(rows) and all(row.passed for row in rows))


def faults(kills: int) -> dict[str, Callable[[Path], str]]:
    """Return what is tried, by name; each raises `BenchError` where it is not borne, and returns what was seen."""
    share = max(1, kills // len(KINDS))
    tried: dict[str, Callable[[Path], str]] = {
        f"{share} kills while {kind} are saved": lambda folder, kind=kind: _kills(folder, kind, share)
        for kind in KINDS
    }
    return tried | {
        "port taken": _port_taken,
        "temporary folder's name taken by another": _name_taken,
        "temporary files of a killed app": _killed_app,
        "damaged LoRAs in the folder": _damaged_loras,
        "output folder removed while running": _folder_removed,
        "output folder replaced by a file": _folder_is_file,
        "no room for an upload": _no_room,
        "ffmpeg missing": _no_ffmpeg,
        "3 GB of address space": _little_memory,
        "SIGTERM while idle": lambda folder: _terminated(folder, ""),
        "SIGTERM while a picture is drawn": lambda folder: _terminated(folder, "generate"),
        "SIGTERM while a video is made": lambda folder: _terminated(folder, "animate"),
        "two apps on one output folder": _two_apps,
    }


def _need(condition: bool, said: str) -> None:
    if not condition:
        raise BenchError(said)


def _sentence(said: str | None) -> str:
    """Check that something is one short sentence without a path, and return it."""
    _need(bool(said), "no sentence")
    _need(len(said) <= LONGEST, f"{len(said)} characters: {said}")
    _need(PATH.search(said) is None and "console says why" not in said, f"not fit to be shown: {said}")
    return said


# Kills


def _kills(folder: Path, kind: str, count: int) -> str:
    place, draw = folder / "results", random.Random(0)
    place.mkdir()
    for _ in range(count):
        saver = subprocess.Popen(
            [sys.executable, "-m", "controlnext.bench.trust.savers", kind, str(place)],
            cwd=IMPORT_ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        begun = saver.stdout.readline()
        if begun.strip() != "ready":
            raise BenchError(f"The saver did not begin: {saver.stderr.read()[-200:]}")
        time.sleep(draw.uniform(0.02, 0.6))
        saver.kill()
        saver.wait()
    left = len([path for path in place.rglob("*") if path.name.startswith(PREFIX) or path.name.endswith(".partial")])
    whole_ones = _CHECKS[kind](place)
    return f"{whole_ones} whole, 0 damaged; {left} half-written ones swept"


def _pictures_whole(place: Path) -> int:
    from PIL import Image

    from controlnext.recipes.png import read_png

    found = sorted(path for path in place.glob("*.png") if not path.name.startswith("."))
    for path in found:
        with Image.open(path) as image:
            image.load()
        _need(read_png(path) is not None, f"{path.name} has no recipe")
    return _swept(place, len(found))


def _videos_whole(place: Path) -> int:
    from controlnext.recipes.mp4 import read_contents
    from controlnext.video import open_clip

    found = sorted(path for path in place.glob("*.mp4") if not path.name.startswith("."))
    for path in found:
        _need(open_clip(path).seconds > 0 and "controlnext" in read_contents(path), f"{path.name} is damaged")
    return _swept(place, len(found))


def _loras_whole(place: Path) -> int:
    from controlnext.loras.file import BaseShape
    from controlnext.loras.library import LoraLibrary

    rows = LoraLibrary([place]).rows(BaseShape(), "the model")
    _need(all(row["usable"] for row in rows), "; ".join(row["reason"] for row in rows if row["reason"]))
    return _swept(place, len(rows))


def _checkpoints_whole(place: Path) -> int:
    import torch

    from controlnext.training.checkpoints import Checkpoint, latest, save, steps

    newest = latest(place)
    if newest is not None:
        _need(newest.step == steps(place)[-1], f"the newest checkpoint, of step {steps(place)[-1]}, is damaged")
        count = len(steps(place))
        save(place, Checkpoint(newest.step + 1, {"layer.weight": torch.zeros(2, 2)}, None, {}, {}), 3)
    else:
        count = 0
    _need(not list(place.glob("*.partial")), "an unfinished checkpoint was not removed by the next one")
    return count


def _swept(place: Path, count: int) -> int:
    sweep_unfinished(place)
    left = [path.name for path in place.iterdir() if path.name.startswith(PREFIX)]
    _need(not left, f"not swept: {', '.join(left[:3])}")
    return count


_CHECKS: dict[str, Callable[[Path], int]] = {
    "pictures": _pictures_whole, "videos": _videos_whole, "LoRAs": _loras_whole, "checkpoints": _checkpoints_whole,
}  # fmt: skip


# Apps


def _port_taken(folder: Path) -> str:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        app = RunningApp(folder, port=holder.getsockname()[1])
        status = app.process.wait(120)
    _need(status == 1, f"exit status {status}")
    return _sentence(app.last_words())


def _name_taken(folder: Path) -> str:
    import os

    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    (folder / "tmp").mkdir()
    (folder / "tmp" / f"controlnext-{os.getuid()}").symlink_to(elsewhere)
    with RunningApp(folder) as app:
        _works(app)
    _need(not list(elsewhere.iterdir()), "it wrote into the other's folder")
    return "it took another name and works"


def _killed_app(folder: Path) -> str:
    app = RunningApp(folder).wait_for_page()
    _works(app)
    app.kill()
    left = app.kept()[0]
    with RunningApp(folder) as after:
        _works(after)
        app_folders = list(after.temporary.glob("controlnext-*/app-*"))
        _need(len(app_folders) == 1, f"{len(app_folders)} folders are there")
    _need(not list(after.temporary.glob("controlnext-*/app-*")), "its own folder stays after a good end")
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
        _need(len(named) == len(files.bad_loras()), f"{len(named)} of {len(files.bad_loras())} are named")
        for reason in reasons.values():
            _sentence(reason)
    return f"it starts, and gives the reason of each of {len(named)}"


def _folder_removed(folder: Path) -> str:
    with RunningApp(folder) as app:
        _works(app)
        shutil.rmtree(app.outputs)
        _works(app)
        _need(len(list(app.outputs.glob("*.png"))) == 1, "the next picture was not saved")
    return "it is made again"


def _folder_is_file(folder: Path) -> str:
    with RunningApp(folder) as app:
        _works(app)
        before = sorted(path.name for path in app.outputs.glob("*.png"))
        app.outputs.rename(folder / "moved")
        app.outputs.write_text("")
        said = _sentence(_draw(app).sentence)
        app.outputs.unlink()
        (folder / "moved").rename(app.outputs)
        _works(app)
        _need(set(before) <= {path.name for path in app.outputs.glob("*.png")}, "a picture is gone")
    return said


def _no_room(folder: Path) -> str:
    with RunningApp(folder, limits={resource.RLIMIT_FSIZE: 4_000_000}) as app:
        answer = app.client.http.post(
            f"{app.client.url}/gradio_api/upload", files={"files": ("a.png", bytes(9_000_000))}
        )
        said = _sentence(answer.text)
        _need(answer.status_code >= 500, f"status {answer.status_code}")
        _works(app)
    return said


def _no_ffmpeg(folder: Path) -> str:
    with RunningApp(folder, environment={"IMAGEIO_FFMPEG_EXE": str(folder / "none"), "PATH": ""}) as app:
        clip = _clip()
        answer = app.client.call("poses", [app.client.upload("clip.mp4", clip.read_bytes()), 0.0, 0.0, 0, 0])
        said = _sentence(answer.sentence)
        _works(app)
    return said


def _little_memory(folder: Path) -> str:
    app = RunningApp(folder, limits={resource.RLIMIT_AS: 3 * 2**30})
    try:
        app.wait_for_page()
    except BenchError:
        return f"it does not start: {_sentence(app.last_words())}"
    try:
        said = _draw(app).sentence
        return _sentence(said) if said else "it draws"
    finally:
        app.end()


def _terminated(folder: Path, work: str) -> str:
    app = RunningApp(folder).wait_for_page()
    _works(app)
    if work:
        threading.Thread(target=_quietly, args=(app, work), daemon=True).start()
        time.sleep(3)
    begun = time.perf_counter()
    status = app.end()
    seconds = time.perf_counter() - begun
    _need(status == TERMINATED, f"exit status {status}: {app.last_words()}")
    left = [path.name for path in app.outputs.rglob("*") if path.name.startswith(PREFIX)]
    _need(not list(app.temporary.glob("controlnext-*/app-*")), "its temporary folder stays")
    _need(len(list(app.outputs.glob("*.png"))) >= 1, "a picture is gone")
    return (
        f"ended with status {status} after {seconds:.1f} s; {len(left)} half-written files for the next start to sweep"
    )


def _two_apps(folder: Path) -> str:
    with RunningApp(folder) as one, RunningApp(folder) as two:
        answers = []
        threads = [threading.Thread(target=lambda app=app: answers.append(_draw(app, 3))) for app in (one, two)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        _need(all(answer.worked for answer in answers) and len(answers) == 2, "one was refused")
        count = len(list(one.outputs.glob("*.png")))
        _need(count == 6, f"{count} pictures of 6")
    return "6 pictures of 6, each under a name of its own"


def _draw(app: RunningApp, count: int = 1, steps: int = 2):  # noqa: ANN202 - an `Answer`
    values = {"annotator": "canny", "prompt": "a person", "seed": 1, "num_inference_steps": steps, "num_images": count}
    values["image"] = app.client.upload("picture.png", files.picture())
    return app.client.call(
        "generate", [values.get(name, default) for name, default in app.client.parameters()["generate"]]
    )


def _works(app: RunningApp) -> None:
    answer = _draw(app)
    _need(answer.worked, f"the next request does not work: {answer.sentence}")


def _quietly(app: RunningApp, work: str) -> None:
    with contextlib.suppress(httpx.HTTPError, ValueError, KeyError):
        if work == "generate":
            _draw(app, 16, 150)
        else:
            figure = next(iter(sorted((EXAMPLES / "video").rglob("*.png"))))
            values = {"reference": app.client.upload("figure.png", figure.read_bytes()), "video": app.client.upload("clip.mp4", _clip().read_bytes())}  # fmt: skip
            app.client.call(
                "animate", [values.get(name, default) for name, default in app.client.parameters()["animate"]]
            )


def _clip() -> Path:
    clip = next(iter(sorted(EXAMPLES.rglob("*.mp4"))), None)
    if clip is None:
        raise BenchError("There is no example clip in assets/examples.")
    return clip
