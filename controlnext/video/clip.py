"""Properties of a clip, read before it is decoded: length, frame rate, upright size, sound."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from PIL import Image

from controlnext.video.colour import VideoColour, colour_of
from controlnext.video.ffmpeg import PICTURES_OUT, SOUGHT, FfmpegProcess, VideoError, read_picture, run, source
from controlnext.video.poses import Poses

PICTURES_FPS = 8.0
"""Frame rate of a folder of pictures, unless another is given."""

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
SQUARE = "scale=w='min(16384,max(1,round(iw*sar)))':h=ih,setsar=1"
"""Filter that makes pixels square; old camcorders' are not."""

POSES_SUFFIX = ".json"

_LARGEST_POSES = 1 << 30  # bytes; an hour of one person with hands and face takes a tenth
_NAMED = 3  # folders named in a sentence
_READABLE = "MP4, MOV, WebM or GIF"
_INPUT = re.compile(r"^Input #0, (.*), from ", re.MULTILINE)
_ANIMATED = 0x02  # bit of the flags in a WebP file's first chunk
_DURATION = re.compile(r"^  Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?)", re.MULTILINE)
_VIDEO = re.compile(r"^  Stream #0:\d+\S*: Video: (?!.*\(attached pic\))(.*)$", re.MULTILINE)
_SOUND = re.compile(r"^  Stream #0:\d+\S*: Audio: ", re.MULTILINE)
_FPS = re.compile(r"([\d.]+)(k?) fps")
_TURN = re.compile(r"rotation of (-?[\d.]+) degrees")
_PROGRESS = re.compile(r"frame=\s*(\d+).*?time=(?:N/A|(\d+):(\d\d):(\d\d\.\d+))", re.DOTALL)
_FASTEST = 240.0  # frames a second; a higher value in a header is its clock, not its frame rate


@dataclass(frozen=True)
class Clip:
    """A clip that can be read.

    Attributes:
        path: the file, or the folder of the pictures.
        name: what people call it.
        width: pixels, upright and square, as `read_frames` gives them.
        height: pixels.
        fps: frames a second; the mean where the rate varies.
        seconds: length; 0 if the file does not state it.
        frames: estimated number of frames; exact for pictures.
        rotation: degrees that the file asks to be turned by, already applied to width and height.
        has_sound: whether there is sound.
        pictures: files of a folder of pictures in natural order; empty for a video file.
        sought: whether a time in it can be gone to; else everything before that time is decoded, too.
        poses: who moves, where the file holds poses and no pictures; its frames are black then.
        colour: colour space of its frames, as stored.
    """

    path: Path
    name: str
    width: int
    height: int
    fps: float
    seconds: float
    frames: int
    rotation: int = 0
    has_sound: bool = False
    pictures: tuple[Path, ...] = ()
    sought: bool = True
    poses: Poses | None = field(default=None, compare=False, repr=False)
    colour: VideoColour = field(default_factory=VideoColour)


def open_clip(given: str | Path | Sequence[str | Path]) -> Clip:
    """Find out what a clip holds; its first frame is decoded, so that what is returned can be read.

    Args:
        given: a video file (MP4, MOV, WebM, MPEG-TS, GIF, animated WebP and more), a folder of pictures, or a list of picture files, which is put
            into natural order: `2.png` comes before `10.png`, and where names come twice, one folder before the other. Ready-made pose frames are frames as any others. A `.json` file
            holds poses, as `Poses.to_json` writes them.

    Raises:
        VideoError: it cannot be read, or holds no picture at all; the text gives the reason and the remedy.
    """
    if not isinstance(given, str | Path):
        return _of_pictures(Path(given[0]).parent, [Path(file) for file in given]) if given else _refuse_nothing()
    path = Path(given)
    if path.is_dir():
        try:
            files = list(path.iterdir())
        except OSError as error:
            raise VideoError(
                f"The folder “{path.name}” cannot be opened ({error.strerror}): allow reading it, or choose another."
            ) from error
        return _of_pictures(path, files)
    if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file() and not _is_animated(path):
        return _of_pictures(path.parent, [path])
    try:
        size = path.stat().st_size
        if size == 0:
            raise VideoError(f"“{path.name}” is an empty file: its upload or copy was cut short, try again.")
        if path.suffix.lower() == POSES_SUFFIX:
            return _of_poses(path, size)
    except OSError as error:
        raise VideoError(f"There is no file “{path.name}” that can be opened ({error.strerror}).") from error
    return _of_file(path)


def natural(path: PurePath) -> tuple[tuple[int, int, str], ...]:
    """Key that sorts names as people count: digits as numbers, letters without case."""
    parts = re.split(r"(\d+)", path.name.casefold())
    return tuple((1, int(part), part) if part.isdecimal() else (0, 0, part) for part in parts)


def by_folder(path: PurePath) -> tuple:
    """Key that sorts one folder after another, those inside a folder after its own files, each in `natural` order."""
    return tuple(natural(parent) for parent in reversed(path.parents)), natural(path)


def _of_poses(path: Path, size: int) -> Clip:
    if size > _LARGEST_POSES:
        raise VideoError(f"“{path.name}” is too large for a pose sequence: choose the JSON that this program saved.")
    try:
        poses = Poses.from_json(path.read_bytes())
    except VideoError as error:
        raise VideoError(f"“{path.name}” cannot be used. {error}") from None
    seconds = len(poses) / poses.fps
    return Clip(path, path.name, poses.width, poses.height, poses.fps, seconds, len(poses), poses=poses)


def _is_animated(path: Path) -> bool:
    """Return whether a WebP file has several frames: pictures and clips share this suffix."""
    try:
        with path.open("rb") as file:
            head = file.read(21)
    except OSError:
        return False
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and bool(head[20:] and head[20] & _ANIMATED)


