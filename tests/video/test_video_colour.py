"""Colours of clips as browsers show them, and every container that holds its own frames."""

import shutil
from functools import cache

import numpy as np
import pytest
from video_clips import make

from controlnext.video import Cut, VideoError, open_clip, plan_cut, read_frames
from controlnext.video.colour import VideoColour, can_convert, colour_of

BARS = [
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (255, 255, 255),
    (128, 128, 128),
    (64, 64, 64),
    (200, 120, 90),
    (20, 60, 120),
]


@cache
def bars(width, height):
    return np.array(BARS, np.uint8)[None].repeat(width // len(BARS), 1).repeat(height, 0).tobytes()


def coloured(
    path, size, matrix, tags=("unknown", "unknown", "unknown"), pixels="yuv420p", codec=("libx264", "-crf", "8")
):
    """A clip of colour bars encoded with a matrix, tagged with (matrix, primaries, transfer)."""
    raw = path.with_suffix(".rgb")
    raw.write_bytes(bars(*size) * 3)
    frames = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "x".join(map(str, size)), "-r", "10", "-i", raw)
    names = dict(zip(("colorspace", "color_primaries", "color_trc"), tags, strict=True))
    params = ":".join(f"{name}={value}" for name, value in names.items())
    written = [part for name, value in names.items() if value != "unknown" for part in (f"-{name}", value)]
    filters = f"scale=out_color_matrix={matrix}:out_range=tv,format={pixels},setparams={params}:range=tv"
    return make(path, *frames, "-vf", filters, "-c:v", *codec, *written)


def bars_of(path, max_side=0):
    """Colours (8, 3) of the bars as they are read."""
    clip = open_clip(path)
    with read_frames(clip, plan_cut(clip, Cut(max_side=max_side, max_frames=1))) as frames:
        frame = next(frames)
    middles = ((np.arange(8) + 0.5) * frame.shape[1] / 8).astype(int)
    return frame[frame.shape[0] // 2, middles].astype(int)


@pytest.mark.parametrize(
    ("size", "matrix", "tags"),
    [
        ((1280, 720), "bt709", ("unknown",) * 3),
        ((640, 480), "smpte170m", ("unknown",) * 3),
        ((640, 480), "bt709", ("bt709",) * 3),
        ((1280, 720), "smpte170m", ("smpte170m",) * 3),
    ],
)
def test_the_matrix_is_that_of_the_tags_and_else_of_the_size(tmp_path, size, matrix, tags):
    read = bars_of(coloured(tmp_path / "bars.mp4", size, matrix, tags))
    assert np.abs(read - BARS).max() <= 4


def test_a_portrait_clip_is_hd_by_its_stored_lines(tmp_path):
    stored = coloured(tmp_path / "stored.mp4", (1280, 720), "bt709")
    turned = make(tmp_path / "turned.mp4", "-display_rotation", 90, "-i", stored, "-c", "copy")
    clip = open_clip(turned)
    assert (clip.width, clip.height) == (720, 1280)
    with read_frames(clip) as frames:
        found = next(frames)[:, 360].astype(int)
    assert min(np.abs(found - (255, 0, 0)).max(axis=1)) <= 4


# What Chromium 156 shows of the same clips (red, green, blue, white, two greys and two colours).
CHROMIUM = {
    ("bt709", "smpte432", "bt709"): [(255, 0, 0), (0, 255, 0), (1, 0, 253), (255,) * 3, (128,) * 3, (64,) * 3, (213, 115, 86), (0, 61, 120)],
    ("bt2020nc", "bt2020", "bt2020-10"): [(255, 0, 0), (0, 255, 0), (0, 0, 251), (255,) * 3, (128,) * 3, (64,) * 3, (236, 105, 87), (0, 64, 121)],
    ("bt2020nc", "bt2020", "smpte2084"): [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255,) * 3, (132,) * 3, (30,) * 3, (255, 0, 0), (0, 26, 109)],
    ("bt2020nc", "bt2020", "arib-std-b67"): [(255, 0, 0), (0, 255, 0), (0, 0, 232), (254,) * 3, (99,) * 3, (43,) * 3, (227, 75, 69), (0, 41, 80)],
}  # fmt: skip


@pytest.mark.parametrize("tags", CHROMIUM)
@pytest.mark.parametrize("max_side", [0, 333])
def test_wide_gamuts_and_hdr_look_as_in_a_browser(tmp_path, tags, max_side):
    if not can_convert():
        pytest.skip("this build of ffmpeg has no zscale")
    hdr = tags[2] in ("smpte2084", "arib-std-b67")
    codec = ("libvpx-vp9", "-crf", "8", "-b:v", "0", "-cpu-used", "8", "-deadline", "realtime")
    path = coloured(tmp_path / "bars.webm", (640, 480), tags[0], tags, "yuv420p10le" if hdr else "yuv420p", codec)
    read, shown = bars_of(path, max_side), np.array(CHROMIUM[tags])
    assert open_clip(path).colour.is_hdr is hdr
    assert np.abs(read - shown).mean() <= (9 if hdr else 2)  # tone mapping has no standard, a gamut has
    assert np.abs(read - shown)[3:6].max() <= (13 if hdr else 2)


