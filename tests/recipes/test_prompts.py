import pytest

from controlnext.errors import ControlNeXtError
from controlnext.recipes.prompts import Wildcards, choose_words, is_plain, resolve_prompts, unmatched, weighted_parts
from controlnext.recipes.recipe import LoraUse, Recipe


def parts(text):
    return [(part.text, round(part.weight, 4)) for part in weighted_parts(text)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a dog", [("a dog", 1)]),
        ("a (red shirt:1.3), b", [("a ", 1), ("red shirt", 1.3), (", b", 1)]),
        ("((x)) [y]", [("x", 1.21), (" ", 1), ("y", 0.9091)]),
        ("((a:1.2) b:0.5)", [("a", 0.6), (" b", 0.5)]),
        ("(x:-0.5) (y: .5 )", [("x", -0.5), (" ", 1), ("y", 0.5)]),
        (r"\(a\) b", [("(a) b", 1)]),
        ("a (b", [("a (b", 1)]),
        ("a) :)", [("a) :)", 1)]),
        ("[b (c] d", [("b (c", 0.9091), (" d", 1)]),
        ("(x:99)", [("(x:99)", 1)]),
        ("a: b", [("a: b", 1)]),
        ("", [("", 1)]),
        ("(" * 30 + "x" + ")" * 30, [("x", 10.0)]),
    ],
)
def test_brackets_weigh_words_and_loose_ones_are_words(text, wanted):
    assert parts(text) == wanted


def test_break_stands_between_stretches_and_inside_of_brackets():
    assert [(part.text.strip(), part.breaks) for part in weighted_parts("a BREAK b BREAKER")] == [
        ("a", False), ("BREAK", True), ("b BREAKER", False),
    ]  # fmt: skip
    assert [part.weight for part in weighted_parts("(a BREAK b:2)")] == [2, 1, 2]


def test_plain_prompts_and_loose_brackets_are_told_apart():
    assert is_plain("a person, {x} __y__ <z>")
    assert not any(map(is_plain, ("(a", "a]", "x BREAK y", "\\")))
    assert unmatched("a :) [b (c] (d) \\(") == ")("


def test_choices_and_wildcards_are_drawn_by_the_seed(tmp_path):
    (tmp_path / "animals").mkdir()
    (tmp_path / "animals" / "pets.txt").write_text("# a remark\n\ncat\ndog\n{old|young} fish\n")
    (tmp_path / "endless.txt").write_text("x __endless__ __endless__\n")
    wildcards, notes = Wildcards([tmp_path / "none", tmp_path]), []
    made = {
        choose_words("a {red|blue|{green|dark green}} __animals/pets__", str(seed), wildcards, notes)
        for seed in range(300)
    }
    assert made == {
        f"a {colour} {pet}" for colour in ("red", "blue", "green", "dark green") for pet in ("cat", "dog", "old fish", "young fish")
    }  # fmt: skip
    assert choose_words("{a|b|c|d}", "5", wildcards, notes) == choose_words("{a|b|c|d}", "5", wildcards, notes)
    assert notes == []
    assert wildcards.names() == ["animals/pets", "endless"]
    assert len(choose_words("__endless__", "1", wildcards, notes)) < 10_000


def test_what_is_unknown_stays_with_one_note_each(tmp_path):
    (tmp_path.parent / "secret.txt").write_text("secret")
    notes = []
    text = "__nothing__ __../secret__ {one} {2$$a|b} __nothing__"
    assert choose_words(text, "0", Wildcards([tmp_path]), notes) == text
    assert len(notes) == 4
    assert "nothing.txt" in notes[0]


def test_tags_set_loras_and_leave_the_words():
    recipe = Recipe(
        prompt="a <lora:ink:0.8> person, <lora:clay>, <lora:gone:1>", loras=[LoraUse(name="ink", weight=0.1)]
    )
    made = resolve_prompts(recipe, 1, Wildcards(), {"ink", "clay"}.__contains__)
    assert made.recipe.prompt == "a person, <lora:gone:1>"
    assert [(use.name, use.weight) for use in made.recipe.loras] == [("ink", 0.8), ("clay", 1.0)]
    assert ["gone" in note for note in made.notes] == [True]


def test_a_plain_recipe_is_the_same_object_and_a_wrong_weight_is_refused():
    recipe = Recipe(prompt="a (red:1.2) person, {")
    assert resolve_prompts(recipe, 1, Wildcards(), lambda name: True).recipe is recipe
    with pytest.raises(ControlNeXtError, match="99"):
        resolve_prompts(Recipe(prompt="<lora:ink:99>"), 1, Wildcards(), lambda name: True)
