import json

import pytest
from annotator_helpers import scene

from annotators import PictureError
from controlnext.bench.cost import annotators as bench


@pytest.fixture(autouse=True)
def any_core(monkeypatch):
    monkeypatch.setattr(bench, "_use_one_core", lambda: None)
    monkeypatch.setattr(bench, "REPEATS", 1)


def test_every_backend_has_a_row_with_times_or_a_reason(nothing_fetched):
    rows = bench.measure(scene())
    assert {(row.annotator, row.backend) for row in rows} >= {
        ("canny", "opencv"),
        ("pose", "mediapipe"),
        ("none", "upload"),
    }
    for row in rows:
        assert (row.new is None) == bool(row.reason)


def test_a_missed_bar_is_not_hidden():
    assert bench.BackendTimes("canny", "opencv", 90.0, 31.0, 1.0, 30.0).passed is False
    assert bench.BackendTimes("canny", "opencv", 90.0, 29.0, 6.0, 30.0).passed is False
    assert bench.BackendTimes("canny", "opencv", 90.0, 29.0, 1.0, 30.0).passed is True
    assert bench.BackendTimes("depth", "midas", reason="not here").passed is None
    table = bench.table(
        [
            bench.BackendTimes("canny", "opencv", 90.0, 31.0, 1.0, 30.0),
            bench.BackendTimes("depth", "midas", reason="not here"),
        ]
    )
    assert "**no**" in table
    assert "not here" in table


def test_the_command_prints_a_table_or_json(nothing_fetched, capsys, tmp_path):
    path = tmp_path / "a.png"
    scene().save(path)
    assert bench.main(["--image", str(path)]) in (0, 1)
    assert "| canny | opencv |" in capsys.readouterr().out
    assert bench.main(["--image", str(path), "--json"]) in (0, 1)
    assert json.loads(capsys.readouterr().out)[0]["annotator"] == "canny"


def test_a_wrong_picture_is_an_error(tmp_path):
    with pytest.raises(PictureError, match="gone"):
        bench.main(["--image", str(tmp_path / "gone.png")])
