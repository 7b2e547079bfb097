"""The video rows of ControlBench: PCK of each frame, error of limb proportions, and flicker of the still background."""

from __future__ import annotations

import tempfile
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from controlnext.bench.command import BenchError, publish
from controlnext.bench.quality.best_of import interval
from controlnext.bench.quality.control_metrics import clip_figures
from controlnext.bench.quality.control_reading import reader_of
from controlnext.bench.quality.control_report import ShownPicture, write_report
from controlnext.bench.tables import markdown
from controlnext.recipes.pictures import fit_condition

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CLIPS = (".mp4", ".webm", ".mov", ".gif", ".mkv")
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
FRAMES = 24
METRICS = ("PCK@0.1", "limb-ratio error", "flicker")
_FALLS = METRICS[1:]


def clips_of(folder: Path) -> list[tuple[Path, Path | None]]:
    """Return each clip of a folder with the reference picture of the same name, or None.

    Raises:
        BenchError: there is none.
    """
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in CLIPS)
    if not found:
        raise BenchError(f"There are no clips in {folder.name} ({', '.join(CLIPS)}): put some there.")
    pictures = {path.stem: path for path in sorted(folder.glob("*")) if path.suffix.lower() in PICTURES}
    return [(path, pictures.get(path.stem)) for path in found]


def read_clip(path: Path, backend: str) -> tuple[np.ndarray, list[list[np.ndarray]]]:
    """Return a clip's frames (F, H, W, 3) uint8, and the people read in each."""
    from controlnext.video.clip import open_clip
    from controlnext.video.frames import read_frames

    frames = np.stack([np.asarray(frame) for frame in read_frames(open_clip(path))])
    read = reader_of(backend)
    people = [
        [np.asarray(one, np.float64).reshape(-1, 3)[:18] for one in (read("pose", Image.fromarray(frame)).data or {}).get("people", [])]
        for frame in frames
    ]  # fmt: skip
    return frames, people


def judge_clips(
    asked: Sequence[list[np.ndarray]], found: Sequence[list[np.ndarray]], frames: np.ndarray
) -> dict[str, float]:
    """Return the figures of the frames in which one person was asked for; see `clip_figures`."""
    keep = [index for index, people in enumerate(asked[: len(frames)]) if people]
    return clip_figures([asked[index][0] for index in keep], [found[index] for index in keep], frames[keep])


def run_clips(options: Namespace) -> int:
    """Animate every clip, measure and report; return 0."""
    import annotators
    from controlnext.studio.studio import Studio

    clips = clips_of(options.data)[: options.limit]
    values = {} if options.own else {"num_inference_steps": options.steps}
    scores: dict[str, list[dict[str, float]]] = {"controlled": [], "floor": [], "ceiling": []}
    shown: list[ShownPicture] = []
    with tempfile.TemporaryDirectory() as folder:
        studio = Studio(output_dir=Path(folder), annotators=annotators)
        backend = studio.catalogue.preset(options.model).adherence_backend
        for clip, picture in clips:
            own, people = read_clip(clip, backend)
            reference = Image.fromarray(own[0]) if picture is None else annotators.load_picture(picture)
            for name, gamma in (("controlled", None), ("floor", 0.0)):
                recipe = studio.animator.resolve(
                    options.model, reference, seed=0, max_frames=FRAMES, fit=False, follow=False, gamma=gamma,
                    prompt=options.caption or None, **values,
                )  # fmt: skip
                driving = studio.animator.read(recipe, reference, str(clip))
                result = studio.animate(recipe, reference, str(clip), driving=driving)
                frames, found = read_clip(Path(result.file), backend)
                asked = [[np.asarray(points)[:18]] for points in driving.track.points]
                scores[name].append(judge_clips(asked, found, frames))
                if name == "controlled":
                    shown.append(_shown(clip.stem, own, frames, scores[name][-1]))
            scores["ceiling"].append(judge_clips(people, people, own))
    shown.sort(key=lambda one: one.score)
    rows = [["kind", "metric", "controlled", "floor, without control", "clips themselves"]]
    rows += [
        ["video", name + (", less is better" if name in _FALLS else ""), *(_bar(of, name) for of in scores.values())]
        for name in METRICS
    ]
    facts = f"{len(clips)} clips of {options.data.name}, at most {FRAMES} frames each."
    write_report(options.out / "report.html", f"ControlBench: {options.model}, video", facts, rows, shown)
    return publish(options, {"model": options.model, "clips": scores}, markdown(rows[0], rows[1:], notes=[facts]))


def _shown(name: str, clip: np.ndarray, frames: np.ndarray, figures: Mapping[str, float]) -> ShownPicture:
    size = (frames.shape[2], frames.shape[1])
    pairs = [
        (f"{label} {place}", fit_condition(Image.fromarray(source[min(place, len(source) - 1)]), *size, "depth"))
        for label, source in (("clip", clip), ("made", frames))
        for place in np.linspace(0, len(frames) - 1, 4).round().astype(int)
    ]
    return ShownPicture("video", name, figures["PCK@0.1"], pairs)


def _bar(clips: Sequence[Mapping[str, float]], name: str) -> str:
    values = np.array([one[name] for one in clips if np.isfinite(one[name])])
    if not len(values):
        return "–"
    low, high = interval(values)
    return f"{values.mean():.3f} ({low:.3f} to {high:.3f})"