def _refuse_nothing() -> Clip:
    raise VideoError("There is no clip yet: upload one first.")


def _of_pictures(folder: Path, files: Sequence[Path]) -> Clip:
    chosen = [
        file
        for file in files
        if file.suffix.lower() in PICTURE_SUFFIXES and not file.name.startswith(".") and file.is_file()
    ]
    distinct = len({file.name.casefold() for file in chosen}) == len(chosen)  # else several clips would be mixed up
    pictures = tuple(sorted(chosen, key=natural if distinct else by_folder))
    if not pictures:
        raise VideoError(_why_no_pictures(folder))
    width, height = open_picture(pictures[0]).size
    name = folder.name if len(pictures) > 1 else pictures[0].name
    count = len(pictures)
    return Clip(folder, name, width, height, PICTURES_FPS, count / PICTURES_FPS, count, pictures=pictures)


def _why_no_pictures(folder: Path) -> str:
    inside = [f"“{place.name}”" for place in sorted(_folders(folder), key=natural) if _holds_pictures(place)]
    if not inside:
        return f"“{folder.name}” holds no pictures: put PNG or JPEG files there, or choose a video file."
    named = ", ".join([*inside[:_NAMED], *(["…"] if len(inside) > _NAMED else [])])
    return f"“{folder.name}” holds no pictures itself, but these folders in it do: choose one of {named}."


def _folders(folder: Path) -> list[Path]:
    with suppress(OSError):
        return [place for place in folder.iterdir() if place.is_dir() and not place.name.startswith(".")]
    return []


def _holds_pictures(folder: Path) -> bool:
    with suppress(OSError):
        return any(file.suffix.lower() in PICTURE_SUFFIXES for file in folder.iterdir())
    return False


def open_picture(path: Path) -> Image.Image:
    """Read one picture of a folder, upright, RGB; transparency becomes black, the background of pose drawings."""
    from PIL import ImageOps

    try:
        with Image.open(path) as image:
            if image.width * image.height > 40_000_000:
                raise VideoError(
                    f"The picture “{path.name}” has {image.width}×{image.height} pixels: make it smaller."
                )
            upright = ImageOps.exif_transpose(image)
            if "A" in upright.getbands() or "transparency" in upright.info:
                rgba = upright.convert("RGBA")
                return Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba).convert("RGB")
            return upright.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, VideoError):
            raise
        raise VideoError(f"The picture “{path.name}” cannot be read: replace it, or take it out.") from error


def _of_file(path: Path) -> Clip:
    arguments = [*source(path), "-map", "0:V:0", "-vf", SQUARE, "-frames:v", "1", *PICTURES_OUT]
    with FfmpegProcess(["-loglevel", "info", *arguments]) as process:
        first = read_picture(process.stdout)
        process.wait()
        log = process.log()
    header = log.split("\nOutput #0")[0].split("\nStream mapping:")[0]
    stream = _VIDEO.search(header)
    if stream is None or first is None:
        raise VideoError(_why_not(path.name, header, log, has_video=stream is not None))
    seconds, fps = _seconds(_DURATION.search(header)), _fps(stream[1])
    frames = round(seconds * fps)
    if not frames or not 0 < fps <= _FASTEST:
        frames, seconds, fps = _counted(path, seconds, fps)
    turn = _TURN.search(header)
    return Clip(
        path=path,
        name=path.name,
        width=first.shape[1],
        height=first.shape[0],
        fps=fps,
        seconds=seconds,
        frames=max(1, frames),
        rotation=round(float(turn[1])) if turn else 0,
        has_sound=_SOUND.search(header) is not None,
        sought=(found := _INPUT.search(header)) is not None and found[1] in SOUGHT,
        colour=colour_of(stream[1]),
    )


def _why_not(name: str, header: str, log: str, *, has_video: bool) -> str:
    if "not on whitelist" in log:
        return f"“{name}” is not a clip this program can read, whatever its name ends in: save it as {_READABLE}."
    if has_video and "max pixel" not in log:
        return f"“{name}” has a video track, but not one frame of it can be decoded: export it again as {_READABLE}."
    if has_video:
        return f"The frames of “{name}” are larger than this program decodes: export it at 4K or less."
    if _SOUND.search(header):
        return f"“{name}” holds sound but no moving picture: choose a clip with video."
    if "Input #0" in header:
        return f"“{name}” holds no video: choose a clip saved as {_READABLE}."
    if "moov atom not found" in log:
        return f"“{name}” is damaged or its end is missing (no index was found): upload or export it again."
    return f"“{name}” is not a clip this program can read: save it as {_READABLE}."


def _seconds(match: re.Match[str] | None) -> float:
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]) if match else 0.0


def _fps(stream: str) -> float:
    match = _FPS.search(stream)
    return float(match[1]) * (1000 if match[2] else 1) if match else 0.0


def _counted(path: Path, seconds: float, fps: float) -> tuple[int, float, float]:
    """Count frames without decoding, where the header lacks length and frame rate (recordings by a browser)."""
    _, log = run(["-loglevel", "info", *source(path), "-map", "0:V:0", "-c", "copy", "-f", "null", "-"])
    found = _PROGRESS.findall(log)
    if not found:
        return 1, seconds, PICTURES_FPS
    frames = int(found[-1][0])
    hours, minutes, rest = (float(part or 0) for part in found[-1][1:])
    seconds = hours * 3600 + minutes * 60 + rest or seconds
    if seconds:
        fps = frames / seconds
    elif 0 < fps <= _FASTEST:  # a bare stream of frames has no times
        seconds = frames / fps
    return frames, seconds, min(fps, _FASTEST) if fps > 0 else PICTURES_FPS