@pytest.mark.parametrize(
    ("stream", "colour"),
    [
        ("h264 (High) (avc1 / 0x31), yuv420p(progressive), 1280x720 [SAR 1:1], 10 fps", VideoColour(height=720)),
        ("h264 (High), yuv420p(tv, bt709/unknown/unknown, progressive), 256x256, 12 fps", VideoColour("bt709", height=256)),
        ("vp9 (Profile 2), yuv420p10le(tv, bt2020nc/bt2020/smpte2084), 64x48, 1k tbn", VideoColour("bt2020nc", "bt2020", "smpte2084", 48)),
        ("h264, yuv420p(tv, smpte170m, top first), 720x576", VideoColour("smpte170m", "smpte170m", "smpte170m", 576)),
        ("mpeg4, yuv420p, 1920x1080 [SAR 1:1], 25 fps", VideoColour(height=1080)),
        ("mjpeg (Baseline), yuvj420p(pc), 1920x1080, 25 fps", VideoColour()),
        ("gif, bgra, 1920x1080, 10 fps", VideoColour()),
        ("png, rgb24(pc, gbr/unknown/unknown), 1920x1080", VideoColour("gbr", height=1080)),
    ],
)  # fmt: skip
def test_the_colour_space_is_read_from_the_line_of_a_stream(stream, colour):
    assert colour_of(stream) == colour


CONTAINERS = {
    "clip.ts": ("-c:v", "libx264", "-c:a", "aac"),
    "clip.mts": ("-c:v", "libx264", "-c:a", "ac3", "-f", "mpegts"),
    "clip.m2ts": ("-c:v", "libx264", "-c:a", "ac3", "-f", "mpegts", "-mpegts_m2ts_mode", "1"),
    "clip.mpg": ("-c:v", "mpeg2video", "-q:v", "1", "-c:a", "mp2"),
    "clip.vob": ("-c:v", "mpeg2video", "-q:v", "1", "-c:a", "ac3", "-f", "vob"),
    "clip.mxf": ("-c:v", "mpeg2video", "-q:v", "1", "-c:a", "pcm_s16le", "-ar", "48000"),
    "clip.ogv": ("-c:v", "libtheora", "-q:v", "10", "-c:a", "libvorbis"),
    "clip.nut": ("-c:v", "ffv1"),
    "clip.flv": ("-c:v", "libx264", "-c:a", "aac"),
    "clip.wmv": ("-c:v", "wmv2", "-q:v", "1", "-c:a", "wmav2"),
    "clip.m4v": ("-c:v", "mpeg4", "-q:v", "1", "-f", "m4v", "-an"),
    "clip.h264": ("-c:v", "libx264", "-f", "h264", "-an"),
    "clip.ivf": ("-c:v", "libvpx", "-b:v", "2M", "-an"),
    "clip.y4m": ("-f", "yuv4mpegpipe", "-an"),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_with_its_own_frames_is_read(tmp_path, name):
    grey = ("-f", "lavfi", "-i", "color=black:s=320x240:r=25:d=2,format=yuv420p,geq=lum='16+4*N':cb=128:cr=128")
    path = make(tmp_path / name, *grey, "-f", "lavfi", "-i", "sine=440:d=2", *CONTAINERS[name])
    clip = open_clip(path)
    late = 3 if name in ("clip.flv", "clip.wmv") else 1  # these start their clock with the sound's first packet
    assert clip.has_sound is ("-an" not in CONTAINERS[name])
    assert clip.frames == pytest.approx(50, abs=late)
    assert clip.fps == pytest.approx(25, rel=0.05)
    with read_frames(clip, plan_cut(clip, Cut(start=1.0, end=1.2))) as frames:
        means = [float(frame.mean()) for frame in frames]
    assert len(means) == pytest.approx(5, abs=late)
    step = 4 * 255 / 219
    assert means[0] == pytest.approx(25 * step, abs=step * late)
    assert np.diff(means) == pytest.approx(step, abs=2 * step)


@pytest.mark.parametrize("name", ["list.m3u8", "list.ffconcat", "list.mpd", "list.sdp"])
def test_files_that_open_other_files_are_refused_under_any_name(tmp_path, clips, name):
    shutil.copy(clips / "tone.mp4", tmp_path / "tone.mp4")
    text = {
        "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\ntone.mp4\n#EXT-X-ENDLIST\n",
        "list.ffconcat": "ffconcat version 1.0\nfile 'tone.mp4'\n",
        "list.mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>tone.mp4</BaseURL></MPD>',
        "list.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    }[name]
    for place in (name, "clip.mp4", "clip.ts"):
        (tmp_path / place).write_text(text)
        with pytest.raises(VideoError, match=place):
            open_clip(tmp_path / place)
