import pytest
from video_clips import SINE, TESTSRC, grey_frames, make

from controlnext.video import write_video


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    """A folder with one second of moving picture, 64x48 at 10 frames a second, in several kinds of file."""
    folder = tmp_path_factory.mktemp("clips")
    mp4 = make(folder / "tone.mp4", *TESTSRC, *SINE, "-t", 1, "-pix_fmt", "yuv420p", "-g", 5, "-c:a", "aac")
    make(folder / "turned.mov", "-display_rotation", 90, "-i", mp4, "-c", "copy")
    make(folder / "silent.webm", "-i", mp4, "-an", "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", 8)
    make(folder / "loop.gif", "-i", mp4, "-an")
    make(folder / "one.mp4", "-i", mp4, "-frames:v", 1, "-an")
    make(folder / "sound.m4a", "-i", mp4, "-vn", "-c", "copy")
    write_video(folder / "grey.mp4", grey_frames(20), 10)
    for name in ("grey.gif", "grey.avi", "grey.mov"):
        make(folder / name, "-i", folder / "grey.mp4")
    make(
        folder / "grey.webm", "-i", folder / "grey.mp4", "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", 8
    )
    return folder
