"""`python -m controlnext app`, and `app.py` of a checkout: serve the page.

The page is up before torch is imported: the model loads in the background.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controlnext.cli.options import LORAS, OUTPUTS

if TYPE_CHECKING:
    from controlnext.studio.studio import Studio
    from controlnext.training.runs.runs import Trainings
    from controlnext.ui import Page

ON_ZERO_GPU = os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "true", "t")

logger = logging.getLogger("controlnext")


def add_parser(commands: Any) -> None:  # noqa: ANN401 - argparse keeps the type of its sub-parsers to itself
    """Add the command to the others."""
    parser = commands.add_parser("app", help="serve the page: controlled pictures in the browser")
    add_options(parser, Path())
    parser.set_defaults(run=run)


def add_options(parser: argparse.ArgumentParser, home: Path) -> None:
    """Add the options; results and LoRAs are in folders of `home` by default."""
    parser.add_argument(
        "--host", help="address to listen on; 0.0.0.0 lets other machines in (default: this one alone)"
    )
    parser.add_argument("--port", type=int, help="port to listen on (default: the first free one from 7860)")
    parser.add_argument("--share", action="store_true", help="ask gradio.live for a public link; needs the network")
    parser.add_argument(
        "--output-dir", type=Path, default=home / OUTPUTS, help=f"where pictures go (default: {OUTPUTS}/)"
    )
    parser.add_argument(
        "--loras", type=Path, action="append", default=[], metavar="DIR", help="one more folder of LoRAs (repeatable)"
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps ... (default: the best there is)")
    parser.add_argument("--threads", type=int, help="processor threads for the model (default: the studio's choice)")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    parser.set_defaults(home=home)


def options(arguments: Sequence[str] | None = None, home: Path = Path()) -> argparse.Namespace:
    """Read the command line of `app.py`, whose results and LoRAs are in folders of `home` by default."""
    parser = argparse.ArgumentParser(
        prog="app.py", description="ControlNeXt Studio: controlled pictures in the browser."
    )
    add_options(parser, home)
    return parser.parse_args(arguments)


def make_studio(chosen: argparse.Namespace) -> Studio:
    """Return the studio; it loads nothing yet."""
    import annotators
    from controlnext.studio.studio import Studio

    return Studio(
        output_dir=chosen.output_dir,
        lora_dirs=[chosen.home / LORAS, *chosen.loras],
        device=chosen.device,
        annotators=annotators,
        threads=chosen.threads,
    )


def served_here_alone(chosen: argparse.Namespace) -> bool:
    """Whether only this machine reaches the page; then it may name folders of the disk."""
    host = chosen.host or os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1"
    public = chosen.share or os.environ.get("GRADIO_SHARE", "").lower() == "true" or "SPACE_ID" in os.environ
    return host in ("127.0.0.1", "localhost", "::1") and not public


def make_trainings(chosen: argparse.Namespace) -> Trainings | None:
    """Return the trainings of this app; None where a GPU is borrowed for seconds only."""
    from controlnext.training.runs.runs import Trainings

    return None if ON_ZERO_GPU else Trainings(chosen.output_dir / "training", device=chosen.device)


def warm_up(studio: Studio) -> None:
    """Load the default model, in the background; why it cannot be loaded is logged, and said in the page."""
    begun = time.perf_counter()
    try:
        studio.warm_up()
    except Exception as error:
        logger.exception("The model did not load: %s", error)
    if studio.ready:
        logger.info("Model ready after %.1f s more.", time.perf_counter() - begun)


def launch(chosen: argparse.Namespace, *, block: bool = True) -> tuple[Page, Studio]:
    """Start the page, then load the model behind it.

    Args:
        chosen: The options.
        block: Stay until interrupted; tests do not.
    """
    begun = time.perf_counter()
    from controlnext.ui import build_ui, launch_options
    from controlnext.ui.zero_gpu import borrowed_streams

    studio = make_studio(chosen)
    streams = borrowed_streams(studio) if ON_ZERO_GPU else {}  # imports `spaces`, which must come before torch
    if ON_ZERO_GPU:
        warm_up(studio)  # a Space has its models in memory before it forks its GPU workers
    page = build_ui(studio, **streams, trainings=make_trainings(chosen), local=served_here_alone(chosen))
    page.queue(max_size=64)
    page.launch(
        server_name=chosen.host,
        server_port=chosen.port,
        share=chosen.share,
        inbrowser=chosen.open,
        prevent_thread_lock=True,
        **launch_options(),
    )
    logger.info("Page ready after %.1f s.", time.perf_counter() - begun)
    if not ON_ZERO_GPU:
        threading.Thread(target=warm_up, args=(studio,), name="warm-up", daemon=True).start()
    if block:
        page.block_thread()
    return page, studio


def run(chosen: argparse.Namespace) -> int:
    """Serve the page until interrupted; return the exit status."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logger.setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an orderly end, which lets a training save
    try:
        launch(chosen)
    except OSError as error:  # the port is taken
        logger.error("The page cannot be served: %s", error)
        return 1
    return 0
