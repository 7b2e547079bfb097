"""Choices about memory and speed, each with an adapter attached: it took effect, and the picture stays near."""

import importlib.util
import json

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from ldm_layout import unet_name
from released import deep_components
from tiny_studio import picture, pixels

from controlnext.engine.tiny_autoencoder import TinyAutoencoderError
from controlnext.engine.weight_storage import WeightStorageError, load_gguf_unet
from controlnext.loras.hot_swap import PLACE
from controlnext.models.presets import load_preset
from controlnext.models.run_options import RunOptions
from controlnext.studio.studio import Studio

FP8_LEVELS, INT8_LEVELS, GGUF_LEVELS = 3.0, 0.2, 0.2
"""Mean difference of pixels, of 255, that is allowed; measured: 1.51, 0.04 and 0.04. A LoRA changes 3.4 here."""

TOUCHED = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_out.0.weight"
"""What the adapter of the tests changes."""

needs_torchao = pytest.mark.skipif(importlib.util.find_spec("torchao") is None, reason="torchao is not installed")


@pytest.fixture(scope="module")
def made(models, tmp_path_factory):
    def make(options=None, model="starter", **changes):
        out = tmp_path_factory.mktemp("out")
        studio = Studio(output_dir=out, presets_dir=models, device="cpu", threads=1, run_options=options)
        values = {"prompt": "x", "seed": 3, "num_inference_steps": 2} | changes
        result = studio.generate(studio.catalogue.resolve(model, "canny", **values), picture())
        return pixels(result)[0].astype(float), studio

    return make


@pytest.fixture(scope="module")
def plain(made):
    """The same picture without any choice: without a LoRA, and with one."""
    return made()[0], made(loras=["one"])[0]


def difference(one, other) -> float:
    return np.abs(one - other).mean()


def parameters(studio) -> dict[str, torch.Tensor]:
    return dict(studio._engine.pipeline.unet.named_parameters())


def test_weights_in_8_bit_floats_take_adapters_and_loras_in_full(made, plain):
    one, studio = made(RunOptions(weights="fp8"))
    assert 0 < difference(one, plain[0]) < FP8_LEVELS
    weights = parameters(studio)
    assert weights[TOUCHED].dtype == torch.float32  # a difference would be lost among 8 bits
    assert weights[TOUCHED.replace("to_out.0", "to_q")].dtype == torch.float8_e4m3fn
    assert studio._engine.made_on()["precision"] == "float32, fp8"
    recipe = studio.catalogue.resolve("starter", "canny", prompt="x", seed=3, num_inference_steps=2, loras=["one"])
    other = pixels(studio.generate(recipe, picture()))[0].astype(float)
    assert difference(other, plain[1]) < FP8_LEVELS < difference(plain[0], plain[1])
    assert {value.dtype for name, value in parameters(studio).items() if ".lora_" in name} == {torch.float32}
    again = pixels(studio.generate(recipe.replace(loras=[]), picture()))[0]
    assert np.array_equal(again, one)


@needs_torchao
def test_weights_in_8_bit_integers(made, plain):
    for number, loras in enumerate(([], ["one"])):
        one, studio = made(RunOptions(weights="int8"), loras=loras)
        assert 0 < difference(one, plain[number]) < INT8_LEVELS
        kinds = {type(value).__name__ for value in parameters(studio).values()}
        assert kinds == {"Parameter", "Int8Tensor"}


