import json
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from controlnext.errors import ControlNeXtError
from controlnext.progress import Cancelled
from controlnext.studio.batch import Ledger, Made, run_jobs
from controlnext.studio.batch_jobs import BatchError, read_jobs


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(tmp_path / "out")
    ledger.begin()
    return ledger


def make(job, seed, folder):
    """Write one picture, and a line into a diary of who ran what."""
    folder.mkdir(parents=True)
    path = folder / "result.png"
    Image.new("RGB", (2, 2)).save(path)
    with (folder.parent / "diary").open("a") as diary:
        diary.write(f"{job.label}\n")
    return Made([path], [seed], {"recipe": {"prompt": job.values.get("prompt", "")}})


def diary(ledger):
    path = ledger.folder / "diary"
    return Counter(path.read_text().splitlines()) if path.exists() else Counter()


def manifest(ledger):
    return [json.loads(line) for line in (ledger.output / "manifest.jsonl").read_text().splitlines()]


def results(ledger):
    return sorted(path.name for path in ledger.output.glob("*.png"))


def quiet(line):
    pass


def test_every_job_is_done_once_and_a_repetition_does_nothing(pictures, ledger):
    jobs = read_jobs(pictures, {"prompt": "x"})
    assert run_jobs(jobs, ledger, make, tell=quiet).done == 6
    first = results(ledger)
    assert len(first) == 6
    assert all(name.startswith("photo_") for name in first)
    assert [row["job"] for row in manifest(ledger)] == [job.label for job in jobs]
    assert sorted(name for row in manifest(ledger) for name in row["files"]) == first
    again = run_jobs(jobs, ledger, make, tell=quiet)
    assert (again.done, again.skipped, results(ledger)) == (0, 6, first)
    assert set(diary(ledger).values()) == {1}
    assert not list(ledger.folder.glob("*.lock"))


def test_a_new_picture_and_a_changed_prompt_are_new_jobs(pictures, ledger):
    run_jobs(read_jobs(pictures, {}), ledger, make, tell=quiet)
    Image.new("RGB", (4, 4), (9, 9, 9)).save(pictures / "photo 2.png")
    assert run_jobs(read_jobs(pictures, {}), ledger, make, tell=quiet).done == 1
    assert run_jobs(read_jobs(pictures, {"prompt": "y"}), ledger, make, tell=quiet).done == 6


def failing(labels, error):
    def run(job, seed, folder):
        if job.label in labels:
            raise error
        return make(job, seed, folder)

    return run


@pytest.mark.parametrize("error", [ControlNeXtError("Too dark."), KeyError("a fault of the program")])
def test_bad_rows_are_named_skipped_and_tried_again(pictures, ledger, error):
    jobs = read_jobs(pictures, {})
    bad = ("photo 1.png", "photo 4.png")
    summary = run_jobs(jobs, ledger, failing(bad, error), tell=quiet)
    assert (summary.done, summary.failed) == (4, [(label, str(error)) for label in bad])
    assert len(manifest(ledger)) == 4
    repeated = Ledger(ledger.output)
    time.sleep(0.02)  # a later run, by the clock of the disk
    repeated.begin()
    assert run_jobs(jobs, repeated, make, tell=quiet).done == 2
    assert not list(ledger.folder.glob("*.failed"))


def test_it_gives_up_after_too_many_failures(pictures, ledger):
    jobs = read_jobs(pictures, {})
    labels = [job.label for job in jobs]
    summary = run_jobs(jobs, ledger, failing(labels, ControlNeXtError("No.")), max_errors=2, tell=quiet)
    assert (summary.gave_up, len(summary.failed), summary.done) == (True, 3, 0)
    ledger.started = time.time() + 1
    assert (
        run_jobs(jobs, ledger, failing(labels[:2], ControlNeXtError("No.")), max_errors=2, tell=quiet).gave_up is False
    )


