import argparse
import json
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
from tiny_models import CHANNELS, make_module, svd_components

from controlnext import ControlNeXtAdapter, StableVideoDiffusionControlNeXtPipeline
from controlnext.bench.command import BenchError
from controlnext.bench.cost import long_video as video
from controlnext.bench.cost.long_video import BAR, Dancer, VideoCost

ROW = VideoCost(
    frames=48, windows=8, steps=2, peak_bytes=1000 * 2**20, idle_bytes=900 * 2**20, latent_bytes=2**19,
    denoise_seconds=48.0, control_seconds=4.8, write_seconds=9.6,
)  # fmt: skip


def options(**changes):
    values = {"size": 64, "window": 4, "overlap": 2, "steps": 1, "decode_chunk": 2, "device": "cpu", "threads": 1}
    return argparse.Namespace(**{**values, **changes})


def tiny(_):
    pipe = StableVideoDiffusionControlNeXtPipeline(**svd_components())
    pipe.set_progress_bar_config(disable=True)
    pipe.load_controlnext(ControlNeXtAdapter(make_module("svd-v2", CHANNELS["svd-v2"])))
    return pipe


def test_a_video_is_measured_from_noise_to_mp4(monkeypatch):
    monkeypatch.setattr(video, "load", tiny)
    written = []
    monkeypatch.setattr(
        "controlnext.video.writer.VideoWriter.finish", lambda self, *_: written.append((self.frames, self.fps))
    )
    figures = video.measure_once(options(), 7)
    assert written == [(7, video.FPS)]
    assert (figures.frames, figures.windows, figures.steps) == (7, 3, 1)
    assert figures.latent_bytes == 7 * 4 * 8 * 8 * 4
    assert 0 < figures.control_seconds < figures.denoise_seconds
    assert figures.write_seconds > 0
    if sys.platform == "linux":
        assert figures.peak_bytes >= figures.idle_bytes > 0


def test_control_frames_are_drawn_and_move():
    frames = Dancer(5, 64)
    assert len(frames) == 5
    assert frames[0].size == (64, 64)
    assert frames[0].tobytes() == frames[0].tobytes() != frames[3].tobytes()


def test_each_length_has_a_process_of_its_own(monkeypatch):
    asked = []

    def run(command, **_):
        asked.append(command)
        frames = int(command[-1])
        return subprocess.CompletedProcess(command, 0, json.dumps(asdict(replace(ROW, frames=frames))), "")

    monkeypatch.setattr(subprocess, "run", run)
    rows = video.measure(["--size", "128"], [3, 5])
    assert [row.frames for row in rows] == [3, 5]
    assert asked == [
        [sys.executable, "-m", "controlnext", "bench", "video", "--size", "128", "--once", frames]
        for frames in ("3", "5")
    ]


def test_a_process_that_fails_says_why(monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "Traceback\nMemoryError: no more")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(BenchError, match=r"3 frames.*MemoryError: no more"):
        video.measure([], [3])


@pytest.mark.parametrize(("factor", "said"), [(1.04, "met"), (BAR + 0.01, "missed")])
def test_the_table_says_whether_the_bar_is_met(factor, said):
    more = replace(ROW, frames=96, windows=16, peak_bytes=int(ROW.peak_bytes * factor), latent_bytes=2**20)
    text = video.table([ROW, more], options())
    assert "| 48 | 8 | 1000 | 100 | 0.50 | 500 | 10.0% | 200 |" in text
    assert f"(bar: {BAR}, {said})" in text
    assert f"{factor:.3f} times" in text


def test_what_cannot_be_measured_is_refused(tmp_path):
    with pytest.raises(BenchError, match="none"):
        video.load(argparse.Namespace(device="cpu", base=tmp_path / "none", adapter=None, variant=None))


@pytest.mark.slow
def test_memory_is_flat(tmp_path):
    file = tmp_path / "figures.json"
    video.main(["--frames", "24", "48", "--size", "64", "--steps", "1", "--json", str(file)])
    short, long = json.loads(file.read_text())
    assert long["peak_bytes"] <= BAR * short["peak_bytes"]
