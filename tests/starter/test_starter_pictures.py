import numpy as np
from PIL import Image

from annotators.starter.net import PARTS_PALETTE
from controlnext.starter.pictures import main, normal_map, write_pictures
from controlnext.training.config import DataConfig
from controlnext.training.data.rows import read_rows


def test_pictures_are_a_folder_to_train_from(tmp_path, capsys):
    assert main([str(tmp_path), "--count", "2", "--condition", "normal"]) == 0
    assert "2 pictures" in capsys.readouterr().out
    rows, bad = read_rows(DataConfig(folder=tmp_path))
    assert bad == []
    assert [row.name for row in rows] == ["0000.png", "0001.png"]
    assert all(row.text for row in rows)
    assert [Image.open(row.condition).size for row in rows] == [Image.open(row.picture).size for row in rows]
    assert not np.array_equal(np.asarray(Image.open(rows[0].picture)), np.asarray(Image.open(rows[1].picture)))


def test_another_first_number_gives_other_pictures(tmp_path):
    write_pictures(tmp_path / "a", 2)
    write_pictures(tmp_path / "b", 1, first=1)
    assert (tmp_path / "a" / "0001.png").read_bytes() == (tmp_path / "b" / "0001.png").read_bytes()


def test_conditions_are_those_of_the_world(tmp_path):
    write_pictures(tmp_path, 1, "segmentation")
    colours = np.asarray(Image.open(tmp_path / "segmentation" / "0000.png")).reshape(-1, 3)
    known = {tuple(colour) for colour in PARTS_PALETTE.tolist()}
    found = {tuple(colour) for colour in colours.tolist()}
    assert len(found) > 3
    assert found <= known


def test_normals_point_where_a_surface_faces():
    assert normal_map(np.full((4, 4), 0.5))[1, 1].tolist() == [128, 128, 255]
    ramp = np.tile(np.linspace(0, 1, 8), (8, 1))
    nearer_on_the_right = normal_map(ramp)[4, 4]
    assert nearer_on_the_right[0] < 64  # it faces left
    nearer_below = normal_map(ramp.T)[4, 4]
    assert nearer_below[1] > 192  # it faces up