@pytest.mark.parametrize("how", ["cancelled", "half"])
def test_a_stop_leaves_the_job_for_the_next_run(pictures, ledger, how):
    jobs, cancel = read_jobs(pictures, {}), threading.Event()

    def stopping(job, seed, folder):
        made = make(job, seed, folder)
        if job.label != "photo 2.png":
            return made
        cancel.set()
        if how == "cancelled":
            raise Cancelled("Stopped.")
        return Made(made.files, made.seeds, {}, stopped=True)

    summary = run_jobs(jobs, ledger, stopping, cancel=cancel, tell=quiet)
    assert (summary.stopped, summary.done, summary.failed) == (True, 2, [])
    assert len(results(ledger)) == 2
    assert not list(ledger.folder.glob("work-*"))
    assert run_jobs(jobs, ledger, make, tell=quiet).done == 4
    assert len(results(ledger)) == 6


def test_models_are_taken_one_after_the_other(tmp_path, ledger):
    rows = tmp_path / "jobs.jsonl"
    rows.write_text("".join(f'{{"model": "{name}", "prompt": "{index}"}}\n' for index, name in enumerate("abab")))
    run_jobs(read_jobs(rows, {}), ledger, make, tell=quiet)
    assert list(diary(ledger)) == ["line 1", "line 3", "line 2", "line 4"]


def test_a_job_that_another_holds_is_left_to_it(pictures, ledger):
    jobs = read_jobs(pictures, {})
    with Ledger(ledger.output).claim(jobs[3].digest()) as claimed:
        assert claimed
        assert run_jobs(jobs, ledger, make, tell=quiet).done == 5
    assert "photo 3.png" not in diary(ledger)
    assert run_jobs(jobs, ledger, make, tell=quiet).done == 1


def test_without_locks_each_keeps_to_its_share(pictures, ledger):
    ledger.locks = False
    jobs = read_jobs(pictures, {})
    assert run_jobs(jobs, ledger, make, share=(1, 2), tell=quiet).done == 3
    assert set(diary(ledger)) == {"photo 1.png", "photo 3.png", "photo 5.png"}


def test_one_process_takes_over_what_another_left(pictures, ledger):
    jobs = read_jobs(pictures, {})
    assert run_jobs(jobs, ledger, make, share=(0, 2), tell=quiet).done == 6
    assert run_jobs(jobs, ledger, make, share=(1, 2), tell=quiet).skipped == 3


def test_an_output_that_cannot_be_written_to_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BatchError, match="cannot be written to"):
        Ledger(tmp_path / "file").begin()


def work(pictures: Path, output: Path, rank: int, dies: bool, second) -> None:
    """What one of two processes does; one may die in the middle of its second job, with a picture written.

    The first waits for that with its own first job, so that it cannot do everything before the other has started.
    """
    ledger = Ledger(output)
    ledger.begin()
    count = 0

    def slow(job, seed, folder):
        nonlocal count
        made = make(job, seed, folder)
        count += 1
        if rank == 0:
            second.wait(60)
        elif count == 2:
            second.set()
            if dies:
                os.kill(os.getpid(), signal.SIGKILL)
        return made

    run_jobs(read_jobs(pictures, {}), ledger, slow, share=(rank, 2), tell=quiet)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a system that can kill")
@pytest.mark.parametrize("dies", [False, True])
def test_two_processes_do_every_job_once_and_lose_none(pictures, ledger, dies):
    context = multiprocessing.get_context("fork")
    second = context.Event()
    processes = [context.Process(target=work, args=(pictures, ledger.output, rank, dies, second)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, -signal.SIGKILL if dies else 0]
    run_jobs(read_jobs(pictures, {}), ledger, make, tell=quiet)
    assert (len(manifest(ledger)), len(results(ledger))) == (6, 6)
    assert sorted(name for row in manifest(ledger) for name in row["files"]) == results(ledger)
    # Only the job whose process died in the middle was begun twice.
    assert sorted(diary(ledger).values()) == [1] * (5 if dies else 6) + [2] * dies
    assert not list(ledger.folder.glob("work-*"))
