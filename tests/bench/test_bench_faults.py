"""The bench of faults: its checks see what is damaged, and a real app bears one of them."""

from __future__ import annotations

import json

import pytest
import torch

from controlnext.bench.command import BenchError
from controlnext.bench.trust import broken_apps, faults
from controlnext.bench.trust.savers import pictures
from controlnext.scratch import PREFIX
from controlnext.training.checkpoints import Checkpoint, save


@pytest.mark.parametrize(
    "said", [None, "", "x" * 301, "It is in /home/me/photos.png.", "The app failed; the console says why."]
)
def test_what_is_not_fit_to_be_shown_is_refused(said):
    with pytest.raises(BenchError):
        broken_apps.sentence(said)


def test_a_clear_sentence_is_returned():
    assert broken_apps.sentence("Choose another folder.") == "Choose another folder."


def test_whole_pictures_are_counted_and_unfinished_ones_swept(tmp_path):
    save_one = pictures(tmp_path)
    save_one()
    save_one()
    unfinished = tmp_path / f"{PREFIX}00000000-1-a.png"
    unfinished.write_bytes(b"half")
    with pytest.raises(BenchError):  # of another machine, and young: nobody may remove it
        faults._CHECKS["pictures"](tmp_path)
    unfinished.unlink()
    assert faults._CHECKS["pictures"](tmp_path) == 2


def test_a_picture_without_its_recipe_is_noticed(tmp_path):
    from PIL import Image

    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    with pytest.raises(BenchError):
        faults._CHECKS["pictures"](tmp_path)


def test_a_damaged_newest_checkpoint_is_noticed(tmp_path):
    for step in (1, 2):
        save(tmp_path, Checkpoint(step, {"layer.weight": torch.zeros(2, 2)}, None, {}, {}), 3)
    assert faults._CHECKS["checkpoints"](tmp_path) == 2
    newest = max(tmp_path.glob("step-*"))
    (newest / "trained.safetensors").write_bytes(b"half")
    with pytest.raises(BenchError):
        faults._CHECKS["checkpoints"](tmp_path)


def test_every_kind_that_is_saved_has_a_check_and_its_share_of_kills():
    named = [name for name in faults.faults(50) if "kills" in name]
    assert len(named) == len(faults._CHECKS) == len(faults.KINDS)
    assert all(name.startswith("13 ") for name in named)


@pytest.mark.slow
def test_an_app_bears_a_damaged_preset_and_the_bench_says_so(capsys):
    assert faults.main(["--only", "damaged preset", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["passed"]
    assert "broken" in row["seen"]


@pytest.mark.slow
def test_a_soak_of_twenty_requests_loses_nothing(capsys):
    from controlnext.bench.trust import soak

    soak.main(["--requests", "20", "--clients", "2", "--json"])  # so few say nothing about memory
    figures = json.loads(capsys.readouterr().out)
    assert (figures["requests"], figures["lost"], figures["wrong"]) == (20, 0, 0)
