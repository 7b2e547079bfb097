"""`python -m controlnext bench gpu`: seconds and peak memory of a step on a GPU, all families in one run.

SD1.5, SDXL and SVD at their real sizes with random weights: the base alone, ControlNeXt at the first, another and the same
timestep, ControlNet and T2I-Adapter, in turn round after round; see `bench overhead`. On a repeated condition ControlNeXt may
take at most 1.05 times the base's seconds. Without a GPU it says so; `--device cpu --family starter` runs it small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from controlnext.bench.command import BenchError, bench_parser, publish, whole
from controlnext.bench.cost.base_models import BENCH_MODELS, SIZE_STEP, get_model

REAL = ("sd15", "sdxl", "svd")
"""Families that are measured by default."""
MOST = 1.05
"""Seconds of a step on a repeated condition, times the base alone."""
REPEATED = "again"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return 0, or 1 if a family takes more than `MOST`."""
    parser = bench_parser("gpu", __doc__, threads=None)
    parser.add_argument(
        "--family", action="append", choices=BENCH_MODELS, metavar="FAMILY",
        help=f"repeatable (default: {', '.join(REAL)}); one of {', '.join(BENCH_MODELS)}",
    )  # fmt: skip
    parser.add_argument(
        "--size", type=whole(SIZE_STEP, SIZE_STEP), help="short side in pixels (default: each family's own)"
    )
    parser.add_argument("--rounds", type=whole(), default=5, help="times each step is measured")
    parser.add_argument("--compile", action="store_true", help="also measure with torch.compile")
    parser.add_argument("--device", help="cuda, cuda:1 or mps (default: the best there is); cpu where it is named")
    options = parser.parse_args(arguments)

    from controlnext.bench.cost.seconds import Timed, table, time_steps
    from controlnext.device import choose_device, release_memory

    device = choose_device(options.device)
    if device.name == "cpu" and options.device is None:
        raise BenchError(
            "There is no GPU here to measure; run it where one is, or with --device cpu --family starter for a small trial."
        )
    texts: list[str] = []
    found: dict[str, list[Timed]] = {}
    for name in options.family or REAL:
        model = get_model(name)
        rows = time_steps(model, device, rounds=options.rounds, size=options.size, compiled=options.compile)
        found[name] = rows
        texts.append(table(model, rows, device, options.size))
        release_memory()  # one family's networks make room for the next
    ratios = {name: next(row.ratio for row in rows if row.name == REPEATED) for name, rows in found.items()}
    texts += [
        f"{name}: {ratio:.3f} times the base on a repeated condition, at most {MOST}: {'met' if ratio <= MOST else '**not met**'}."
        for name, ratio in ratios.items()
    ]
    figures = {
        name: {"steps": [asdict(row) for row in rows], "met": ratios[name] <= MOST} for name, rows in found.items()
    }
    return publish(options, figures, "\n".join(texts), passed=all(ratio <= MOST for ratio in ratios.values()))
