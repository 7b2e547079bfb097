import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from controlnext.training.config import DataConfig, TrainingError
from controlnext.training.data.rows import BadRow, read_rows, split


def picture(path: Path, size=(64, 64)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "red").save(path)
    return path


def test_bare_folder_takes_captions_beside_pictures_or_the_common_one(tmp_path):
    picture(tmp_path / "b.png")
    picture(tmp_path / "a.JPG")
    (tmp_path / "b.txt").write_text(" a red square \n")
    (tmp_path / "notes.md").write_text("no picture")
    picture(tmp_path / ".hidden.png")
    rows, bad = read_rows(DataConfig(folder=tmp_path, caption="something"))
    assert [(row.name, row.text, row.condition) for row in rows] == [
        ("a.JPG", "something", None),
        ("b.png", "a red square", None),
    ]
    assert bad == []


def test_nested_folders_are_read_without_hidden_ones_runs_and_caches(tmp_path):
    for name in (
        "cats/a.png",
        "cats/deep/b.png",
        "c.png",
        ".trash/d.png",
        "run/validation/e.png",
        "kept/conditions/f.png",
    ):
        picture(tmp_path / name)
    (tmp_path / "cats" / "a.txt").write_text("a cat")
    (tmp_path / "run" / "events.jsonl").write_text("")
    rows, bad = read_rows(DataConfig(folder=tmp_path, cache=tmp_path / "kept"))
    assert [(row.name, row.text) for row in rows] == [("c.png", ""), ("cats/a.png", "a cat"), ("cats/deep/b.png", "")]
    assert bad == []


def test_a_split_is_a_folder_of_its_name(tmp_path):
    for name in ("train/a.png", "test/b.png"):
        picture(tmp_path / name)
    assert [row.name for row in read_rows(DataConfig(folder=tmp_path))[0]] == ["a.png"]
    assert [row.name for row in read_rows(DataConfig(folder=tmp_path, split="test"))[0]] == ["b.png"]
    picture(tmp_path / "c.png")  # pictures of its own: the folders are no splits
    assert [row.name for row in read_rows(DataConfig(folder=tmp_path))[0]] == ["c.png", "test/b.png", "train/a.png"]


def test_each_metadata_file_is_for_its_own_folder_and_may_be_csv(tmp_path):
    for name in ("one/a.png", "two/b.png", "two/edges/b.png", "unnamed.png"):
        picture(tmp_path / name)
    (tmp_path / "one" / "metadata.jsonl").write_text(json.dumps({"file_name": "a.png", "text": "first"}))
    table = 'file_name,text,conditioning_image\nb.png,"second, with a comma",edges/b.png\n,nameless,\n'
    (tmp_path / "two" / "metadata.csv").write_text(table)
    rows, bad = read_rows(DataConfig(folder=tmp_path))
    assert [(row.name, row.text, row.condition) for row in rows] == [
        ("one/a.png", "first", None),
        ("two/b.png", "second, with a comma", tmp_path / "two" / "edges" / "b.png"),
    ]
    assert [row.name for row in bad] == ["two/metadata.csv line 3"]


def test_an_empty_name_and_a_folder_are_no_pictures(tmp_path):
    picture(tmp_path / "sub" / "a.png")
    lines = [{"file_name": ""}, {"file_name": " "}, {"file_name": "sub"}, {"file_name": "sub/a.png", "conditioning_image": "sub"},
             {"file_name": "sub/a.png", "conditioning_image": ""}]  # fmt: skip
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    rows, bad = read_rows(DataConfig(folder=tmp_path))
    assert [(row.name, row.condition) for row in rows] == [("sub/a.png", None)]
    reasons = [row.reason for row in bad]
    assert reasons[0] == reasons[1] == 'It names no picture: write {"file_name": "...", "text": "..."}.'
    assert reasons[2] == reasons[3] == "sub is a folder, not a picture."


