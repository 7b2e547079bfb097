"""`python -m controlnext bench controls`: how well several controls at once are followed, compared with each alone.

Pictures of held-out scenes are drawn under each control alone and under all of them, read back and judged by every control's
measure, as in `bench starter`. The table also shows what a control does to a measure it was not asked for: what the other
control has to add.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from controlnext.assets import STARTER
from controlnext.bench.command import bench_parser, log_progress, publish
from controlnext.bench.quality.scenes import STEPS, draw, held_out_scenes, judge_all, load_pipeline, renders
from controlnext.bench.tables import markdown
from controlnext.recipes.kinds import KINDS
from controlnext.starter.world.conditions import CONDITIONS

TOGETHER = "together"
RENDERS = "the renders themselves"


def table(runs: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> str:
    """Format the measures of each run as a Markdown table; a measure that was not asked for is in brackets."""

    def cell(run: str, name: str) -> str:
        value = f"{runs[run][name]:.3f}"
        return f"({value})" if run in names and run != name else value

    rows = [[run, *(cell(run, name) for name in names)] for run in runs]
    return markdown(["control", *(f"{name}: {KINDS[name].score}" for name in names)], rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the table; return the exit status."""
    parser = bench_parser("controls", __doc__, scenes=32, gamma=1.0, assets=STARTER)
    parser.add_argument("--controls", choices=CONDITIONS, nargs="+", default=["pose", "depth"], help="two or three")
    options = parser.parse_args(arguments)
    names = list(dict.fromkeys(options.controls))
    if not 2 <= len(names) <= 3:
        parser.error("give two or three different controls")
    log_progress()
    samples, pipeline = held_out_scenes(options.scenes), load_pipeline(options.assets, *names)
    runs = {
        run: judge_all(samples, draw(pipeline, acting, options.gamma, samples, " and ".join(acting)))
        for run, acting in [*((name, [name]) for name in names), (TOGETHER, names)]
    }
    runs[RENDERS] = judge_all(samples, renders(samples))
    figures = {run: {name: values[name] for name in names} for run, values in runs.items()}
    facts = {"scenes": options.scenes, "gamma": options.gamma, "steps": STEPS, "runs": figures}
    return publish(options, facts, table(figures, names))
