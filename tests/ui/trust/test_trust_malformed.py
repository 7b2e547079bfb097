"""Every malformed request of the list is refused in one short sentence, and the app draws the same picture afterwards."""

from __future__ import annotations

import pytest

from controlnext.bench.trust.cases import Case, cases
from controlnext.bench.trust.malformed import REFUSED, Sender, event_cases

CASES = list(cases())


@pytest.fixture(scope="module")
def sender(poster):
    made = Sender(poster)
    before = made.drawn()
    yield made
    assert made.drawn() == before


def test_the_list_is_long_and_names_every_parameter_once(poster):
    assert len(CASES) >= 300
    assert len({case.name for case in CASES}) == len(CASES)
    named = {(case.target, name) for case in CASES for name in case.change}
    for endpoint, parameters in poster.parameters().items():
        assert {(endpoint, name) for name, _ in parameters} <= named


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_malformed_request_is_refused_in_one_sentence(sender, case: Case):
    outcome = sender.outcome(case)
    assert outcome.verdict in (REFUSED, "too slow"), outcome  # the time is what the bench measures


def test_every_event_of_the_page_refuses_what_its_fields_cannot_hold(sender):
    outcomes = [sender.event_outcome(*one) for one in event_cases(sender.events)]
    assert len(outcomes) >= 300
    assert [outcome for outcome in outcomes if outcome.verdict not in (REFUSED, "too slow")] == []


@pytest.mark.parametrize("only", ["annotate settings: name"])
def test_the_bench_prints_its_figures(poster, capsys, only):
    from controlnext.bench.trust.malformed import main

    assert main(["--url", poster.url, "--only", only]) == 0
    assert "| refused in a sentence | 1 |" in " ".join(capsys.readouterr().out.split()).replace("| 1 | all", "| 1 |")
