import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_studio import TEXT_WIDTH, picture, pixels, same

from controlnext.recipes.png import read_condition, read_facts, read_png
from controlnext.studio.studio import Studio
from controlnext.studio.wording import WordFolders


@pytest.fixture(scope="module")
def worded(models, tmp_path_factory):
    home = tmp_path_factory.mktemp("words")
    for name in ("embeddings", "wildcards"):
        (home / name).mkdir()
    (home / "wildcards" / "colour.txt").write_text("red\nblue\n")
    torch.manual_seed(0)
    save_file({"emb_params": torch.randn(2, TEXT_WIDTH)}, home / "embeddings" / "mine.safetensors")
    return Studio(
        output_dir=home / "out", presets_dir=models, device="cpu", threads=1,
        words=WordFolders([home / "embeddings"], [home / "wildcards"]),
    )  # fmt: skip


def made(studio, prompt, **values):
    recipe = studio.catalogue.resolve(
        "starter", "canny", prompt=prompt, **{"seed": 3, "num_inference_steps": 2, **values}
    )
    return studio.generate(recipe, picture())


def test_each_picture_is_drawn_by_its_seed_and_restores_itself(worded):
    result = made(worded, "a __colour__ {x|y|z}", num_images=5)
    prompts = [read_png(file).prompt for file in result.files]
    assert len(set(prompts)) > 1
    assert result.recipe.prompt == "a __colour__ {x|y|z}"
    assert read_facts(result.files[0])["prompt_as_written"] == result.recipe.prompt
    for file, image in list(zip(result.files, pixels(result), strict=True))[:2]:
        again = worded.generate(read_png(file), read_condition(file))
        assert (
            np.abs(pixels(again)[0].astype(int) - image.astype(int)).max() <= 1
        )  # a batch of one adds in another order
    alone = made(worded, "a __colour__ {x|y|z}", seed=5)
    assert read_png(alone.files[0]).prompt == prompts[2]


def test_a_tag_is_the_lora_of_that_weight(worded):
    tagged = made(worded, "a b <lora:one:0.5>")
    listed = made(worded, "a b", loras=[("one", 0.5)])
    assert same(pixels(tagged), pixels(listed))
    assert read_png(tagged.files[0]) == read_png(listed.files[0])
    assert not same(pixels(tagged), pixels(made(worded, "a b")))
    drawn = made(worded, "a b {<lora:one:0.5>|<lora:two:0.5>|}", num_images=6)
    kept = [read_png(file) for file in drawn.files]
    assert {tuple(use.name for use in one.loras) for one in kept} == {("one",), ("two",), ()}
    for one in kept:
        assert {key for key in one.weights if key.startswith("lora:")} == {f"lora:{use.name}" for use in one.loras}


def test_weights_embeddings_and_long_prompts_change_the_picture(worded):
    plain = pixels(made(worded, "a b"))
    assert same(plain, pixels(made(worded, "a (b:1.0)")))
    for prompt in ("a (b:1.5)", "a b mine", "a b " + "c" * 30):
        result = made(worded, prompt)
        assert not same(plain, pixels(result)), prompt
        assert result.notes == (), prompt
    assert not same(plain, pixels(made(worded, "a b", negative_prompt="(c:1.4)")))


def test_what_is_unknown_has_one_note_each(worded):
    result = made(worded, "a (b __none__ <lora:none> {x}", num_images=2)
    assert len(result.notes) == 4
    assert read_png(result.files[0]).prompt == "a (b __none__ <lora:none> {x}"
