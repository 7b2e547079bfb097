"""Facts that a figure depends on besides the code: machine, versions, commit, date."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from controlnext.assets import IMPORT_ROOT

PACKAGES = ("torch", "diffusers", "transformers", "peft", "accelerate", "numpy")
_CPU_INFO = Path("/proc/cpuinfo")
_MEMORY = Path("/proc/meminfo")


def machine_facts() -> dict[str, Any]:
    """Return plain data: `date`, `commit`, `processor`, `cores`, `memory_gib`, `gpu`, `system`, `python` and packages."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": _memory(),
        "gpu": _gpu(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def machine_line(facts: dict[str, Any]) -> str:
    """Format the facts as one line."""
    memory = f", {facts['memory_gib']:.0f} GiB" if facts["memory_gib"] else ""
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items() if version)
    return (
        f"{facts['date']}, commit {facts['commit'] or 'unknown'}; {facts['cores']} cores of {facts['processor']}{memory}, "
        f"{facts['gpu'] or 'no GPU'}; {facts['system']}, Python {facts['python']}, {packages}."
    )


def _commit() -> str:
    """Return the short commit, marked if files differ from it; empty outside of a repository."""
    with suppress(OSError, subprocess.SubprocessError):
        made = [
            subprocess.run(
                ["git", *arguments], cwd=IMPORT_ROOT, capture_output=True, text=True, check=True, timeout=20
            ).stdout
            for arguments in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        ]
        return made[0].strip() + (" with changes" if made[1].strip() else "")
    return ""


def _processor() -> str:
    with suppress(OSError, StopIteration):
        lines = _CPU_INFO.read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return platform.processor() or platform.machine()


def _memory() -> float | None:
    with suppress(OSError, StopIteration, ValueError):
        lines = _MEMORY.read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("MemTotal"))) / 2**20
    return None


def _gpu() -> str:
    with suppress(ImportError):
        import torch

        return torch.cuda.get_device_name(0) if torch.cuda.is_available() else ""
    return ""


def _version(name: str) -> str:
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(name)
    return ""
