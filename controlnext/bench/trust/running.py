"""An app of its own for a bench: started on a free port with scratch folders, watched, and ended."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from controlnext.assets import IMPORT_ROOT
from controlnext.bench.command import BenchError
from controlnext.bench.cost.startup import free_port
from controlnext.bench.trust.client import RawClient

START_SECONDS = 180.0


def _limit(limits: Mapping[int, int]) -> None:
    import resource

    for kind, most in limits.items():
        resource.setrlimit(kind, (most, most))


class RunningApp:
    """`python -m controlnext app` as a process of its own."""

    def __init__(
        self,
        folder: Path,
        options: Sequence[str] = (),
        *,
        environment: Mapping[str, str] | None = None,
        port: int | None = None,
        limits: Mapping[int, int] | None = None,
        package: Path = IMPORT_ROOT,
        outputs: Path | None = None,
    ) -> None:
        """Start it and do not wait.

        Args:
            folder: scratch; results go to `outputs` in it, its log to `app.log`.
            options: further options of the command.
            environment: variables that are set for it.
            port: to listen on; None takes a free one.
            limits: of `resource`, by kind.
            package: folder that holds the `controlnext` to run.
            outputs: where results go instead.
        """
        self.folder, self.port = folder, port or free_port()
        self.outputs, self.log, self.temporary = outputs or folder / "outputs", folder / "app.log", folder / "tmp"
        self.temporary.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "controlnext", "app", "--port", str(self.port)]
        command += ["--output-dir", str(self.outputs), *options]
        values = {**os.environ, "PYTHONPATH": str(package), "TMPDIR": str(self.temporary), **(environment or {})}
        values.pop("GRADIO_TEMP_DIR", None)
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env=values,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: _limit(limits or {}),
            )
        self.client = RawClient(f"http://127.0.0.1:{self.port}", timeout=300)

    def wait_for_page(self) -> RunningApp:
        """Wait until the page answers.

        Raises:
            BenchError: it ended, or does not answer in time.
        """
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise BenchError(f"The app ended with status {self.process.returncode}: {self.last_words()}")
            try:
                if self.client.http.get(f"{self.client.url}/config").status_code == 200:
                    return self
            except httpx.HTTPError:
                pass
            time.sleep(0.2)
        raise BenchError(f"The page did not answer within {START_SECONDS:g} s: {self.last_words()}")

    def resident_bytes(self) -> int:
        """Return the memory of the process that is resident, in bytes.

        Raises:
            BenchError: the system does not tell.
        """
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
            return 1024 * int(re.search(r"VmRSS:\s+(\d+)", status).group(1))
        except (OSError, AttributeError) as error:
            raise BenchError(
                "Resident memory is read from /proc, which this system lacks: run this bench on Linux."
            ) from error

    def kept(self) -> tuple[int, int]:
        """Return how many files lie in the temporary folder, and their bytes."""
        files = [path for path in self.temporary.rglob("*") if path.is_file()]
        return len(files), sum(path.stat().st_size for path in files if path.exists())

    def last_words(self) -> str:
        """Return the last line of its log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else "it printed nothing."

    def end(self, seconds: float = 30.0) -> int:
        """Ask it to end, and return its exit status; one that does not end is killed."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.process.returncode

    def kill(self) -> None:
        """Kill it, and what it has started, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def __enter__(self) -> RunningApp:
        """Wait for the page."""
        try:
            return self.wait_for_page()
        except BenchError:
            self.kill()
            raise

    def __exit__(self, *error: object) -> None:
        """End it."""
        self.end()
