"""The convergence bench: which runs it makes, how it goes on, how rates are chosen, and its report."""

import json
from dataclasses import asdict

import pytest

from controlnext.bench.command import BenchError
from controlnext.bench.convergence import compare as convergence
from controlnext.bench.convergence import plans
from controlnext.bench.convergence.plans import RunPaths
from controlnext.bench.convergence.ways import WAYS


def options(tmp_path, *arguments):
    return convergence.parse(["--out", str(tmp_path), "--data", str(tmp_path / "data"), *arguments])


@pytest.fixture
def place(tmp_path):
    return RunPaths(tmp_path / "assets", tmp_path / "data", tmp_path / "runs")


def adherence_of(trial):
    """Rates that a way likes are near its own; ControlNet comes late."""
    liked = {"controlnet": 5e-4, "t2i-adapter": 4.5e-3}.get(trial.way.name, 1.5e-3)
    return 0.8 - 0.2 * (trial.rate != liked)


@pytest.fixture
def work(place):
    """Stands for a training: writes a curve."""

    def run(trial, where, deadline):
        if convergence.time.time() > deadline:
            return False
        run.done.append(trial.name)
        values = [run.judge(trial) * share for share in trial.budget.points]
        points = [
            {"step": step, "seconds": 0.7 * step, "adherence": value, "loss": 0.1}
            for step, value in zip(trial.budget.stops, values, strict=True)
        ]
        facts = {"condition": trial.condition, "way": trial.way.name, "title": trial.way.title, "seed": trial.seed}
        facts |= {"rate": trial.rate, "settings": asdict(trial), "wall_seconds": 60.0, "trained": 10, "losses": []}
        where.runs.mkdir(parents=True, exist_ok=True)
        where.file(trial).write_text(json.dumps({**facts, "points": points, "diverged": None}))
        return True

    run.done, run.judge = [], adherence_of
    return run


