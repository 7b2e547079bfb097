"""Fetching MediaPipe's files: atomic, checked, never twice, and honest when it fails."""

import hashlib
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from annotator_helpers import scene

from annotators import BackendMissing, annotate
from annotators.__main__ import main
from annotators.poses.blazepose import Found
from annotators.weights import fetch


@pytest.fixture
def small_files(monkeypatch, own_cache):
    """Two small files in place of the real ones, and a wheel that holds them."""
    contents = {"a/one.tflite": b"one" * 10, "b/two.tflite": b"two" * 20}
    files = {
        Path(path).stem: fetch.ModelFile(path, len(data), hashlib.sha256(data).hexdigest())
        for path, data in contents.items()
    }
    monkeypatch.setattr(fetch, "FILES", files)
    for path in own_cache.iterdir():
        path.unlink()
    wheel = own_cache.parent / "mediapipe-0.10.21-cp311-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, data in contents.items():
            archive.writestr(f"mediapipe/modules/{path}", data)
    return wheel


def pip(wheel, calls, code=0):
    def run(command, **options):
        calls.append(command)
        if wheel is not None:
            (Path(command[-1]) / wheel.name).write_bytes(wheel.read_bytes())
        return subprocess.CompletedProcess(command, code, "", "" if code == 0 else "ERROR: no matching distribution")

    return run


def test_first_use_fetches_once_with_the_package_client_and_says_so(small_files, monkeypatch):
    calls = []
    monkeypatch.setattr(fetch.subprocess, "run", pip(small_files, calls))
    assert fetch.missing() == ["one", "two"]
    assert "fetched once on first use" in fetch.availability().reason
    assert "were fetched" in fetch.ensure()
    assert fetch.ensure() == ""
    assert len(calls) == 1
    assert calls[0][1:5] == ["-m", "pip", "download", "mediapipe==0.10.21"]
    assert "--no-deps" in calls[0]
    assert fetch.missing() == []
    assert fetch.model_path("one").read_bytes() == b"one" * 10
    assert fetch.availability().reason == ""


def test_a_fetch_that_fails_is_a_sentence_and_is_not_tried_again_at_once(small_files, monkeypatch):
    calls = []
    monkeypatch.setattr(fetch.subprocess, "run", pip(None, calls, code=1))
    for _ in range(3):
        with pytest.raises(
            BackendMissing, match=r"mediapipe==0.10.21 \(36 MB\) could not be fetched.*python -m annotators fetch"
        ):
            fetch.ensure()
    assert len(calls) == 1
    assert not fetch.availability().usable
    monkeypatch.setattr(fetch, "_RETRY_SECONDS", 0)
    monkeypatch.setattr(fetch.subprocess, "run", pip(small_files, calls))
    assert fetch.ensure()
    assert fetch.availability().usable


def test_a_wheel_at_hand_is_enough(small_files):
    assert main(["fetch", "mediapipe", "--wheel", str(small_files)]) == 0
    assert fetch.missing() == []


def test_the_cached_files_have_the_permissions_of_any_new_file(small_files, tmp_path):
    plain = tmp_path / "plain"
    plain.touch()
    fetch.fetch_mediapipe(small_files)
    assert {path.stat().st_mode for path in fetch.mediapipe_folder().iterdir()} == {plain.stat().st_mode}


def test_a_wheel_with_other_files_is_refused_whole(small_files):
    with zipfile.ZipFile(small_files, "w") as archive:
        archive.writestr("mediapipe/modules/a/one.tflite", b"one" * 10)
        archive.writestr("mediapipe/modules/b/two.tflite", b"changed")
    with pytest.raises(BackendMissing, match=r"two.tflite.*not the file expected"):
        fetch.fetch_mediapipe(small_files)
    assert fetch.missing() == ["one", "two"]


def test_something_that_is_no_wheel_is_a_sentence(small_files, capsys):
    small_files.write_text("not a zip")
    assert main(["fetch", "--wheel", str(small_files)]) == 1
    assert "is not the wheel of mediapipe==0.10.21" in capsys.readouterr().err


def test_a_damaged_file_in_the_cache_is_removed_and_said_so(small_files):
    fetch.fetch_mediapipe(small_files)
    path = fetch.mediapipe_folder() / "one.tflite"
    path.write_bytes(b"0" * path.stat().st_size)
    with pytest.raises(BackendMissing, match="damaged"):
        fetch.model_path("one")
    assert fetch.missing() == ["one"]


def test_nothing_half_written_is_left_when_the_disk_is_full(small_files, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetch.os, "replace", full)
    with pytest.raises(BackendMissing, match="No space left on device"):
        fetch.fetch_mediapipe(small_files)
    assert list(fetch.mediapipe_folder().iterdir()) == []


@pytest.mark.parametrize(
    ("variables", "place"),
    [({"CONTROLNEXT_CACHE": "/own"}, "/own"), ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/controlnext")],
)
def test_the_cache_is_where_the_variables_say(monkeypatch, variables, place):
    monkeypatch.delenv("CONTROLNEXT_CACHE")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert str(fetch.cache_folder()) == place


def test_without_pip_it_says_how_else(nothing_fetched, monkeypatch):
    monkeypatch.setattr(fetch.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendMissing, match=r"no pip.*--wheel"):
        fetch.fetch_mediapipe()
    assert "pip install ai-edge-litert" in fetch.availability().reason


def test_the_first_pose_on_a_fresh_machine_fetches_by_itself(small_files, monkeypatch):
    monkeypatch.setattr(fetch.subprocess, "run", pip(small_files, []))
    found = Found(np.tile([20.0, 20.0, 1.0], (33, 1)), np.zeros(33), np.ones((96, 128), np.float32))
    monkeypatch.setattr("annotators.poses.blazepose.find_people", lambda *_, **__: [found])
    assert "were fetched and cached" in annotate("pose", scene()).note
    assert annotate("pose", scene()).note == ""


def test_the_command_line_lists_and_refuses_unknown_names(capsys):
    assert main(["list"]) == 0
    assert "canny" in capsys.readouterr().out
    assert main(["fetch", "everything"]) == 1
    assert "there is depth-anything, midas, mediapipe, dwpose, segformer, upernet." in capsys.readouterr().err
