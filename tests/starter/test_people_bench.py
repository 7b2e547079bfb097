import numpy as np
import pytest
from PIL import Image

from annotators.starter import net
from controlnext.assets import STARTER
from controlnext.bench import BENCHES
from controlnext.bench.command import BenchError
from controlnext.bench.quality import starter_look, starter_photos, starter_scenes
from controlnext.bench.quality.people import count_heads, each_followed, same_colour, shown
from controlnext.starter.remake.autoencoder import decibels, head_box
from controlnext.starter.scenes.palette import PARTS
from controlnext.starter.scenes.shards import make_example
from controlnext.starter.scenes.shot import sample_shot
from controlnext.starter.scenes.view import render


def test_heads_are_counted_as_people_would():
    right = total = 0
    for seed in range(40):
        shot = sample_shot(seed, (128, 128))
        if shot.framing in ("head", "bust", "half") and len(shot.people) == 1:
            view = render(shot)
            if (view.parts == PARTS.index("face")).mean() > 0.01:
                total += 1
                right += count_heads(view.parts, PARTS) == 1
    assert total >= 10
    assert right >= 0.95 * total


def test_two_heads_are_two_and_specks_are_none():
    parts = np.full((256, 256), net.PARTS.index("ground"), np.uint8)
    assert count_heads(parts, net.PARTS) == 0
    parts[40:80, 40:70] = net.PARTS.index("face")
    assert count_heads(parts, net.PARTS) == 1
    parts[30:40, 40:70] = net.PARTS.index("hair")  # hair belongs to its face
    assert count_heads(parts, net.PARTS) == 1
    parts[40:80, 160:190] = net.PARTS.index("face")
    assert count_heads(parts, net.PARTS) == 2
    parts[200:204, 20:24] = net.PARTS.index("face")
    assert count_heads(parts, net.PARTS) == 2


def person(x):
    points = np.stack([np.linspace(x, x + 40, 18), np.linspace(20, 220, 18), np.ones(18)], 1)
    return points


def test_each_person_asked_for_needs_one_of_their_own():
    asked = np.stack([person(20), person(150)])
    assert each_followed(asked, [person(151), person(19)])
    assert not each_followed(asked, [person(20)])
    assert not each_followed(asked, [person(20), person(22)])
    assert len(shown(np.stack([person(0), np.zeros((18, 3))]))) == 1


def test_colours_are_compared_where_both_show_enough():
    red, dark, blue = (np.full((32, 32, 3), c, np.uint8) for c in ((200, 30, 30), (170, 25, 25), (30, 30, 200)))
    mask = np.ones((32, 32), bool)
    assert same_colour(red, dark, mask, mask)
    assert not same_colour(red, blue, mask, mask)
    assert same_colour(red, dark, mask, np.zeros_like(mask)) is None


def test_photographs_are_found_by_kind_and_none_is_an_error(tmp_path):
    with pytest.raises(BenchError):
        starter_photos.photographs(tmp_path)
    for kind in ("head", "whole"):
        (tmp_path / kind).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / kind / "a.png")
    assert [kind for kind, _ in starter_photos.photographs(tmp_path)] == ["head", "whole"]


def test_a_photograph_nobody_is_found_in_counts_as_not_followed():
    trials = [
        starter_photos.PhotoTrial("head", "a", 0, 9, 9, 0.8, 1),
        starter_photos.PhotoTrial("head", "b", 0, 0, 18, None, None),
    ]
    figures = starter_photos.summary(trials)
    assert figures["head"]["adherence"] == pytest.approx(0.4)
    assert figures["all"]["one_head"] == pytest.approx(0.5)
    assert "PCK" in starter_photos.table(figures)


class Exact:
    """Reads what the world knows."""

    names = PARTS

    def __init__(self, example):
        self.view = example.view

    def read(self, rgb):
        return net.SceneReading(self.view.parts, self.view.depth, [])

    def people(self, rgb):
        return list(self.view.people)


@pytest.fixture(scope="module")
def examples():
    return [make_example(seed, (96, 96)) for seed in range(12)]


