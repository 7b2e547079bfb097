import argparse
import importlib.util
import json

import pytest

from controlnext.bench import BENCHES
from controlnext.bench.command import BenchError, bench_parser, publish, whole
from controlnext.bench.cost import overhead, startup
from controlnext.bench.tables import markdown, number
from controlnext.models.catalogue import Catalogue


@pytest.fixture(scope="module")
def catalogue(models):
    return Catalogue(models)


def options(**changes):
    values = {
        "model": "starter", "adapter": None, "rounds": 2, "steps": 3, "num_images": 2, "device": "cpu", "threads": 1,
    }  # fmt: skip
    return argparse.Namespace(**{**values, **changes})


def test_every_bench_is_a_module():
    assert all(importlib.util.find_spec(bench.module, "controlnext.bench") for bench in BENCHES.values())


def test_a_table_aligns_numbers_right_and_marks_missing_cells():
    text = markdown(["name", "score", "met"], [["a", number(0.5), "yes"], ["b", None, "no"]], title="T", notes=["N."])
    assert text == "T\n\n| name | score | met |\n|---|---:|---|\n| a | 0.500 | yes |\n| b | – | no |\n\nN.\n"
    assert number(None) == "–"


@pytest.mark.parametrize(("text", "value"), [("64", 64), ("192", 192), ("0", None), ("100", None), ("x", None)])
def test_a_whole_number_is_within_its_limits(text, value, capsys):
    parser = bench_parser("any", "Any bench.", scenes=3)
    parser.add_argument("--size", type=whole(64, 64))
    if value is not None:
        assert parser.parse_args(["--size", text]).size == value
        return
    with pytest.raises(SystemExit):
        parser.parse_args(["--size", text])
    assert text in capsys.readouterr().err


def test_figures_are_printed_or_written(tmp_path, capsys):
    parser, file = bench_parser("any", "Any bench.", scenes=3), tmp_path / "f.json"
    assert publish(parser.parse_args([]), {"a": 1}, "table\n") == 0
    assert capsys.readouterr().out == "table\n"
    assert publish(parser.parse_args(["--json"]), {"a": 1}, "table\n", passed=False) == 1
    assert json.loads(capsys.readouterr().out) == {"a": 1}
    publish(parser.parse_args(["--json", str(file)]), {"a": 1}, "table\n")
    assert capsys.readouterr().out == "table\n"
    assert json.loads(file.read_text()) == {"a": 1}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("overhead", ["--steps", "1"]), ("overhead", ["--size", "100"]), ("full-size", ["--size", "100"]),
     ("video", ["--size", "100"]), ("video", ["--frames", "0"]), ("starter", ["--scenes", "0"]),
     ("controls", ["--controls", "pose"]), ("controls", ["--controls", "pose", "pose"])],
)  # fmt: skip
def test_options_out_of_range_are_refused(name, arguments, capsys):
    with pytest.raises(SystemExit):
        importlib.import_module(BENCHES[name].module, "controlnext.bench").main(arguments)
    assert name in capsys.readouterr().err


def test_overhead_times_each_kind_equally_often(catalogue):
    timing, facts = overhead.measure(options(), catalogue)
    assert {kind: len(steps) for kind, steps in timing.steps.items()} == dict.fromkeys(overhead.KINDS, 2 * 2)
    assert all(step > 0 for steps in timing.steps.values() for step in steps)
    assert timing.ratios()["without"] == 1.0
    assert facts["adapter"] == "canny"
    assert json.dumps(facts)
    text = overhead.table(timing, facts)
    assert text.startswith("starter, canny, 64x64, 2 at once, cpu float32, 1 threads\n")
    assert text.count("\n|") == 5


def test_startup_says_why_an_app_did_not_come_up(tmp_path, monkeypatch):
    (tmp_path / "app.py").write_text("raise SystemExit('no such luck')")
    monkeypatch.setattr(startup, "IMPORT_ROOT", tmp_path)
    with pytest.raises(BenchError, match="no such luck"):
        startup.main(["--page-only"])


def test_startup_times_a_page(tmp_path, monkeypatch, capsys):
    (tmp_path / "app.py").write_text(
        "import sys, http.server\n"
        "port = int(sys.argv[sys.argv.index('--port') + 1])\n"
        "http.server.HTTPServer(('127.0.0.1', port), http.server.SimpleHTTPRequestHandler).serve_forever()\n"
    )
    monkeypatch.setattr(startup, "IMPORT_ROOT", tmp_path)
    monkeypatch.setattr(startup, "PAGE_BAR", 300.0)  # the time itself is the bench's business
    assert startup.main(["--page-only", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["seconds"] > 0
    assert row["bar"] == 300
