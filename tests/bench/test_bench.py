import argparse
import json

import pytest

from controlnext.bench import BENCHES
from controlnext.bench.cost import overhead, startup
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
    import importlib.util

    assert all(importlib.util.find_spec(bench.module, "controlnext.bench") for bench in BENCHES.values())


def test_overhead_times_each_kind_equally_often(catalogue):
    timing, about = overhead.measure(options(), catalogue)
    assert {kind: len(steps) for kind, steps in timing.steps.items()} == dict.fromkeys(overhead.KINDS, 2 * 2)
    assert all(step > 0 for steps in timing.steps.values() for step in steps)
    assert timing.ratios()["without"] == 1.0
    assert about["adapter"] == "canny"
    assert json.dumps(about)
    text = overhead.table(timing, about)
    assert text.startswith("starter, canny, 64x64, 2 at once, cpu float32, 1 threads\n")
    assert text.count("\n|") == 5


def test_overhead_refuses_what_cannot_be_measured(catalogue):
    with pytest.raises(overhead.BenchError, match="two steps"):
        overhead.main(["--steps", "1"])


def test_startup_says_why_an_app_did_not_come_up(tmp_path, monkeypatch):
    (tmp_path / "app.py").write_text("raise SystemExit('no such luck')")
    monkeypatch.setattr(startup, "IMPORT_ROOT", tmp_path)
    with pytest.raises(startup.BenchError, match=r"ended with status 1: no such luck"):
        startup.main(["--page-only"])


def test_startup_times_a_page(tmp_path, monkeypatch, capsys):
    (tmp_path / "app.py").write_text(
        "import sys, http.server\n"
        "port = int(sys.argv[sys.argv.index('--port') + 1])\n"
        "http.server.HTTPServer(('127.0.0.1', port), http.server.SimpleHTTPRequestHandler).serve_forever()\n"
    )
    monkeypatch.setattr(startup, "IMPORT_ROOT", tmp_path)
    assert startup.main(["--page-only", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert 0 < row["seconds"] < startup.PAGE_BAR