def test_clips_lie_in_nested_folders_as_files_or_as_frames(tmp_path):
    for name in ("a/one.mp4", "two/0.png", "two/1.png", "deep/three/0.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    rows, _ = read_rows(DataConfig(folder=tmp_path), video=True)
    assert [row.name for row in rows] == ["a/one.mp4", "deep/three", "two"]


def test_bare_folder_names_what_it_cannot_read_by_ending(tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "notes.md").write_text("no picture")
    (tmp_path / "b.HEIC").write_bytes(b"x")
    assert read_rows(DataConfig(folder=tmp_path))[1] == [
        BadRow("1 file", "An ending such as .HEIC is not read (b.HEIC): save as PNG or JPEG.")
    ]
    for number in range(4):
        (tmp_path / f"c{number}.gif").write_bytes(b"x")
    rows, bad = read_rows(DataConfig(folder=tmp_path))
    assert [row.name for row in rows] == ["a.png"]
    assert bad == [
        BadRow(
            "5 files", "An ending such as .HEIC is not read (b.HEIC, c0.gif, c1.gif and 2 more): save as PNG or JPEG."
        )
    ]
    (tmp_path / "a.png").unlink()
    with pytest.raises(TrainingError, match=r"no pictures to learn from \(5 files: An ending such as \.HEIC"):
        read_rows(DataConfig(folder=tmp_path))
    (tmp_path / "d.braw").write_bytes(b"x")
    rows, bad = read_rows(DataConfig(folder=tmp_path), video=True)
    assert [row.name for row in rows] == [f"c{number}.gif" for number in range(4)]
    assert bad == [BadRow("1 file", "An ending such as .braw is not read (d.braw): save as MP4.")]


def test_captions_of_other_editors_are_read_or_refused_in_a_sentence(tmp_path):
    for name, encoding in (("a", "utf-8-sig"), ("b", "utf-16"), ("c", "latin-1")):
        picture(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text("a café\n", encoding=encoding)
    (tmp_path / "d.png").symlink_to(tmp_path / "gone.png")
    rows, bad = read_rows(DataConfig(folder=tmp_path))
    assert [(row.name, row.text) for row in rows] == [("a.png", "a café"), ("b.png", "a café")]
    assert bad == [
        BadRow("c.png", "Its caption c.txt is not UTF-8 text: save it as UTF-8 text."),
        BadRow("d.png", "d.png cannot be opened (No such file or directory)."),
    ]


def test_metadata_of_programs_that_went_wrong_is_named(tmp_path):
    picture(tmp_path / "a.png")
    lines = [
        {"file_name": "a.png"},
        {"file_name": "a.png", "text": "half an emoji \ud83d"},
        {"file_name": "long" * 100 + ".png"},
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    rows, bad = read_rows(DataConfig(folder=tmp_path))
    assert [row.name for row in rows] == ["a.png"]
    assert [row.name for row in bad] == ["metadata.jsonl line 2", "metadata.jsonl line 3"]
    assert bad[0].reason == "Its text is not text."
    assert bad[1].reason.endswith("cannot be opened (File name too long).")


def test_metadata_names_pictures_texts_and_conditions(tmp_path):
    picture(tmp_path / "sub" / "a.png")
    picture(tmp_path / "c.png")
    lines = [
        {"file_name": "sub/a.png", "text": "one", "conditioning_image": "c.png"},
        {"file_name": "c.png"},
        {"file_name": "gone.png", "text": "x"},
        {"file_name": "c.png", "conditioning_image": "gone too.png"},
        {"text": "nameless"},
        7,
        {"file_name": "c.png", "text": None, "conditioning_image": None},
        {"file_name": "c.png", "text": ["a", "list"]},
        {"file_name": "c.png", "conditioning_image": 3},
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join([*map(json.dumps, lines), "{broken", ""]))
    rows, bad = read_rows(DataConfig(folder=tmp_path, caption="common"))
    assert [(row.name, row.text, row.condition) for row in rows] == [
        ("sub/a.png", "one", tmp_path / "c.png"),
        ("c.png", "common", None),
        ("c.png (line 7)", "common", None),
    ]
    assert [(row.name, row.reason.split("(")[0].strip()) for row in bad] == [
        ("metadata.jsonl line 3", "There is no file gone.png."),
        ("metadata.jsonl line 4", "There is no file gone too.png."),
        ("metadata.jsonl line 5", 'It names no picture: write {"file_name": "...", "text": "..."}.'),
        ("metadata.jsonl line 6", 'It names no picture: write {"file_name": "...", "text": "..."}.'),
        ("metadata.jsonl line 8", "Its text is not text."),
        ("metadata.jsonl line 9", "Its conditioning_image is not text."),
        ("metadata.jsonl line 10", "It is not valid JSON"),
    ]


def test_metadata_of_other_editors_is_read_or_refused_in_a_sentence(tmp_path):
    picture(tmp_path / "a.png")
    line = json.dumps({"file_name": "a.png", "text": "one\u2028two"}, ensure_ascii=False)
    (tmp_path / "metadata.jsonl").write_text(f"{line}\r\n", encoding="utf-8-sig")
    assert [row.text for row in read_rows(DataConfig(folder=tmp_path))[0]] == ["one\u2028two"]
    (tmp_path / "metadata.jsonl").write_text(line, encoding="utf-16")
    with pytest.raises(
        TrainingError, match=r"metadata\.jsonl cannot be read \(it is not UTF-8 text\): save it as UTF-8"
    ):
        read_rows(DataConfig(folder=tmp_path))


def test_a_changed_file_has_another_key(tmp_path):
    file = picture(tmp_path / "a.png")
    before = read_rows(DataConfig(folder=tmp_path))[0][0].key
    picture(file, (96, 64))
    assert read_rows(DataConfig(folder=tmp_path))[0][0].key != before


def test_nothing_to_learn_from_is_said(tmp_path):
    with pytest.raises(TrainingError, match="There is no folder"):
        read_rows(DataConfig(folder=tmp_path / "gone"))
    with pytest.raises(TrainingError, match="holds no pictures to learn from"):
        read_rows(DataConfig(folder=tmp_path))
    with pytest.raises(TrainingError, match="holds no clips or folders of frames"):
        read_rows(DataConfig(folder=tmp_path), video=True)
    (tmp_path / "metadata.jsonl").write_text("{")
    with pytest.raises(TrainingError, match=r"metadata\.jsonl line 1: It is not valid JSON"):
        read_rows(DataConfig(folder=tmp_path))


def test_limit_takes_the_first_rows(tmp_path):
    for name in "abc":
        picture(tmp_path / f"{name}.png")
    assert [row.name for row in read_rows(DataConfig(folder=tmp_path, limit=2))[0]] == ["a.png", "b.png"]


def test_clips_are_files_and_folders_of_frames(tmp_path):
    picture(tmp_path / "walk" / "0.png")
    (tmp_path / "run.mp4").write_bytes(b"x")
    picture(tmp_path / "still.png")
    assert [row.name for row in read_rows(DataConfig(folder=tmp_path), video=True)[0]] == ["run.mp4", "walk"]


def test_a_missing_package_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(TrainingError, match=r"pip install datasets, or give the pictures as data\.folder"):
        read_rows(DataConfig(dataset="owner/name"))


class Table:
    """As much of a `datasets.Dataset` as is read."""

    column_names = ("image", "text", "conditioning_image")
    _fingerprint = "f"

    def __getitem__(self, key):
        if key == "text":
            return ["one", None]
        return {"image": Image.new("RGB", (64 + key, 64)), "conditioning_image": Image.new("RGB", (8, 8))}

    def __len__(self):
        return 2


def test_dataset_rows_are_opened_only_when_they_are_needed(monkeypatch, tmp_path):
    package = SimpleNamespace(
        load_from_disk=lambda place: Table(), load_dataset=lambda name, split: Table(), DatasetDict=dict
    )
    monkeypatch.setitem(sys.modules, "datasets", package)
    for place in (str(tmp_path), "owner/name"):
        rows, _ = read_rows(DataConfig(dataset=place, caption="common"))
        assert [(row.name, row.text) for row in rows] == [("row 0", "one"), ("row 1", "common")]
        assert rows[1].picture().size == (65, 64)
        assert rows[1].condition().size == (8, 8)
        assert rows[0].key != rows[1].key
    with pytest.raises(TrainingError, match=r"no column 'photo', but image, text"):
        read_rows(DataConfig(dataset="owner/name", image_column="photo"))


def test_a_dataset_that_cannot_be_had_is_one_sentence(monkeypatch):
    class GenerationError(Exception):
        """As those of the package: of no common kind."""

    def load(name, split):
        raise GenerationError("An error occurred\nwhile generating")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load))
    with pytest.raises(TrainingError, match=r"'owner/name' cannot be opened \(An error occurred while generating\)"):
        read_rows(DataConfig(dataset="owner/name"))


def test_rows_are_held_out_unless_there_are_too_few():
    learned, shown = split(range(20), 4, 0)
    assert len(shown) == 4
    assert sorted(learned + shown) == list(range(20))
    assert split(range(20), 4, 0) == (learned, shown)
    learned, shown = split(range(6), 4, 0)
    assert learned == list(range(6))
    assert len(shown) == 4
