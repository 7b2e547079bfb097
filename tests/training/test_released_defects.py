"""The defects of the released trainers that are known (behavioural specification, section 5), each looked for here."""

import threading

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import CHANNELS, make_module, make_unet, sd_components
from training_parts import PATTERN, RandomData, tiny_config, tiny_method, tiny_trainer

from controlnext import ControlNeXtAdapter
from controlnext.training.config import ConfigError, load_config
from controlnext.training.data.encoders import PictureEncoder
from controlnext.training.data.picture_data import PictureData
from controlnext.training.data.rows import Row
from controlnext.training.data.samples import Dropping, Loader, Order
from controlnext.training.data.store import Store
from controlnext.training.methods import call_unet

FACTS = {"annotator": "canny"}


def moved(by=0.01, **options):
    method = tiny_method(**options)
    with torch.no_grad():
        for parameter in method._trained.values():
            parameter.add_(by)
    return method


def test_sdxl_differences_can_be_saved_in_the_middle_of_a_training(tmp_path):
    """There the base's weights were missing in all but the last save, which crashed."""
    saved, method = {}, tiny_method()
    base = {name: parameter.detach().clone() for name, parameter in make_unet().named_parameters()}

    def validate(step):
        method.save(tmp_path / f"{step}", FACTS, torch.float32)
        saved[step] = {name: parameter.detach().clone() for name, parameter in method._trained.items()}
        return {}

    config = tiny_config(tmp_path / "run", steps=4, validation={"every": 2}, optimizer={"ema": 0.0})
    tiny_trainer(config, method=method, validate=validate).run()
    assert sorted(saved) == [2, 4]
    for step, weights in saved.items():
        deltas = load_file(tmp_path / f"{step}" / "unet.safetensors")
        assert deltas.keys() == weights.keys()
        for name, value in weights.items():
            torch.testing.assert_close(base[name] + deltas[name], value, rtol=0, atol=1e-6)
    assert any(not torch.equal(saved[2][name], saved[4][name]) for name in saved[2])


@pytest.mark.parametrize("text", ["false", "False", "no", "off"])
def test_sdxl_switches_that_say_false_are_false(text):
    """There any text that was not empty was true, and the bare flag of its README failed."""
    least = ["condition=canny", "output=o", "data.folder=f"]
    assert (
        load_config(None, [*least, f"learning.gradient_checkpointing={text}"]).learning.gradient_checkpointing is False
    )
    assert load_config(None, [*least, "learning.gradient_checkpointing=true"]).learning.gradient_checkpointing is True
    with pytest.raises(ConfigError):
        load_config(None, [*least, "learning.gradient_checkpointing=perhaps"])


def test_sdxl_validation_draws_at_the_strength_of_the_training(tmp_path):
    """There the strength was passed under a name the pipeline swallows, and pictures were drawn at 1."""
    from controlnext.training.methods import DrawRequest

    method, asked = tiny_method(gamma=0.35), []
    real = method.injection.set
    method.injection.set = lambda condition, gamma=1.0, **more: (asked.append(gamma), real(condition, gamma, **more))
    request = DrawRequest(["a"], torch.rand(1, 3, 64, 64), [0], options={"unknown_argument": 1})
    with pytest.raises(TypeError, match="unknown_argument"):
        method.pictures(_Pipeline(), request)
    assert asked[0] == pytest.approx(0.35)


class _Pipeline:
    """A call that takes what the stock call takes, and nothing else."""

    def __call__(self, prompt, height, width, generator, guidance_scale, num_inference_steps):
        raise AssertionError("the unknown argument was swallowed")


def test_sdxl_training_begins_from_saved_weights_of_a_subset(tmp_path):
    """There they were loaded as if they had to be all weights of the UNet."""
    first = moved(kind="subset")
    first.save(tmp_path, FACTS, torch.float32)
    second = tiny_method(kind="subset", start=tmp_path)
    for name, value in first.unet_weights().items():
        assert torch.equal(second.unet_weights()[name], value)


def test_sd15_differences_are_not_zero_after_training_on_a_cpu():
    """There the remembered values were the very weights that learned."""
    deltas = moved(0.01).unet_weights()
    assert all(value.mean().item() == pytest.approx(0.01, rel=1e-3) for value in deltas.values())


