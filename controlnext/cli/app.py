"""`python -m controlnext app`, and `app.py` of a checkout: serve the page.

The page is up before torch is imported: the model loads in the background.
"""

from __future__ import annotations

import argparse
import atexit
import importlib.util
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from controlnext.cli.options import (
    LORAS,
    OUTPUTS,
    add_extra_options,
    add_run_options,
    add_word_options,
    extra_folders,
    run_options,
    word_folders,
)
from controlnext.cli.sharing import Sharing, read_auth
from controlnext.cli.terminal import UsageError
from controlnext.errors import ControlNeXtError
from controlnext.held import share_arenas
from controlnext.scratch import Sweeper, own_scratch

if TYPE_CHECKING:
    from controlnext.cli.options import Commands
    from controlnext.studio.studio import Studio
    from controlnext.training.runs.trainings import Trainings
    from controlnext.ui import Page

ON_ZERO_GPU = os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "true", "t")

TERMINATED = 128 + signal.SIGTERM
"""Exit status after a SIGTERM, as shells report it."""

ENDING_SECONDS = 10
"""Seconds that what is at work gets to end."""

logger = logging.getLogger("controlnext")


def add_parser(commands: Commands) -> None:
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
    add_word_options(parser)
    add_extra_options(parser)
    add_run_options(parser)
    parser.add_argument(
        "--auth", action="append", default=[], metavar="USER:PASSWORD",
        help="ask for this name and password (repeatable; also lines of the variable CONTROLNEXT_AUTH)",
    )  # fmt: skip
    parser.add_argument(
        "--allow-training", action="store_true", help="let visitors from elsewhere start, see and stop trainings"
    )
    parser.add_argument(
        "--allow-uploads", action="store_true", help="let visitors from elsewhere add LoRAs to the library"
    )
    parser.add_argument(
        "--mcp", action="store_true", help="also serve the endpoints as MCP tools; needs the extra mcp"
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
        words=word_folders(chosen, chosen.home),
        extras=extra_folders(chosen, chosen.home),
        run_options=run_options(chosen),
    )


def sharing_of(chosen: argparse.Namespace) -> Sharing:
    """Return who reaches the page, and what strangers may do there."""
    return Sharing(
        host=chosen.host or os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1",
        public=chosen.share or os.environ.get("GRADIO_SHARE", "").lower() == "true" or "SPACE_ID" in os.environ,
        password=bool(passwords(chosen)),
        training=chosen.allow_training,
        uploads=chosen.allow_uploads,
    )


def passwords(chosen: argparse.Namespace) -> list[tuple[str, str]] | None:
    """Return the names and passwords that are asked for; None where there are none."""
    return read_auth([*chosen.auth, *os.environ.get("CONTROLNEXT_AUTH", "").splitlines()])


def own_temporary_folder() -> Sweeper:
    """Put all temporary files, Gradio's uploads too, into a folder of this process; return what sweeps it."""
    scratch = own_scratch()
    uploads, drafts = scratch / "uploads", scratch / "drafts"
    uploads = Path(os.environ.setdefault("GRADIO_TEMP_DIR", str(uploads)))
    for folder in (uploads, drafts):
        folder.mkdir(parents=True, exist_ok=True)
    tempfile.tempdir = str(drafts)
    return Sweeper([uploads])


def make_trainings(chosen: argparse.Namespace) -> Trainings | None:
    """Return the trainings of this app; None where strangers may not start any, or a GPU is borrowed for seconds only."""
    from controlnext.training.runs.trainings import Trainings

    if ON_ZERO_GPU or not sharing_of(chosen).may_train:
        return None
    return Trainings(chosen.output_dir / "training", device=chosen.device)


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
    from controlnext.ui.worker import WORK
    from controlnext.ui.zero_gpu import borrowed_streams

    if chosen.mcp and importlib.util.find_spec("mcp") is None:
        raise UsageError('MCP tools need a package that is missing: pip install "gradio[mcp]".')
    sharing = sharing_of(chosen)
    studio = make_studio(chosen)
    streams = borrowed_streams(studio) if ON_ZERO_GPU else {}  # imports `spaces`, which must come before torch
    if ON_ZERO_GPU:
        warm_up(studio)  # a Space has its models in memory before it forks its GPU workers
    page = build_ui(
        studio, **streams, trainings=make_trainings(chosen), local=sharing.here_alone, uploads=sharing.may_upload
    )
    page.queue(max_size=64)
    page.launch(
        server_name=chosen.host,
        server_port=chosen.port,
        share=chosen.share,
        inbrowser=chosen.open,
        auth=passwords(chosen),
        prevent_thread_lock=True,
        mcp_server=chosen.mcp,
        **launch_options(),
    )
    logger.info("Page ready after %.1f s.", time.perf_counter() - begun)
    if chosen.mcp:
        logger.info("MCP tools at %sgradio_api/mcp/", page.local_url)
    if sentence := sharing.sentence():
        logger.warning("%s", sentence)
    if not ON_ZERO_GPU:
        WORK.start(lambda: warm_up(studio), threading.Event(), "warm-up", awaited=False)
    if block:
        page.block_thread()
    return page, studio


def run(chosen: argparse.Namespace) -> int:
    """Serve the page until interrupted; return the exit status."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logger.setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # an orderly end, which lets a training save
    share_arenas()
    status = 0
    try:
        sharing_of(chosen)  # what is wrong with the options is said before anything is made
        own_temporary_folder().start()
        launch(chosen)
    except ControlNeXtError as error:
        logger.error("%s", error)
        status = 1
    except OSError as error:
        logger.debug("The page was not served: %s", error)
        status = 1
        if error.filename is not None:  # a file, and so not the port
            name = Path(os.fsdecode(error.filename)).name
            logger.error(
                "The page cannot be served: %s cannot be used (%s). Check disk and permissions, or install the app again.",
                name,
                error.strerror,
            )
            return status
        where = f"port {chosen.port}" if chosen.port else "any port from 7860 on"
        logger.error(
            "The page cannot be served at %s of %s: it is taken, or the address is not one of this machine. Choose another --port "
            "or --host.", where, chosen.host or "this machine",
        )  # fmt: skip
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    finally:
        _end_work(status)
    return status


def _end_work(status: int) -> None:
    """Let what is at work end; where a step takes longer, end the process before torch is torn down under it."""
    from controlnext.ui.worker import WORK

    if not WORK.end(ENDING_SECONDS):
        atexit._run_exitfuncs()
        logging.shutdown()
        sys.stdout.flush()
        os._exit(status)