def test_every_way_gets_the_same_tuning_and_its_own_best_rate(tmp_path, place, work):
    given, ways = options(tmp_path), list(WAYS.values())
    tuning = plans.tuning_trials(ways, given)
    assert len(tuning) == len(ways) * len(convergence.RATES) * 2
    assert {trial.budget.steps for trial in tuning} == {67}
    assert convergence.perform_all(tuning, place, 1, float("inf"), work)
    chosen = plans.choose_rates(ways, tuning, place, given.rates)
    assert chosen["controlnet"] == 5e-4
    assert chosen["t2i-adapter"] == 4.5e-3
    assert chosen["released"] == 1.5e-3
    trials = plans.main_trials(ways, chosen, given)
    assert len(trials) == len(ways) * 2 * 3
    assert {trial.seed for trial in trials[: len(trials) // 3]} == {0}  # seeds outermost
    assert len({trial.name for trial in trials}) == len(trials)


def test_finished_runs_are_found_again_whether_settings_are_written_out_or_not(tmp_path):
    ways = [WAYS["released"]]
    written = "--steps 200 --batch 8 --scenes 16 --points 0 0.05 0.1 0.15 0.3 0.5 0.75 1"
    for given in (options(tmp_path), options(tmp_path, *written.split())):
        names = {trial.name for trial in plans.main_trials(ways, {"released": 4.5e-3}, given)}
        names |= {trial.name for trial in plans.tuning_trials(ways, given)}
        # Of the runs behind the table of docs/measurements.md: with other names they would be trained once more.
        assert {"released-pose-200-s0-0.0045-37467d6c", "released-pose-67-s0-0.0015-eeeff865"} <= names


def test_a_way_that_has_not_begun_in_short_runs_is_tuned_by_full_ones(tmp_path, place, work, monkeypatch, capsys):
    def slowly(trial):
        late = trial.way.name == "controlnet"
        if late and trial.budget.steps == 67:  # too short for it, so the order of rates is chance
            return 0.1 + 0.01 * (trial.rate == 4.5e-3)
        return adherence_of(trial)

    work.judge = slowly
    given, ways = options(tmp_path), list(WAYS.values())
    chosen, runs = convergence.settle_rates(ways, given, place, float("inf"), work)
    assert chosen["controlnet"] == 5e-4
    assert chosen["t2i-adapter"] == 4.5e-3
    longer = [trial for trial in runs if trial.budget.steps == 200]
    assert len(runs) == (len(ways) + 1) * len(convergence.RATES) * 2
    assert {trial.way.name for trial in longer} == {"controlnet"}
    # The full run at the chosen rate is the first seed's, not made again.
    again = [trial.name for trial in plans.main_trials(ways, chosen, given) if trial.name in work.done]
    assert len(again) == 2
    assert convergence.settle_rates(ways, given, place, 0.0, work)[0] == chosen  # all is there
    place.file(longer[0]).unlink()
    assert convergence.settle_rates(ways, given, place, 0.0, work) is None
    given.report = True
    assert convergence.settle_rates(ways, given, place, float("inf"), work) is None
    convergence.perform_all(longer, place, 1, float("inf"), work)
    monkeypatch.setattr(convergence, "prepare_worker", lambda: None)
    convergence.perform_all(plans.main_trials(ways, chosen, given), place, 1, float("inf"), work)
    assert convergence.main(["--out", str(tmp_path), "--data", str(tmp_path / "data"), "--report"]) == 0
    assert "not begun to follow by then: ControlNet (copied" in capsys.readouterr().out


def test_with_one_rate_there_is_nothing_to_choose(tmp_path, place):
    given = options(tmp_path, "--rates", "2e-3")
    assert plans.tuning_trials(list(WAYS.values()), given) == []
    assert set(plans.choose_rates(list(WAYS.values()), [], place, given.rates).values()) == {2e-3}


def test_runs_that_are_there_are_not_made_again_and_time_ends_the_rest(tmp_path, place, work):
    trials = plans.main_trials(list(WAYS.values()), dict.fromkeys(WAYS, 1e-3), options(tmp_path))
    assert convergence.perform_all(trials[:3], place, 1, float("inf"), work)
    assert convergence.perform_all(trials[:5], place, 1, float("inf"), work)
    assert work.done == [trial.name for trial in trials[:5]]
    assert not convergence.perform_all(trials, place, 1, 0.0, work)
    assert len(work.done) == 5
    assert convergence.perform(trials[0], place, 0.0)  # it is there, so time does not matter


def test_estimate_learns_from_the_runs_that_are_there(tmp_path, place, work):
    trials = plans.main_trials([WAYS["released"]], {"released": 1e-3}, options(tmp_path))
    blind, by = convergence.estimate(trials, place, 1)
    assert "two busy cores" in by
    assert convergence.estimate(trials, place, 2)[0] == pytest.approx(blind / 2)
    convergence.perform_all(trials[:2], place, 1, float("inf"), work)
    minutes, by = convergence.estimate(trials, place, 1)
    assert minutes == pytest.approx(4)  # four runs of a minute are left
    assert "2 finished runs" in by


def test_a_way_of_ones_own_is_a_row_with_other_fields():
    soft, released = convergence.choose_ways(
        ["soft", "released"], ["soft=recommended,gamma=0.3,injection_point=mid_block,last=0.1"]
    )
    assert (soft.gamma, soft.injection_point, soft.last) == (0.3, "mid_block", 0.1)
    assert soft.subset == WAYS["recommended"].subset
    assert released == WAYS["released"]
    assert [way.name for way in convergence.choose_ways([], [])] == list(WAYS)
    for names, tried, text in (
        (["nothing"], [], "no way 'nothing'"),
        ([], ["soft=nothing"], "NAME=WAY"),
        ([], ["soft=released,colour=1"], "no field 'colour'"),
        ([], ["soft=released,gamma=much"], "gamma of a way is a number"),
    ):
        with pytest.raises(BenchError, match=text):
            convergence.choose_ways(names, tried)


def test_command_reports_what_is_there_and_says_what_is_missing(tmp_path, place, work, monkeypatch, capsys):
    ways = list(WAYS.values())
    given = options(tmp_path, "--seeds", "1")
    arguments = ["--out", str(tmp_path), "--data", str(tmp_path / "data"), "--seeds", "1", "--report"]
    monkeypatch.setattr(convergence, "prepare_worker", lambda: None)
    assert convergence.main(arguments) == 1
    assert "not chosen yet" in capsys.readouterr().err
    tuning = plans.tuning_trials(ways, given)
    convergence.perform_all(tuning, place, 1, float("inf"), work)
    trials = plans.main_trials(ways, plans.choose_rates(ways, tuning, place, given.rates), given)
    convergence.perform_all(trials[:-1], place, 1, float("inf"), work)
    assert convergence.main(arguments) == 1
    captured = capsys.readouterr()
    assert "1 runs are still missing" in captured.err
    assert "## pose: PCK@0.1" in captured.out
    assert "the best of 0.0005, 0.0015, 0.0045" in captured.out
    convergence.perform_all(trials, place, 1, float("inf"), work)
    assert convergence.main(arguments) == 0
    text = (tmp_path / "convergence.md").read_text()
    assert text.count("| ControlNeXt as released | 0.00 | 0.0015 | 0.000 | 0.800 |") == 2
    assert "0 of 1" in text
    figures = json.loads((tmp_path / "convergence.json").read_text())
    assert len(figures["rows"]) == 2 * len(ways)
    assert len(figures["tuning"]) == len(tuning)
    assert all((tmp_path / f"convergence-{name}.png").stat().st_size > 1000 for name in ("pose", "canny"))


@pytest.mark.slow
def test_smoke_trains_every_way_for_real(tmp_path, capsys):
    assert convergence.main(["--smoke", "--out", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert all(way.title in text for way in WAYS.values())
    figures = json.loads((tmp_path / "convergence.json").read_text())
    trained = {row["way"]: row["trained"] for row in figures["rows"]}
    assert trained["recommended"] == trained["zero"] == trained["add"]
    assert trained["released"] < trained["recommended"] < trained["controlnet"]
    assert all(len(run["losses"]) == 3 for run in figures["runs"])
