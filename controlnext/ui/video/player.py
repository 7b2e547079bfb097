"""Clips that browsers cannot play, such as GIFs and folders of pictures, as H.264 for the player."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from controlnext.progress import data_size
from controlnext.ui.shared import served
from controlnext.video.clip import PICTURE_SUFFIXES, by_folder
from controlnext.video.extract import Recent
from controlnext.video.ffmpeg import VideoError
from controlnext.video.frames import Frames
from controlnext.video.plan import BOUNDS, Cut, plan_cut
from controlnext.video.writer import write_video

if TYPE_CHECKING:
    import gradio as gr
    import numpy as np

    from controlnext.animation.clip_reader import ClipReader

NOT_PLAYED = (
    *(
        ".gif",
        ".webp",
        ".apng",
        ".avi",
        ".ts",
        ".mts",
        ".m2ts",
        ".mpg",
        ".mpeg",
        ".vob",
        ".mxf",
        ".nut",
        ".flv",
        ".wmv",
        ".asf",
        ".dv",
    ),
    *(".h264", ".hevc", ".ivf", ".y4m"),
)
"""Endings of clips that `open_clip` reads and `<video>` does not play."""

PACKED = ".zip"
"""Ending of a file that pictures are packed in, which `clip_of_files` unpacks."""

UNPACKED_BYTES = 2_000_000_000
"""Most that the pictures of a ZIP file may take on the disk."""

SHOWN_SIDE = 640
KEPT = 64

# Gradio's video element refuses whatever is not of the type `video/*`, and says of a file that its player does not play that
# it is not playable. So such files, chosen or dropped there, go to an upload of their own; the player is given an H.264 of
# them. Where a later Gradio is built otherwise they are refused as ever, and nothing else fails.
HAND_OVER = """
if (!window.cnxHandsOver) {
  window.cnxHandsOver = true;
  const endings = %(endings)s;
  const inside = (target) => target instanceof Element ? target.closest("#%(player)s") : null;
  const strange = (file) => file.type.startsWith("image/") || endings.some((one) => file.name.toLowerCase().endsWith(one));
  const hand = (event, files) => {
    const upload = document.querySelector("#%(upload)s input[type=file]");
    if (!upload || !inside(event.target) || ![...(files || [])].some(strange)) return;
    event.preventDefault();
    event.stopPropagation();
    const list = new DataTransfer();
    for (const file of files) list.items.add(file);
    upload.files = list.files;
    upload.dispatchEvent(new Event("change", { bubbles: true }));
  };
  document.addEventListener("change", (event) => { if (event.target.type === "file") hand(event, event.target.files); }, true);
  document.addEventListener("drop", (event) => hand(event, event.dataTransfer?.files), true);
  document.addEventListener("click", (event) => {
    const input = inside(event.target)?.querySelector("input[type=file]");
    if (!input || input.accept.includes("image/")) return;
    input.accept += ", image/*, " + endings.join(", ");
    input.multiple = true;
  }, true);
}
"""


def hand_over(player: str, upload: str) -> str:
    """Return JavaScript that hands files which a player does not play to an upload next to it.

    Args:
        player: `elem_id` of a `gr.Video`.
        upload: `elem_id` of a `gr.File`, which need not be seen.
    """
    return HAND_OVER % {"endings": [*NOT_PLAYED, PACKED], "player": player, "upload": upload}


class Players:
    """What a player shows in place of clips that it does not play, and which clips those are."""

    def __init__(self, clip_reader: ClipReader, player: gr.Video) -> None:
        """Remember the parts.

        Args:
            clip_reader: Opens clips.
            player: Shows them.
        """
        self._clip_reader = clip_reader
        self._player = player
        self._clips = Recent(KEPT)  # shown file -> clip

    def clip_of(self, path: str) -> str:
        """Return the clip that the player shows by the file at `path`; that file itself for all that are played as they are."""
        return self._clips.get(path) or path

    def stand_in(self, frames: Iterable[np.ndarray], fps: float, path: str) -> str:
        """Return what the player shows for a clip without pictures of its own.

        Args:
            frames: RGB (H, W, 3) uint8, what is shown.
            fps: frames a second.
            path: the clip, such as poses as JSON.
        """
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"{Path(path).stem}.mp4"
            write_video(file, frames, fps)
            shown = served(file, self._player)
        self._clips.keep(shown, path)
        return shown

    def show(self, path: str) -> str:
        """Return what the player shows for the clip at `path`, a file or a folder of pictures: its frames as H.264, made smaller.

        As bounded as any reading; a file that players do play is returned as it is.

        Raises:
            VideoError: the clip cannot be read, or the disk is full.
        """
        if Path(path).suffix.lower() not in (*NOT_PLAYED, *PICTURE_SUFFIXES) and not Path(path).is_dir():
            return path
        clip = self._clip_reader.open(path)
        plan = plan_cut(clip, Cut(max_side=min(SHOWN_SIDE, max(clip.width, clip.height))))
        with Frames(clip, plan) as frames:
            return self.stand_in(frames, plan.fps, path)


def clip_of_files(files: Sequence[str]) -> str:
    """Return the clip that some uploaded files are: the first that is one, or a folder of all pictures in or among them.

    Where names come twice, pictures of one folder follow those of the other, each in natural order.

    Raises:
        VideoError: there is nothing in them, more than is read of any clip, or no room for it.
    """
    try:
        return _put_together(files)
    except OSError as error:
        raise VideoError(
            f"The pictures cannot be put together ({error.strerror or error}): make room on the disk of {tempfile.gettempdir()}, "
            "then drop them again."
        ) from error


def _put_together(files: Sequence[str]) -> str:
    first = next((file for file in files if Path(file).suffix.lower() not in PICTURE_SUFFIXES), None)
    if first is not None or len(files) == 1:
        path = Path(first or files[0])
        return _unpacked(path) if path.suffix.lower() == PACKED else str(path)
    folder, groups = _folder("pictures"), _by_folder(files)
    for number, group in enumerate(groups):
        before = f"{number}-" if len(groups) > 1 else ""
        for file in group.values():
            shutil.copy(file, folder / f"{before}{Path(file).name}")
    return str(folder)


def _by_folder(files: Sequence[str]) -> list[dict[str, str]]:
    """Tell pictures of several folders apart, as uploads no longer say where they lay: a name that comes again begins another.

    Returns:
        Name without case -> file, of one folder after the other, in the order given.
    """
    groups: list[dict[str, str]] = [{}]
    for file in files:
        name = Path(file).name.casefold()
        if name in groups[-1]:
            groups.append({})
        groups[-1][name] = file
    return groups


def _unpacked(packed: Path) -> str:
    """Put the pictures of a ZIP file into a folder, one of its folders after the other; nothing else in it, and no path, is taken."""
    try:
        with zipfile.ZipFile(packed) as archive:
            pictures = [entry for entry in archive.infolist() if _is_picture(entry.filename)]
            size = sum(entry.file_size for entry in pictures)
            if len(pictures) > BOUNDS.frames or size > UNPACKED_BYTES:
                raise VideoError(
                    f"“{packed.name}” holds {len(pictures)} pictures of {data_size(size)} together, and {BOUNDS.frames} of "
                    f"{data_size(UNPACKED_BYTES)} are taken: leave some out, or make them smaller."
                )
            folder = _folder(packed.stem)
            for number, entry in enumerate(
                sorted(pictures, key=lambda entry: by_folder(PurePosixPath(entry.filename)))
            ):
                with (
                    archive.open(entry) as source,
                    (folder / f"{number:05}{_ending(entry.filename)}").open("xb") as target,
                ):
                    shutil.copyfileobj(source, target)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise VideoError(
            f"“{packed.name}” cannot be unpacked: pack its pictures again, without a password."
        ) from error
    return str(folder)


def _is_picture(name: str) -> bool:
    hidden = any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)
    return _ending(name) in PICTURE_SUFFIXES and not hidden


def _ending(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


@cache
def _room() -> tempfile.TemporaryDirectory[str]:
    """Where pictures lie that were put together; gone when the app ends."""
    return tempfile.TemporaryDirectory(prefix="clips-")


def _folder(name: str) -> Path:
    """Make a folder of this name, which sentences call the clip by, in a place of its own."""
    folder = Path(tempfile.mkdtemp(dir=_room().name)) / name
    folder.mkdir()
    return folder