def test_8_bit_integers_without_torchao_are_a_sentence(made, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torchao", None)
    with pytest.raises(WeightStorageError, match=r"torchao.*controlnext-studio\[quantise\]"):
        made(RunOptions(weights="int8"))


def write_gguf(path, tensors):
    gguf = pytest.importorskip("gguf")
    writer, eight = gguf.GGUFWriter(path, "sd1"), gguf.GGMLQuantizationType.Q8_0
    for name, tensor in tensors.items():
        array = tensor.float().numpy()
        if array.ndim == 2 and array.shape[1] % 32 == 0:
            writer.add_tensor(name, gguf.quants.quantize(array, eight), raw_dtype=eight)
        else:
            writer.add_tensor(name, array.astype(np.float16) if array.ndim == 4 else array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_preset_takes_its_unet_from_a_gguf_file(made, models, plain):
    unet = UNet2DConditionModel.from_pretrained(models / "base" / "unet")
    write_gguf(models / "unet.gguf", unet.state_dict())
    (models / "gguf.yaml").write_text((models / "starter.yaml").read_text() + "\nunet: unet.gguf\n")
    for number, loras in enumerate(([], ["one"])):
        one, studio = made(model="gguf", loras=loras)
        assert 0 < difference(one, plain[number]) < GGUF_LEVELS
        kinds = {type(value).__name__ for value in parameters(studio).values()}
        assert kinds == {"Parameter", "GGUFParameter"}
    assert studio._engine.made_on()["precision"] == "float32, unet.gguf"
    assert "unet" in studio._engine.hashes(studio.catalogue.resolve("gguf", "canny"), [])


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_a_gguf_file_in_the_names_of_a_checkpoint(models, tmp_path, prefix):
    unet = deep_components("sd15")["unet"]
    unet.save_pretrained(tmp_path / "base" / "unet")
    (tmp_path / "base" / "model_index.json").write_text(json.dumps({"unet": ["diffusers", "UNet2DConditionModel"]}))
    state = unet.state_dict()
    named = {prefix + unet_name(key, list(state)).removeprefix("model.diffusion_model."): state[key] for key in state}
    file = write_gguf(tmp_path / "unet.gguf", named)
    read = load_gguf_unet(file, load_preset(models / "starter.yaml"), tmp_path / "base", torch.float32)
    sample, words = torch.randn(1, 4, 8, 8), torch.randn(1, 5, 16)
    with torch.no_grad():
        one, other = (model(sample, 11, words).sample for model in (unet, read))
    assert (one - other).abs().mean() < 0.01 * one.abs().mean()  # 0.3 % was measured


def test_a_tiny_autoencoder_draws_previews_and_if_wished_results(made, plain, tmp_path):
    torch.manual_seed(0)
    few = (8, 8, 8, 8)
    tiny = AutoencoderTiny(encoder_block_out_channels=few, decoder_block_out_channels=few).eval()
    tiny.save_pretrained(tmp_path / "tiny")
    place = str(tmp_path / "tiny")
    one, studio = made(RunOptions(tiny="previews", tiny_autoencoder=place))
    assert np.array_equal(one, plain[0])
    latents = torch.randn(2, 4, 8, 8)
    drawn = np.asarray(studio._engine._preview.draw(latents, 64, 64)) / 127.5 - 1
    with torch.no_grad():
        wanted = tiny.decode(latents).sample.clamp(-1, 1).permute(2, 0, 3, 1).reshape(64, 128, 3).numpy()
    assert np.abs(drawn - wanted).max() < 1 / 127
    other, studio = made(RunOptions(tiny="results", tiny_autoencoder=place))
    assert difference(other, plain[0]) > 10  # random weights draw something else
    assert isinstance(studio._engine.pipeline.vae, AutoencoderTiny)
    with pytest.raises(TinyAutoencoderError, match="AutoencoderTiny"):
        made(RunOptions(tiny="results", tiny_autoencoder=str(tmp_path / "nowhere")))


@pytest.mark.slow
def test_a_compiled_unet_draws_the_same_and_loras_are_swapped_without_compiling_again(made, plain):
    graphs = torch._dynamo.utils.counters["stats"]
    before = graphs["unique_graphs"]
    one, studio = made(RunOptions(compiler="eager"))
    assert np.array_equal(one, plain[0])
    assert graphs["unique_graphs"] > before
    recipe = studio.catalogue.resolve("starter", "canny", prompt="x", seed=3, num_inference_steps=2, loras=["two"])
    studio.generate(recipe, picture())
    compiled = graphs["unique_graphs"]
    swapped = pixels(studio.generate(recipe.replace(loras=[{"name": "one"}]), picture()))[0]
    assert graphs["unique_graphs"] == compiled
    assert list(studio._engine.pipeline.get_list_adapters()["unet"]) == [PLACE]
    assert difference(swapped, plain[1]) < 0.01  # the zeros that fill its rank up may round otherwise


def test_the_command_line_says_what_the_studio_is_given():
    from controlnext.cli import app
    from controlnext.cli.options import run_options

    assert run_options(app.options([])) == RunOptions()
    given = ["--weights", "fp8", "--tiny", "results", "--tiny-autoencoder", "folder", "--compile"]
    assert run_options(app.options(given)) == RunOptions("fp8", "results", "folder", "inductor")
    assert app.make_studio(app.options(given))._run_options.compiler == "inductor"
