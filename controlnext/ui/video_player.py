"""Clips that no browser's player takes: the page takes them all the same, and its player shows them as H.264."""

from __future__ import annotations

import tempfile
from pathlib import Path

import gradio as gr

from controlnext.ui.shared import served
from controlnext.video.clip import Clip
from controlnext.video.extract import Recent
from controlnext.video.frames import Frames
from controlnext.video.plan import Cut, plan_cut
from controlnext.video.writer import write_video

PICTURES_THAT_MOVE = (".gif", ".webp", ".apng")
NOT_PLAYED = (*PICTURES_THAT_MOVE, ".avi")
"""Endings of clips that `open_clip` reads and `<video>` does not play."""

SHOWN_SIDE = 640
KEPT = 64

# Gradio's video element takes files of the type `video/*` alone, by its own test and in the dialog: moving pictures are
# given that type on their way in. Where a later Gradio is built otherwise they are refused as before, and nothing else fails.
TAKE_MOVING_PICTURES = """
if (!window.cnxTakesMovingPictures) {
  window.cnxTakesMovingPictures = true;
  const endings = %(endings)s;
  const inside = (target) => target instanceof Element ? target.closest("#%(id)s") : null;
  const ending = (file) => endings.find((one) => file.name.toLowerCase().endsWith(one));
  const foreign = (files) => [...(files || [])].some((file) => ending(file) && !file.type.startsWith("video/"));
  const typed = (files) => {
    const list = new DataTransfer();
    for (const file of files) {
      const one = ending(file);
      list.items.add(one ? new File([file], file.name, { type: "video/" + one.slice(1) }) : file);
    }
    return list;
  };
  document.addEventListener("click", (event) => {
    const input = inside(event.target)?.querySelector("input[type=file]");
    if (input && !input.accept.includes(endings[0])) input.accept += ", " + endings.join(", ");
  }, true);
  document.addEventListener("change", (event) => {
    const input = event.target;
    if (inside(input) && input.type === "file" && foreign(input.files)) input.files = typed(input.files).files;
  }, true);
  document.addEventListener("drop", (event) => {
    if (!inside(event.target) || !foreign(event.dataTransfer?.files)) return;
    event.preventDefault();
    event.stopPropagation();
    const dataTransfer = typed(event.dataTransfer.files);
    event.target.dispatchEvent(new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer }));
  }, true);
}
"""


def take_moving_pictures(element: str) -> str:
    """Return JavaScript that makes the `gr.Video` with this `elem_id` take moving pictures, chosen or dropped."""
    return TAKE_MOVING_PICTURES % {"endings": list(PICTURES_THAT_MOVE), "id": element}


class Players:
    """What players show in place of clips they do not play, and which clips those are."""

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._clips = Recent(KEPT)  # shown file -> clip

    def clip_of(self, path: str) -> str:
        """Return the clip that a player shows by the file at `path`; that file itself for all that are played as they are."""
        return self._clips.get(path) or path

    def needs(self, path: str) -> bool:
        """Say whether a clip has to be shown by another file."""
        return Path(path).suffix.lower() in NOT_PLAYED

    def shown(self, clip: Clip, component: gr.Video) -> str:
        """Write what a player shows for a clip: its frames as H.264, made smaller; as bounded as any reading.

        Raises:
            VideoError: no frame can be decoded, or the disk is full.
        """
        plan = plan_cut(clip, Cut(max_side=min(SHOWN_SIDE, max(clip.width, clip.height))))
        with tempfile.TemporaryDirectory() as folder, Frames(clip, plan) as frames:
            file = Path(folder) / f"{clip.path.stem}.mp4"
            write_video(file, frames, plan.fps)
            path = served(file, component)
        self._clips.keep(path, str(clip.path))
        return path
