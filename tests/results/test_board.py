import os
import shutil

import numpy as np
import pytest
from PIL import Image

from controlnext.recipes.recipe import Recipe
from controlnext.recipes.sweep_plan import SweepAxis, SweepError, SweepPlan
from controlnext.recipes.video_recipe import VideoRecipe
from controlnext.results.board import Board, BoardQuery, differences
from controlnext.results.gallery import Gallery, GalleryError
from controlnext.results.saved_sweeps import FOLDER, PLAN, TABLE
from controlnext.results.sweep_table import SweepTable, SweptCell
from controlnext.video import write_video

SWEEP = f"{FOLDER}/gamma-1f"
PROMPTS = ("a red shirt on snow", "a blue shirt on grass", "a red hat at night")


def picture(seed=0, size=(40, 32)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


@pytest.fixture
def board(tmp_path):
    """Three pictures with scores 0.1, none and 0.9, an MP4 with a recipe, and a picture of another program."""
    gallery = Gallery(tmp_path)
    for index, (prompt, score) in enumerate(zip(PROMPTS, (0.1, None, 0.9), strict=True)):
        recipe = Recipe(seed=index, prompt=prompt, annotator="pose")
        path = gallery.save(picture(index), recipe, facts=None if score is None else {"adherence": score})
        os.utime(path, (1000 + index,) * 2)
    recipe = VideoRecipe(seed=5, prompt="a dance")
    contents = {"controlnext": recipe.model_dump(mode="json"), "controlnext:result": {"adherence": 0.5}}
    frames = [np.full((32, 32, 3), 200, np.uint8)] * 3
    write_video(tmp_path / "2026-01-01_00-00-00_5.mp4", frames, 8.0, contents=contents)
    write_video(tmp_path / "2026-01-01_00-00-00_5.beside.mp4", frames, 8.0)
    os.utime(tmp_path / "2026-01-01_00-00-00_5.mp4", (500, 500))
    picture(9).save(tmp_path / "foreign.png")
    os.utime(tmp_path / "foreign.png", (1, 1))
    (tmp_path / "notes.txt").write_text("no picture")
    return Board(gallery)


@pytest.fixture
def swept(board):
    """The same with a sweep of gamma, of whose three cells the last is not made yet."""
    folder = board.gallery.output_dir / SWEEP
    plan = SweepPlan(Recipe(seed=3, prompt="a green coat", annotator="pose"), (SweepAxis("gamma", (0, 0.5, 1)),))
    cells = []
    for column, cell in enumerate(plan.cells()):
        path = Gallery(folder).save(picture(column), cell.recipe) if column < 2 else None
        facts = {"file": path, "seed": 3, "adherence": 0.2 + column / 2, "distance": 0.1} if path else {}
        cells.append(SweptCell(column, 0, cell.values, "done" if path else "left", **facts))
    (folder / PLAN).write_text(plan.to_json())
    (folder / TABLE).write_text(SweepTable(plan.axes, tuple(cells)).csv())
    os.utime(folder / TABLE, (2000, 2000))
    return board


def seeds(page):
    return [None if item.recipe is None else item.recipe.seed for item in page.items]


def test_results_are_listed_by_time_and_read_once(board):
    assert Board(Gallery(board.gallery.output_dir / "none yet")).page(BoardQuery()).found == 0
    page = board.page(BoardQuery())
    assert (seeds(page), page.found, page.unread) == ([2, 1, 0, 5, None], 5, 0)
    assert seeds(board.page(BoardQuery(order="oldest"))) == [None, 5, 0, 1, 2]
    assert seeds(board.page(BoardQuery(), start=1, count=2)) == [1, 0]
    assert page.items[0] is board.page(BoardQuery()).items[0]
    page.items[0].path.unlink()
    assert board.page(BoardQuery()).found == 4


def test_a_changed_file_is_read_again(board):
    item = board.page(BoardQuery()).items[0]
    other = board.gallery.save(picture(7), Recipe(seed=77))
    other.replace(item.path)
    os.utime(item.path, (2000, 2000))
    assert seeds(board.page(BoardQuery()))[0] == 77


def test_pictures_and_videos_alone(board):
    assert seeds(board.page(BoardQuery(kind="video"))) == [5]
    assert seeds(board.page(BoardQuery(kind="picture"))) == [2, 1, 0, None]


@pytest.mark.parametrize(
    ("words", "found"), [("red", [2, 0]), ("SHIRT red", [0]), ("pose", [2, 1, 0, 5]), ("starter-video", [5]), ("no such", [])]
)  # fmt: skip
def test_every_word_must_stand_in_the_recipe(board, words, found):
    board.page(BoardQuery(words=words))
    board.wait()
    page = board.page(BoardQuery(words=words))
    assert (seeds(page), page.unread) == (found, 0)


def test_the_best_adherence_comes_first_and_none_last(board):
    board.page(BoardQuery(order="adherence"))
    board.wait()
    page = board.page(BoardQuery(order="adherence"))
    assert [item.score for item in page.items] == [0.9, 0.5, 0.1, None, None]


def test_only_named_results_are_shown(board):
    mine = board.page(BoardQuery()).items[1].name
    page = board.page(BoardQuery(names=frozenset({mine, "of another.png"})))
    assert [item.name for item in page.items] == [mine]


def test_thumbnails_are_small_kept_and_renewed(tmp_path):
    board = Board(Gallery(tmp_path))
    path = board.gallery.save(picture(size=(800, 400)), Recipe())
    small = board.thumbnail(path.name)
    assert Image.open(small).size == (256, 128)
    stamp = small.stat().st_mtime_ns
    assert board.thumbnail(path.name).stat().st_mtime_ns == stamp
    picture(size=(100, 200)).save(path)
    os.utime(path, (small.stat().st_mtime + 10,) * 2)
    assert Image.open(board.thumbnail(path.name)).size == (100, 200)
    assert board.page(BoardQuery()).found == 1


def test_a_video_is_shown_by_its_first_frame(board):
    (item,) = board.page(BoardQuery(kind="video")).items
    small = np.asarray(Image.open(board.thumbnail(item.name)))
    assert small.shape == (32, 32, 3)
    assert abs(float(small.mean()) - 200) < 8


@pytest.mark.parametrize("name", ["broken.png", "broken.mp4"])
def test_a_thumbnail_of_a_broken_file_is_a_sentence(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n rubbish")
    with pytest.raises(GalleryError, match=name):
        Board(Gallery(tmp_path)).thumbnail(name)


def test_the_trash_takes_a_result_with_what_belongs_to_it(board):
    (item,) = board.page(BoardQuery(kind="video")).items
    small = board.thumbnail(item.name)
    moved = board.trash(item.name)
    assert moved.is_file()
    assert moved.with_suffix(".beside.mp4").is_file()
    assert not item.path.exists()
    assert not small.exists()
    with pytest.raises(GalleryError, match=item.name):
        board.trash(item.name)
    assert board.page(BoardQuery()).found == 4


def test_names_reach_no_other_file(tmp_path):
    board = Board(Gallery(tmp_path / "gallery"))
    path = board.gallery.save(picture(), Recipe())
    outside = tmp_path / "outside.png"
    picture().save(outside)
    (path.parent / "link.png").symlink_to(outside)
    for name in (
        str(outside),
        "../outside.png",
        f"../gallery/{path.name}",
        "/etc/passwd",
        ".",
        "",
        "link.png",
        ".thumbnails",
    ):
        with pytest.raises(GalleryError):
            board.find(name)
        with pytest.raises(GalleryError):
            board.trash(name)
    assert outside.exists()
    assert board.find(path.name).recipe == Recipe()


def test_differences_name_every_field_that_differs(board):
    items = board.page(BoardQuery(kind="picture")).items
    rows = {name: (first, second) for name, first, second in differences(items[0], items[2])}
    assert rows == {"adherence": ("0.900", "0.100"), "prompt": (PROMPTS[2], PROMPTS[0]), "seed": ("2", "0")}
    assert differences(items[0], items[0]) == []


def test_a_sweep_is_one_result_read_from_its_folder(swept):
    item = swept.page(BoardQuery()).items[0]
    assert (item.name, item.kind, item.score, item.day[:4]) == (SWEEP, "sweep", 0.7, "1970")
    assert [one.name for one in swept.page(BoardQuery(kind="sweep")).items] == [SWEEP]
    assert SWEEP not in [one.name for one in swept.page(BoardQuery(kind="picture")).items]
    for words, found in (("green gamma", [SWEEP]), ("green guidance", [])):
        swept.page(BoardQuery(words=words))
        swept.wait()
        assert [one.name for one in swept.page(BoardQuery(words=words)).items] == found
    saved = swept.sweep(SWEEP)
    assert [cell.state for cell in saved.table.cells] == ["done", "done", "left"]
    assert [(cell.adherence, cell.distance, cell.seed) for cell in saved.table.cells[:2]] == [
        (0.2, 0.1, 3),
        (0.7, 0.1, 3),
    ]
    assert saved.pictures == [saved.folder / name for name in sorted(path.name for path in saved.pictures)]
    assert {path.name for path in saved.files} >= {PLAN, TABLE}


def test_a_sweep_that_was_killed_or_lost_a_picture_has_what_is_left(swept):
    folder = swept.gallery.output_dir / SWEEP
    swept.sweep(SWEEP).pictures[0].unlink()
    assert [cell.state for cell in swept.sweep(SWEEP).table.cells] == ["left", "done", "left"]
    (folder / TABLE).unlink()
    assert swept.sweep(SWEEP).table.done == 0
    assert swept.find(SWEEP).score is None
    assert Image.open(swept.thumbnail(SWEEP)).size == (256, 256)
    (folder / PLAN).write_text("{}")
    assert swept.find(SWEEP).recipe is None
    with pytest.raises(SweepError):
        swept.sweep(SWEEP)


def test_the_tile_of_a_sweep_shows_its_pictures_and_is_renewed(swept):
    small = swept.thumbnail(SWEEP)
    assert Image.open(small).size == (256, 256)
    before = np.asarray(Image.open(small))
    assert before[:126, :126].std() > 20
    assert before[-126:, -126:].std() < 5  # two of four places
    saved = swept.sweep(SWEEP)
    table = saved.table.csv().replace("left", "done").replace(",,,,,,", f",,,,3,{saved.pictures[1].name},")
    (saved.folder / TABLE).write_text(table)
    os.utime(saved.folder / TABLE, (small.stat().st_mtime + 10,) * 2)
    assert not np.array_equal(np.asarray(Image.open(swept.thumbnail(SWEEP))), before)


def test_a_sweep_goes_to_the_trash_as_a_whole_and_twice(swept):
    folder, kept = swept.gallery.output_dir / SWEEP, []
    for _ in range(2):
        copy = swept.gallery.output_dir / "copy"
        shutil.copytree(folder, copy)
        kept.append(swept.trash(SWEEP))
        assert (kept[-1] / PLAN).is_file()
        assert not folder.exists()
        copy.rename(folder)
    assert kept[0] != kept[1]


def test_names_of_sweeps_reach_no_other_folder(swept):
    output = swept.gallery.output_dir
    outside = output.parent / "outside"
    shutil.copytree(output / SWEEP, outside)
    (output / FOLDER / "link").symlink_to(outside)
    (output / FOLDER / "empty").mkdir()
    for name in (
        "sweeps/../../outside",
        "sweeps/..",
        "sweeps/",
        "sweeps",
        "sweeps/link",
        "sweeps/empty",
        f"{SWEEP}/{PLAN}",
        "sweeps/\0",
    ):
        with pytest.raises(GalleryError):
            swept.find(name)
        with pytest.raises(GalleryError):
            swept.trash(name)
    assert [item.name for item in swept.page(BoardQuery(kind="sweep")).items] == [SWEEP]


def test_sweeps_differ_by_their_axes(swept):
    sweep, single = swept.find(SWEEP), swept.page(BoardQuery(kind="picture")).items[0]
    rows = {name: (first, second) for name, first, second in differences(sweep, single)}
    assert rows["swept control strength (gamma)"] == ("0, 0.5, 1", "")
