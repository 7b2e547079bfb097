import errno
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from controlnext.recipes.png import read_condition, read_png
from controlnext.recipes.recipe import Recipe
from controlnext.results.gallery import Gallery, GalleryError


def picture(seed=0, size=(40, 32)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def fail_with(code):
    def fail(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    return fail


def test_save_writes_a_whole_picture_with_recipe_and_condition(tmp_path):
    gallery = Gallery(tmp_path / "new" / "folder")
    recipe = Recipe(seed=7, prompt="a person")
    path = gallery.save(picture(), recipe, picture(1), {"adherence": 0.5})
    assert path.parent == gallery.output_dir
    assert path.name.endswith("_7.png")
    assert read_png(path) == recipe
    assert read_condition(path) is not None
    assert [entry.name for entry in gallery.output_dir.iterdir()] == [path.name]


def test_save_never_overwrites(tmp_path):
    gallery = Gallery(tmp_path)
    paths = [gallery.save(picture(i), Recipe(seed=7)) for i in range(4)]
    assert len(set(paths)) == 4
    for i, path in enumerate(paths):
        assert np.array_equal(np.asarray(Image.open(path)), np.asarray(picture(i)))


def test_save_never_overwrites_without_hard_links(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", fail_with(errno.EPERM))
    test_save_never_overwrites(tmp_path)


def test_full_disk_is_a_sentence_and_nothing_is_lost(tmp_path, monkeypatch):
    gallery = Gallery(tmp_path)
    kept = gallery.save(picture(), Recipe(seed=1))
    before = kept.read_bytes()
    monkeypatch.setattr(os, "fsync", fail_with(errno.ENOSPC))
    with pytest.raises(GalleryError, match=r"the disk is full\. Free some space"):
        gallery.save(picture(2), Recipe(seed=2))
    assert [entry.name for entry in tmp_path.iterdir()] == [kept.name]
    assert kept.read_bytes() == before
    monkeypatch.undo()
    assert gallery.save(picture(2), Recipe(seed=2)).exists()


@pytest.mark.parametrize(
    ("code", "says"), [(errno.EACCES, "no permission"), (errno.EROFS, "no permission"), (errno.EIO, "the system says")]
)
def test_unwritable_folder_is_a_sentence(tmp_path, monkeypatch, code, says):
    gallery = Gallery(tmp_path)
    monkeypatch.setattr("controlnext.results.gallery.write_png", fail_with(code))
    with pytest.raises(GalleryError, match=says) as caught:
        gallery.save(picture(), Recipe())
    assert str(tmp_path) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_check_finds_a_full_disk_and_a_file_in_the_way(tmp_path, monkeypatch):
    Gallery(tmp_path / "fresh").check()
    assert list((tmp_path / "fresh").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(GalleryError, match="not a folder"):
        Gallery(tmp_path / "file").check()
    with pytest.raises(GalleryError, match="not a folder"):
        Gallery(tmp_path / "file" / "below").check()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(GalleryError, match="disk is full"):
        Gallery(tmp_path / "fresh").check()


def test_check_finds_a_folder_without_permission(tmp_path, monkeypatch):
    monkeypatch.setattr("pathlib.Path.touch", fail_with(errno.EACCES))
    with pytest.raises(GalleryError, match="no permission"):
        Gallery(tmp_path).check()
