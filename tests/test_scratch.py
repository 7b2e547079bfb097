"""Temporary folders: of one user, emptied by the next process, swept by use and size."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from controlnext.scratch import ScratchError, Sweeper, own_scratch, sweep, touch

ROOT = Path(__file__).parent.parent
MAKE = "import sys, time; from pathlib import Path; from controlnext.scratch import own_scratch; print(own_scratch(Path(sys.argv[1])), flush=True); {}"


def started(base: Path, then: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", MAKE.format(then), base], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def file(folder: Path, name: str, size: int, age: float) -> Path:
    path = folder / name / "file.bin"
    path.parent.mkdir()
    path.write_bytes(b"x" * size)
    return aged(path, age)


def aged(path: Path, age: float) -> Path:
    then = time.time() - age
    os.utime(path, (then, then))
    os.utime(path.parent, (then, then))
    return path


def test_own_scratch_belongs_to_the_user_alone(tmp_path):
    folder = own_scratch(tmp_path)
    assert folder.parent.stat().st_mode & 0o077 == 0
    assert folder.stat().st_mode & 0o077 == 0


def test_a_process_that_ends_takes_its_folder_along(tmp_path):
    done = started(tmp_path, "pass")
    folder = Path(done.stdout.readline().strip())
    done.wait()
    assert folder.parent.parent == tmp_path
    assert not folder.exists()


def test_the_folder_of_a_killed_process_goes_and_that_of_a_running_one_stays(tmp_path):
    killed, running = (started(tmp_path, "time.sleep(60)") for _ in range(2))
    left, used = (Path(one.stdout.readline().strip()) for one in (killed, running))
    try:
        killed.kill()
        killed.wait()
        assert left.is_dir()
        own_scratch(tmp_path)
        assert not left.exists()
        assert used.is_dir()
    finally:
        running.kill()
        running.wait()


def test_a_name_that_another_user_took_is_left_alone(tmp_path):
    taken = tmp_path / f"controlnext-{os.getuid()}"
    target = tmp_path / "elsewhere"
    target.mkdir()
    taken.symlink_to(target)
    folder = own_scratch(tmp_path)
    assert taken not in folder.parents
    assert not list(target.iterdir())


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ScratchError, match="TMPDIR") as caught:
        own_scratch(tmp_path / "file" / "below")
    assert str(tmp_path) not in str(caught.value)


def test_sweep_removes_the_old_and_then_the_least_recently_used(tmp_path):
    for name, age in (("ancient", 5000), ("old", 900), ("newer", 600), ("fresh", 1)):
        file(tmp_path, name, 1000, age)
    size = 1000 + (tmp_path / "fresh").stat().st_size
    kept = sweep(tmp_path, most_bytes=2 * size, oldest=3600, fresh=10)
    assert {path.name for path in tmp_path.iterdir()} == {"newer", "fresh"}
    assert (kept.entries, kept.nbytes, kept.removed) == (2, 2 * size, 2)


def test_sweep_keeps_what_is_fresh_however_large(tmp_path):
    file(tmp_path, "a", 1000, 0)
    file(tmp_path, "b", 1000, 0)
    assert sweep(tmp_path, most_bytes=10, oldest=3600, fresh=60).entries == 2


def test_the_sweeper_keeps_what_was_there_at_the_start(tmp_path):
    file(tmp_path, "example", 10, 0)
    sweeper = Sweeper([tmp_path, tmp_path / "nothing"])
    later = file(tmp_path, "upload", 10, 0)
    assert sweeper.sweep()[tmp_path].entries == 1
    touch(later)
    touch(tmp_path / "gone")
    assert (tmp_path / "example").is_dir()
