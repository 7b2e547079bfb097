import pytest
import torch
from safetensors.torch import save_file
from tiny_models import TEXT_WIDTH, sd_components, sdxl_components

from controlnext import StableDiffusionControlNeXtPipeline, StableDiffusionXLControlNeXtPipeline
from controlnext.engine.words import prompt_arguments, prompt_notes, readers_of
from controlnext.models.embeddings import Embeddings
from controlnext.recipes.recipe import Recipe

NONE = Embeddings()
ROOM = 6  # tokens of the tiny text encoder without its marks; a letter is a token


@pytest.fixture(scope="module")
def sd():
    return StableDiffusionControlNeXtPipeline(**sd_components())


@pytest.fixture(scope="module")
def sdxl():
    return StableDiffusionXLControlNeXtPipeline(**sdxl_components())


def arguments(pipeline, prompt, negative="", embeddings=NONE):
    return prompt_arguments(pipeline, Recipe(prompt=prompt, negative_prompt=negative), embeddings)


def test_a_plain_prompt_that_fits_is_left_to_the_stock_pipeline(sd, sdxl):
    for pipeline in (sd, sdxl):
        assert arguments(pipeline, "a b c", "d") == {"prompt": "a b c", "negative_prompt": "d"}
        assert "prompt" not in arguments(pipeline, "abcdefg")
        assert "prompt" not in arguments(pipeline, "a", "(b)")


def test_words_without_weights_are_encoded_as_the_stock_pipeline_does_bit_for_bit(sd, sdxl):
    stock = sd.encode_prompt("a b", "cpu", 1, True, "c d")
    ours = arguments(sd, "a (b:1.0)", "c d")
    assert torch.equal(ours["prompt_embeds"], stock[0])
    assert torch.equal(ours["negative_prompt_embeds"], stock[1])
    stock = sdxl.encode_prompt("a b", device="cpu", negative_prompt="c d")
    ours = arguments(sdxl, "a (b:1.0)", "c d")
    names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
    for name, wanted in zip(names, stock, strict=True):
        assert torch.equal(ours[name], wanted), name


def test_a_weight_scales_the_distance_from_the_empty_prompt_at_its_tokens_alone(sd):
    def encoded(prompt):
        return arguments(sd, prompt, "(x)")["prompt_embeds"]

    plain, empty = encoded("a b c"), encoded("")
    for weight in (0.0, 0.5, 1.7, -1.0):
        made = encoded(f"a (b:{weight}) c")
        torch.testing.assert_close(made[:, 2], empty[:, 2] + weight * (plain[:, 2] - empty[:, 2]))
        others = [0, 1, 3, 4, 5, 6, 7]
        assert torch.equal(made[:, others], plain[:, others])
    assert torch.equal(encoded("a ((b)) c"), encoded("a (b:1.21) c"))


def test_long_prompts_are_read_in_stretches_and_the_shorter_one_is_filled_up(sd, sdxl):
    long = arguments(sd, "abcdef ghij", "x")
    assert long["prompt_embeds"].shape == long["negative_prompt_embeds"].shape == (1, 16, TEXT_WIDTH)
    halves = [arguments(sd, half, "(x)")["prompt_embeds"] for half in ("abcdef", "ghij")]
    assert torch.equal(long["prompt_embeds"], torch.cat(halves, dim=1))
    assert torch.equal(long["negative_prompt_embeds"][:, 8:], arguments(sd, "", "(x)")["prompt_embeds"])
    by_break = arguments(sd, "abcdef BREAK ghij")["prompt_embeds"]
    assert torch.equal(by_break, long["prompt_embeds"])
    whole_word = readers_of(sd)[0].stretches("abcd efgh", NONE, [])
    assert [len(stretch) for stretch in whole_word] == [4, 4]
    two = arguments(sdxl, "abcdef ghij")
    assert two["prompt_embeds"].shape == (1, 16, 2 * TEXT_WIDTH)
    first = arguments(sdxl, "abcdef", "(x)")
    assert torch.equal(two["pooled_prompt_embeds"], first["pooled_prompt_embeds"])


def test_embeddings_take_the_places_of_their_names(sd, sdxl, tmp_path):
    encoder = sd.text_encoder
    letters = sd.tokenizer("q r", add_special_tokens=False)["input_ids"]
    rows = encoder.get_input_embeddings().weight[letters].detach().clone()
    save_file({"emb_params": rows}, tmp_path / "my-style.safetensors")
    save_file({"clip_l": rows, "clip_g": torch.ones(2, 99)}, tmp_path / "twice.safetensors")
    save_file({"emb_params": torch.ones(1, 7)}, tmp_path / "foreign.safetensors")
    save_file({"lora.down": torch.ones(1, 2, 3)}, tmp_path / "lora.safetensors")
    (tmp_path / "pickled.pt").write_bytes(b"x")
    embeddings = Embeddings([tmp_path / "none", tmp_path])
    wanted = arguments(sd, "a q r b", "(x)")["prompt_embeds"]
    before = encoder.get_input_embeddings().weight.detach().clone()
    for name in ("my-style", "<My-Style>", "embedding:my-style", "twice"):
        assert torch.equal(arguments(sd, f"a {name} b", "(x)", embeddings)["prompt_embeds"], wanted), name
    weighted = arguments(sd, "a (my-style:1.5) b", "(x)", embeddings)["prompt_embeds"]
    assert torch.equal(weighted, arguments(sd, "a (q r:1.5) b", "(x)")["prompt_embeds"])
    assert torch.equal(encoder.get_input_embeddings().weight, before)
    assert "prompt" in arguments(sd, "a mys b", "", embeddings)
    for name in ("foreign", "lora", "pickled"):
        (note,) = prompt_notes(sd, Recipe(prompt=f"a {name}"), embeddings)
        assert name in note
        assert torch.equal(
            arguments(sd, f"(a {name}:1)", "", embeddings)["prompt_embeds"],
            arguments(sd, f"(a {name}:1)")["prompt_embeds"],
        )
    assert len(prompt_notes(sdxl, Recipe(prompt="a my-style"), embeddings)) == 0


def test_loose_brackets_are_said_once(sd):
    assert prompt_notes(sd, Recipe(prompt="a b c"), NONE) == []
    (note,) = prompt_notes(sd, Recipe(prompt="a (b"), NONE)
    assert "'('" in note


def test_pictures_are_made_of_weighted_and_long_prompts(sd, sdxl):
    for pipeline in (sd, sdxl):
        pipeline.set_progress_bar_config(disable=True)

        def made(prompt, pipeline=pipeline):
            call = arguments(pipeline, prompt)
            noise = torch.Generator().manual_seed(0)
            return pipeline(**call, num_inference_steps=1, width=64, height=64, generator=noise, output_type="latent")[
                0
            ]

        assert torch.equal(made("a (b:1)"), made("a b"))
        assert not torch.equal(made("a (b:1.5)"), made("a b"))
        assert made("abcdefghij (b:1.5)").shape == made("a").shape