def test_svd_unet_weights_are_read_by_their_own_suffix(tmp_path):
    """There the suffix of the control file decided how the UNet's file was read."""
    moved().save(tmp_path, FACTS, torch.float32)
    weights = load_file(tmp_path / "unet.safetensors")
    (tmp_path / "unet.safetensors").unlink()
    torch.save(weights, tmp_path / "unet.bin")
    mixed = ControlNeXtAdapter.from_pretrained(tmp_path, kind="delta")
    assert all(torch.equal(mixed.unet_weights[name], value) for name, value in weights.items())
    torch.save(load_file(tmp_path / "controlnet.safetensors"), tmp_path / "controlnet.bin")
    (tmp_path / "controlnet.safetensors").unlink()
    (tmp_path / "unet.bin").unlink()
    save_file(weights, tmp_path / "unet.safetensors", {"kind": "delta"})
    ControlNeXtAdapter.from_pretrained(tmp_path, variant="starter", **_layout())


def _layout() -> dict:
    names = ("time_proj_dim", "time_embed_dim", "stem_channels", "stage_channels", "out_channels")
    config = make_module("starter", CHANNELS["starter"]).config
    return {name: config[name] for name in names}


def test_svd_every_source_of_data_gives_what_the_loop_reads(tmp_path):
    """There the other data set had neither pose nor reference under the names that were read, so it never ran.

    Here the loop reads the fields of one class, which a source cannot leave out.
    """
    from diffusers import StableDiffusionPipeline
    from PIL import Image

    Image.new("RGB", (64, 64), "red").save(tmp_path / "a.png")
    config = tiny_config(tmp_path / "out", data={"width": 64, "height": 64}, validation={"rows": 0})
    sources = {
        "folder": Row("a.png", "a", tmp_path / "a.png", "one"),
        "data set": Row("row 0", "b", lambda: Image.new("RGB", (64, 64)), "two", lambda: Image.new("RGB", (64, 64))),
    }
    pipeline = StableDiffusionPipeline(**sd_components())
    for row in sources.values():
        encoder = PictureEncoder(pipeline, torch.device("cpu"))
        data = PictureData(config, [row], encoder, Store(tmp_path / "cache", 8))
        data.settle(data.prepare(lambda *told: None, threading.Event()))
        loader = Loader(data, Order(data, 2, 0), Dropping(0.5, 0.2), batch=2)
        batch = next(loader.steps(0, 1))[0]
        with torch.no_grad():
            predicted = call_unet(make_unet(), batch.latents, torch.tensor([1, 2]), batch.states)
        assert predicted.shape == batch.latents.shape == (2, 4, 8, 8)


def test_results_are_safetensors_under_the_names_that_are_looked_for(tmp_path):
    """There SD1.5 wrote pickles, and SDXL a name that its own inference does not look for."""
    moved().save(tmp_path, FACTS, torch.float16)
    assert {file.name for file in tmp_path.iterdir()} == {"config.json", "controlnet.safetensors", "unet.safetensors"}
    assert ControlNeXtAdapter.from_pretrained(tmp_path).kind == "delta"


def test_gradients_are_clipped(tmp_path):
    """In two of the three it was commented out."""
    for limit in (0.0, 1e-3):
        trainer = tiny_trainer(tiny_config(tmp_path / f"{limit}", steps=1, optimizer={"clip": limit}))
        norms, step = [], trainer.optimizer.step

        def measured(trainer=trainer, norms=norms, step=step):
            gradients = [parameter.grad.norm() for parameter in trainer.parameters.values()]
            norms.append(torch.stack(gradients).norm().item())
            return step()

        trainer.optimizer.step = measured
        trainer.run()
        assert (norms[0] > 1e-2) if limit == 0 else (norms[0] == pytest.approx(limit, rel=1e-2))


def test_mixed_precision_keeps_what_learns_in_float32(tmp_path):
    """There mixed precision cast the whole UNet, and steps smaller than its rounding were lost."""
    unet = make_unet().to(torch.bfloat16)
    module = make_module("starter", CHANNELS["starter"]).to(torch.bfloat16)
    method = type(tiny_method())(unet, "starter", module=module, pattern=PATTERN, rates=(1e-7, 1e-7))
    before = {name: parameter.detach().clone() for name, parameter in method._trained.items()}
    config = tiny_config(tmp_path, steps=1, learning={"mixed_precision": "bf16"})
    trainer = tiny_trainer(config, RandomData(2), method)
    trainer.run()
    assert {parameter.dtype for parameter in trainer.parameters.values()} == {torch.float32}
    assert all(not torch.equal(before[name], parameter) for name, parameter in method._trained.items())


def test_control_can_be_left_out_of_samples():
    """There the control was never left out, also where guidance leads away from a half that has none."""
    empty = {"encoder_hidden_states": torch.zeros(1)}
    kept = [Dropping(0.0, 0.1)({}, empty, share / 100)[1] for share in range(100)]
    assert sum(kept) == 90
