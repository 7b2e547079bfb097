import pytest

from controlnext.studio.batch_jobs import BatchError, Job, read_jobs


def test_a_folder_is_a_job_for_each_picture(pictures):
    jobs = read_jobs(pictures, {"prompt": "x"})
    assert [job.label for job in jobs] == [f"photo {index}.png" for index in range(6)]
    assert all(job.values == {"prompt": "x"} for job in jobs)
    assert len({job.digest() for job in jobs}) == 6


def test_a_line_wins_over_the_common_values(pictures, tmp_path):
    rows = tmp_path / "jobs.jsonl"
    rows.write_text(
        '{"image": "pictures/photo 1.png", "prompt": "é"}\n\n{"prompt": "words"}\n[1]\n{"image": 3}\nno json\n',
        encoding="utf-8",
    )
    jobs = read_jobs(rows, {"prompt": "common", "seed": 4})
    assert [job.label for job in jobs] == ["line 1 (photo 1.png)", "line 3", "line 4", "line 5", "line 6"]
    assert jobs[0].image == pictures / "photo 1.png"
    assert jobs[0].values == {"prompt": "é", "seed": 4}
    assert (jobs[1].image, jobs[1].values) == (None, {"prompt": "words", "seed": 4})
    problems = [job.problem for job in jobs[2:]]
    assert [text in problem for text, problem in zip(("object", "name of a file", "JSON"), problems, strict=True)] == [
        True
    ] * 3


@pytest.mark.parametrize(
    ("name", "says"), [("missing.jsonl", "No such file"), ("empty.jsonl", "no jobs"), ("folder", "no jobs")]
)
def test_no_jobs_is_a_sentence(tmp_path, name, says):
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "folder").mkdir()
    with pytest.raises(BatchError, match=says):
        read_jobs(tmp_path / name, {})


def test_digests_follow_picture_values_and_repetition(pictures, tmp_path):
    image = pictures / "photo 0.png"
    job = Job("a", 0, image, {"prompt": "x"})
    same = Job("another label", 5, image, {"prompt": "x"})
    assert job.digest() == same.digest()
    others = [
        Job("a", 0, image, {"prompt": "y"}),
        Job("a", 0, None, {"prompt": "x"}),
        Job("a", 0, image, {"prompt": "x"}, 1),
    ]
    before = job.digest()
    image.write_bytes((pictures / "photo 1.png").read_bytes())
    assert len({before, job.digest(), *(other.digest() for other in others)}) == 5
    rows = tmp_path / "jobs.jsonl"
    rows.write_text('{"prompt": "x"}\n{"prompt": "x"}\n')
    assert len({job.digest() for job in read_jobs(rows, {})}) == 2


def test_a_changed_picture_of_a_further_control_is_a_new_job(pictures):
    first, second = pictures / "photo 0.png", pictures / "photo 1.png"
    (alone, *_), (job, *_), (other, *_) = (
        read_jobs(pictures, {"prompt": "x"}, further) for further in ({}, {"depth": second}, {"pose": second})
    )
    assert job.image == first
    assert Job("a", 0, first, {"prompt": "x"}).digest() == alone.digest()
    before = job.digest()
    assert len({alone.digest(), before, other.digest()}) == 3
    second.write_bytes((pictures / "photo 2.png").read_bytes())
    assert job.digest() != before
    second.unlink()
    assert job.digest() not in (before, alone.digest())
