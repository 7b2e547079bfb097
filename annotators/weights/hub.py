"""Weights from the Hugging Face hub: found on disk without any import, fetched only on request.

A repository is looked for as a plain folder `models/<owner>--<name>` under `fetch.cache_folder()` (for files carried over by
hand), then in the hub's own cache.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from annotators.base import Availability, BackendMissing
from annotators.weights.fetch import COMMAND, cache_folder


@dataclass(frozen=True)
class WeightsRepo:
    """A repository and the files of it that are needed.

    Attributes:
        id: `owner/name`.
        files: names that must all be there.
        weights: names of which one must be there, best first.
        megabytes: size of all that.
        word: what to type after `python -m annotators fetch`.
    """

    id: str
    files: tuple[str, ...]
    weights: tuple[str, ...]
    megabytes: int
    word: str

    @property
    def command(self) -> str:
        """The command that fetches it."""
        return f"{COMMAND} {self.word}"


def find(repo: WeightsRepo) -> Path | None:
    """Return the folder on the disk that holds the repository's files, or None."""
    candidates = [cache_folder() / "models" / repo.id.replace("/", "--"), *_snapshots(repo)]
    return next((folder for folder in candidates if _complete(folder, repo)), None)


def _complete(folder: Path, repo: WeightsRepo) -> bool:
    has_weights = not repo.weights or any((folder / name).is_file() for name in repo.weights)
    return has_weights and all((folder / name).is_file() for name in repo.files)


def _snapshots(repo: WeightsRepo) -> list[Path]:
    """Folders of the repository's snapshots in the hub's cache, the one that `main` points to first."""
    root = hub_cache() / f"models--{repo.id.replace('/', '--')}"
    try:
        main = (root / "refs" / "main").read_text(encoding="utf-8").strip()
        snapshots = sorted(path for path in (root / "snapshots").iterdir() if path.is_dir())
    except OSError:
        return []
    return sorted(snapshots, key=lambda path: path.name != main)


def hub_cache() -> Path:
    """Return the hub's cache folder, by the environment variables `huggingface_hub` documents."""
    if folder := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(folder).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("HF_HOME") or f"{cache}/huggingface").expanduser() / "hub"


def check(repo: WeightsRepo) -> Availability:
    """Return whether the repository's files are on disk."""
    if find(repo) is not None:
        return Availability(usable=True)
    return Availability(
        usable=False,
        reason=f"{repo.id} ({repo.megabytes} MB, Hugging Face hub) is not on this machine; fetch it with: {repo.command}.",
    )


def require(repo: WeightsRepo) -> Path:
    """Return the repository's folder.

    Raises:
        BackendMissing: it is not on the disk.
    """
    folder = find(repo)
    if folder is None:
        raise BackendMissing(check(repo).reason)
    return folder


def fetch(repo: WeightsRepo) -> None:
    """Download the repository's files into the hub's cache; call it only on a person's request.

    Raises:
        BackendMissing: it could not be downloaded.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    try:
        for name in repo.files:
            hf_hub_download(repo.id, name)
        for name in repo.weights:
            try:
                hf_hub_download(repo.id, name)
                break
            except EntryNotFoundError:
                if name == repo.weights[-1]:
                    raise
    except (OSError, HfHubHTTPError, ValueError) as error:
        raise BackendMissing(
            f"{repo.id} ({repo.megabytes} MB) could not be downloaded from the Hugging Face hub. Connect to a network and run "
            f"{repo.command}, or copy its files into {Path('models') / repo.id.replace('/', '--')} under the cache folder."
        ) from error