def test_a_render_that_shows_what_was_asked_is_judged_right(examples):
    tally = starter_scenes.PeopleTally()
    for example in examples:
        starter_scenes.judge(tally, example, example.view.rgb, Exact(example))
    figures = tally.figures()
    assert {figures[name] for name in ("pose", "segmentation", "canny")} == {1.0}
    assert figures["depth"] == pytest.approx(1)
    assert figures["one head"] > 0.8
    assert all(value == 1 for name, value in figures.items() if "colour" in name)
    text = starter_scenes.table({"made": tally, "renders": tally})
    assert all(name in text for name in ("mean IoU", "rank correlation", "F1", "pose, bust", "hair colour"))


def test_another_scenes_picture_is_judged_wrong(examples):
    tally = starter_scenes.PeopleTally()
    for example, other in zip(examples, examples[1:] + examples[:1], strict=True):
        starter_scenes.judge(tally, example, other.view.rgb, Exact(other))
    figures = tally.figures()
    assert figures["pose"] < 0.5
    assert figures["segmentation"] < 0.4
    assert figures["canny"] < 0.5
    assert figures["depth"] < 0.9


def test_the_autoencoder_is_a_ceiling_between_renders_and_nothing(examples):
    reader = starter_scenes.PersonReader.of(STARTER)
    renders, restored = starter_scenes.ceilings(STARTER, examples[:4], reader, ("pose", "canny"))
    exact, blurred = renders.figures(), restored.figures()
    assert exact["canny"] == 1
    assert 0.2 < blurred["canny"] < 0.95
    assert 20 < blurred["PSNR, dB"] < 40
    text = starter_scenes.table({"made": starter_scenes.PeopleTally(), "autoencoder": restored, "renders": renders})
    assert f"{blurred['canny']:.3f}" in text
    assert "PSNR" in text


def test_decibels_are_those_of_the_head_and_of_all():
    example = next(e for e in map(make_example, range(40)) if head_box(e))
    rgb = example.view.rgb.astype(int)
    rgb[head_box(example)] += np.where(rgb[head_box(example)] < 128, 10, -10)
    whole, head = decibels(example, rgb.astype(np.uint8))
    assert head == pytest.approx(20 * np.log10(25.5), abs=1e-6)
    assert whole > head
    assert decibels(example, example.view.rgb)[0] == 100


def test_benches_are_listed():
    assert {"starter-look", "starter-photos", "starter-scenes"} <= set(BENCHES)


def test_pairs_are_drawn_in_an_order_that_the_key_tells(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(starter_look, "STEPS", 1)
    options = ["none", "--photos", "0", "--scenes", "2", "--sheets", str(tmp_path)]
    assert starter_look.main([*options, "--against", str(STARTER)]) == 0
    key = (tmp_path / "key.txt").read_text().strip()
    assert len(key) == 2
    assert Image.open(tmp_path / "look-0.png").size == (6 * 260, 260)
    capsys.readouterr()
    assert starter_look.main([*options, "--judged", key]) == 0
    assert "| 2 | 2 | 0 | 0 |" in capsys.readouterr().out
    with pytest.raises(BenchError, match="2 letters"):
        starter_look.main([*options, "--judged", "LRL"])


def test_sides_are_fair_and_counts_add_up():
    key = starter_look.sides(40, np.random.default_rng(40))
    assert 12 <= key.count("L") <= 28
    assert starter_look.counted("LRLR", "LL=R") == {"pairs": 4, "better": 2, "equal": 1, "worse": 1}


def test_what_is_looked_at_is_spread_over_framings(tmp_path):
    for kind in starter_photos.KINDS:
        (tmp_path / kind).mkdir()
        for name in "abc":
            (tmp_path / kind / f"{name}.png").touch()
    found = starter_look.looks(tmp_path, 4, 3)
    assert [look.photo.parent.name for look in found[:4]] == list(starter_photos.KINDS)
    assert [look.kind for look in found[4:]] == ["pose", "canny", "depth"]
    assert all(look.prompt for look in found)
