import numpy as np
import PIL.Image
import pytest
import torch
from diffusers import HeunDiscreteScheduler, StableDiffusionPipeline
from diffusers.callbacks import PipelineCallback
from peft import LoraConfig
from test_weights import assert_same, copy_of, make_delta
from tiny_models import CHANNELS, Counter, make_module, sd_components, sdxl_components, svd_components

import controlnext
from controlnext import (
    ControlNeXtAdapter,
    StableDiffusionControlNeXtImg2ImgPipeline,
    StableDiffusionControlNeXtInpaintPipeline,
    StableDiffusionControlNeXtPipeline,
    StableDiffusionXLControlNeXtImg2ImgPipeline,
    StableDiffusionXLControlNeXtInpaintPipeline,
    StableDiffusionXLControlNeXtPipeline,
    StableVideoDiffusionControlNeXtPipeline,
)
from controlnext.errors import ControlNeXtError
from controlnext.method.control_images import ControlImageError, as_pictures, resized
from controlnext.method.gamma import ControlSizeError
from controlnext.method.injection import InjectionError, attached_injections
from controlnext.method.pipelines import PipelineError
from controlnext.method.weights import WeightsError

STEPS = 3


def drawing(height=64, width=64, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 255, (height // 8, width // 8, 3), np.uint8)
    return PIL.Image.fromarray(pixels).resize((width, height), PIL.Image.NEAREST)


def quiet(pipe):
    pipe.set_progress_bar_config(disable=True)
    return pipe


def run(pipe, prompt="a", seed=0, **kwargs):
    count = len(prompt) if isinstance(prompt, list) else 1
    count *= kwargs.get("num_images_per_prompt", 1)
    generators = [torch.Generator().manual_seed(seed + i) for i in range(count)]
    call = {"num_inference_steps": STEPS, "guidance_scale": 3.0, "output_type": "latent", **kwargs}
    return pipe(prompt, generator=generators if count > 1 else generators[0], **call).images


@pytest.fixture
def pipe():
    return quiet(StableDiffusionControlNeXtPipeline(**sd_components()))


@pytest.fixture
def adapter(pipe):
    return ControlNeXtAdapter(make_module("starter", 16), make_delta(pipe.unet), kind="delta", gamma=0.7)


@pytest.fixture
def loaded(pipe, adapter):
    pipe.load_controlnext(adapter)
    return pipe


def by_hand(pipe, adapter, conditions, gamma=0.7, alpha=1.0, **kwargs):
    """Run the stock pipeline on the same components with the adapter attached by hand."""
    stock = quiet(StableDiffusionPipeline(**pipe.components, requires_safety_checker=False))
    with adapter.attach(stock.unet, conditions, gamma, alpha):
        return run(stock, height=64, width=64, **kwargs)


def test_a_controlled_call_is_the_stock_call_with_the_adapter_attached(pipe, adapter):
    image = drawing()
    condition = torch.from_numpy(np.asarray(image, np.float32) / 255).permute(2, 0, 1)[None]
    expected = by_hand(pipe, adapter, condition, alpha=0.1)
    bare = run(pipe, height=64, width=64)
    pipe.load_controlnext(adapter)
    assert torch.equal(run(pipe, control_image=image, alpha=0.1), expected)
    assert not torch.allclose(bare, expected, atol=1e-2)


def test_without_a_control_image_it_is_the_stock_call(pipe, adapter):
    before = copy_of(pipe.unet)
    stock = run(quiet(StableDiffusionPipeline(**pipe.components, requires_safety_checker=False)))
    assert torch.equal(run(pipe), stock)
    pipe.load_controlnext(adapter)
    run(pipe, control_image=drawing())
    assert torch.equal(run(pipe), stock)
    assert_same(pipe.unet, before)


def test_unloading_restores_the_unet(loaded, adapter):
    run(loaded, control_image=drawing())
    loaded.unload_controlnext()
    loaded.unload_controlnext()
    assert not attached_injections(loaded.unet)
    assert_same(loaded.unet, copy_of(sd_components()["unet"]))
    with pytest.raises(PipelineError, match="load_controlnext"):
        run(loaded, control_image=drawing())
    loaded.load_controlnext(adapter)
    run(loaded, control_image=drawing())


def test_loading_twice_raises_and_keeps_the_first(loaded, adapter):
    with pytest.raises(InjectionError, match="already"):
        loaded.load_controlnext(ControlNeXtAdapter(make_module("starter", 16)))
    run(loaded, control_image=drawing())


def test_an_adapter_may_be_loaded_from_its_folder(pipe, adapter, tmp_path):
    adapter.save_pretrained(tmp_path)
    pipe.load_controlnext(tmp_path)
    from_folder = run(pipe, control_image=drawing())
    pipe.unload_controlnext()
    pipe.load_controlnext(adapter)
    assert torch.equal(run(pipe, control_image=drawing()), from_folder)


def test_gamma_zero_and_the_recommended_gamma(loaded, adapter):
    counter = Counter(adapter.module)
    off = run(loaded, control_image=drawing(), gamma=0)
    assert counter.count == 0
    assert torch.equal(off, by_hand_uncontrolled(loaded, adapter))
    recommended = run(loaded, control_image=drawing())
    assert torch.equal(recommended, run(loaded, control_image=drawing(), gamma=adapter.gamma))
    assert not torch.allclose(recommended, run(loaded, control_image=drawing(), gamma=2.0), atol=1e-3)


def by_hand_uncontrolled(pipe, adapter):
    """The stock call on a UNet with the adapter's weights added."""
    components = sd_components()
    parameters = dict(components["unet"].named_parameters())
    with torch.no_grad():
        for key, delta in adapter.unet_weights.items():
            parameters[key].add_(delta)
    return run(quiet(StableDiffusionPipeline(**components)), height=64, width=64)


def test_alpha_may_change_from_call_to_call(loaded):
    first = run(loaded, control_image=drawing(), alpha=0.2)
    run(loaded, control_image=drawing(), alpha=1.5)
    assert torch.equal(run(loaded, control_image=drawing(), alpha=0.2), first)
    with pytest.raises(WeightsError):
        run(loaded, control_image=drawing(), alpha=2)


def test_the_control_is_computed_once_and_the_next_run_needs_none(loaded, adapter):
    counter = Counter(adapter.module)
    for seed in range(2):
        run(loaded, ["a", "b"], seed, control_image=drawing(), num_images_per_prompt=2)
    assert counter.count == STEPS


@pytest.mark.parametrize(
    ("window", "active"),
    [((0.0, 0.5), [0, 1]), ((0.5, 1.0), [2, 3]), ((0.25, 0.75), [1, 2]), ((0.0, 0.0), []), ((0.3, 0.6), [])],
)
def test_the_window_limits_the_steps(loaded, adapter, window, active):
    times = []
    adapter.module.register_forward_pre_hook(lambda _, args: times.append(int(args[1])))
    start, end = window
    run(loaded, control_image=drawing(), control_start=start, control_end=end, num_inference_steps=4)
    assert times == [int(loaded.scheduler.timesteps[index]) for index in active]


def test_the_window_counts_the_steps_of_two_stage_schedulers(loaded, adapter):
    loaded.scheduler = HeunDiscreteScheduler()
    counter = Counter(adapter.module)
    run(loaded, control_image=drawing(), control_end=0.5, num_inference_steps=4)
    assert len(loaded.scheduler.timesteps) == 7
    assert counter.count == 3 - 1  # three of seven forwards, of which two are at the same time


@pytest.mark.parametrize("window", [(-0.1, 1), (0, 1.1), (0.6, 0.5), (float("nan"), 1)])
def test_windows_that_make_no_sense_are_refused(loaded, window):
    with pytest.raises(PipelineError, match="control_start and control_end"):
        run(loaded, control_image=drawing(), control_start=window[0], control_end=window[1])


def test_size_defaults_to_the_condition_rounded_down(loaded):
    assert run(loaded, control_image=drawing(64, 96)).shape[-2:] == (8, 12)
    wide = drawing(64, 96).resize((103, 71))
    assert run(loaded, control_image=wide).shape[-2:] == (8, 12)
    assert run(loaded, control_image=wide, height=72).shape[-2:] == (9, 12)
    assert run(loaded, control_image=drawing(), height=32, width=48).shape[-2:] == (4, 6)


def test_every_prompt_its_own_control_image_and_gamma(loaded):
    prompts, images = ["a", "b"], [drawing(seed=0), drawing(seed=1)]
    together = run(loaded, prompts, control_image=images, gamma=[0.4, 1.2], num_images_per_prompt=2)
    for index, (prompt, image, gamma) in enumerate(zip(prompts, images, (0.4, 1.2), strict=True)):
        alone = run(loaded, prompt, 2 * index, control_image=image, gamma=gamma, num_images_per_prompt=2)
        torch.testing.assert_close(together[2 * index : 2 * index + 2], alone, rtol=1e-3, atol=1e-4)  # batch size


def test_every_picture_its_own_control_image_and_gamma(loaded):
    images, gammas = [drawing(seed=0), drawing(seed=1)], torch.tensor([0.0, 1.2])
    together = run(loaded, control_image=images, gamma=gammas, num_images_per_prompt=2)
    for index in range(2):
        alone = run(loaded, "a", index, control_image=images[index], gamma=float(gammas[index]))
        torch.testing.assert_close(together[index], alone[0], rtol=1e-3, atol=1e-4)


def test_numbers_that_do_not_match_are_refused(loaded):
    with pytest.raises(ControlSizeError, match=r"3 control images .* give 1 or 2 or 4"):
        run(loaded, ["a", "b"], control_image=[drawing()] * 3, num_images_per_prompt=2)
    with pytest.raises(ControlSizeError, match="3 values of gamma"):
        run(loaded, ["a", "b"], control_image=drawing(), gamma=[1, 1, 1])
    with pytest.raises(ControlSizeError, match="finite"):
        run(loaded, control_image=drawing(), gamma=float("nan"))


def test_a_failed_call_leaves_the_pipeline_usable(loaded):
    expected = run(loaded, control_image=drawing())
    with pytest.raises(TypeError):
        run(loaded, control_image=drawing(), num_inference_steps="many")
    with pytest.raises(ControlNeXtError):
        run(loaded, control_image=drawing(), gamma="strong")
    assert torch.equal(run(loaded, control_image=drawing()), expected)


def test_callbacks_work_as_ever(loaded):
    steps = []

    def note(pipe, step, timestep, tensors):
        steps.append((step, tensors["latents"].shape))
        return tensors

    class Halve(PipelineCallback):
        tensor_inputs = ("latents",)

        def callback_fn(self, pipe, step, timestep, tensors):
            steps.append(step)
            return tensors

    expected = run(loaded, control_image=drawing())
    assert torch.equal(run(loaded, control_image=drawing(), callback_on_step_end=note), expected)
    assert steps == [(step, (1, 4, 8, 8)) for step in range(STEPS)]
    steps.clear()
    run(loaded, control_image=drawing(), callback_on_step_end=Halve())
    assert steps == list(range(STEPS))


def test_positional_arguments_and_embeddings(loaded):
    by_name = run(loaded, control_image=drawing(), height=32, width=40)
    positional = loaded(
        "a",
        32,
        40,
        STEPS,
        guidance_scale=3.0,
        output_type="latent",
        generator=torch.Generator().manual_seed(0),
        control_image=drawing(),
    )
    assert torch.equal(positional.images, by_name)
    embeddings = torch.randn(2, 8, 16)
    out = loaded(
        prompt_embeds=embeddings,
        negative_prompt_embeds=embeddings,
        num_inference_steps=1,
        control_image=[drawing()] * 2,
        output_type="latent",
    )
    assert out.images.shape[0] == 2


def test_guidance_may_be_off(loaded):
    assert run(loaded, control_image=drawing(), guidance_scale=1.0).isfinite().all()


@pytest.mark.parametrize("lora_first", [True, False])
def test_loras_join_in(pipe, adapter, lora_first):
    def add_lora():
        torch.manual_seed(5)
        pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["to_out.0", "to_q"], init_lora_weights=False), "style")

    if lora_first:
        add_lora()
    pipe.load_controlnext(adapter)
    without = run(pipe, control_image=drawing()) if not lora_first else None
    if not lora_first:
        add_lora()
    pipe.unet.set_adapters(["style"], [0.8])
    strong = run(pipe, control_image=drawing())
    pipe.unet.set_adapters(["style"], [0.0])
    off = run(pipe, control_image=drawing())
    assert not torch.allclose(strong, off, atol=1e-3)
    if without is not None:
        torch.testing.assert_close(off, without, rtol=1e-4, atol=1e-5)
    pipe.unload_controlnext()
    pipe.unet.unload_lora()
    assert_same(pipe.unet, copy_of(sd_components()["unet"]))


def test_from_pipe_shares_the_unet_and_the_adapter(loaded):
    start = drawing(seed=3)
    other = quiet(StableDiffusionControlNeXtImg2ImgPipeline.from_pipe(loaded))
    assert other.unet is loaded.unet
    out = run(other, image=start, strength=0.7, control_image=drawing(96, 96))
    assert out.shape[-2:] == (8, 8)
    other.unload_controlnext()
    with pytest.raises(PipelineError, match="load_controlnext"):
        run(loaded, control_image=drawing())


def test_from_pipe_keeps_the_dtype_of_a_stock_pipeline():
    stock = StableDiffusionPipeline(**sd_components()).to(torch.bfloat16)
    pipe = quiet(StableDiffusionControlNeXtPipeline.from_pipe(stock))
    assert pipe.unet.dtype == torch.bfloat16
    pipe.load_controlnext(ControlNeXtAdapter(make_module("starter", 16)))
    assert run(pipe, control_image=drawing()).isfinite().all()


def test_save_and_load_a_pipeline(loaded, tmp_path):
    loaded.unload_controlnext()
    loaded.save_pretrained(tmp_path)
    again = quiet(StableDiffusionControlNeXtPipeline.from_pretrained(tmp_path, safety_checker=None))
    torch.testing.assert_close(run(again), run(loaded), rtol=1e-4, atol=1e-5)  # alignment in memory


def start_images(pipe):
    if "Inpaint" in type(pipe).__name__:
        return {"image": drawing(seed=3), "mask_image": drawing(seed=4), "strength": 0.8}
    return {"image": drawing(seed=3), "strength": 0.8} if "Img2Img" in type(pipe).__name__ else {}


@pytest.mark.parametrize(
    ("kind", "components", "variant"),
    [
        (StableDiffusionControlNeXtPipeline, sd_components, "sd15"),
        (StableDiffusionControlNeXtImg2ImgPipeline, sd_components, "sd15-train"),
        (StableDiffusionControlNeXtInpaintPipeline, sd_components, "starter"),
        (StableDiffusionXLControlNeXtPipeline, sdxl_components, "sdxl"),
        (StableDiffusionXLControlNeXtImg2ImgPipeline, sdxl_components, "sdxl"),
        (StableDiffusionXLControlNeXtInpaintPipeline, sdxl_components, "sdxl"),
    ],
)
def test_every_image_pipeline(kind, components, variant):
    pipe = quiet(kind(**components()))
    module = make_module(variant, CHANNELS[variant])
    pipe.load_controlnext(ControlNeXtAdapter(module))
    counter, start = Counter(module), start_images(pipe)
    bare = run(pipe, **start, **({} if "Img2Img" in kind.__name__ else {"height": 64, "width": 64}))
    controlled = run(pipe, control_image=drawing(), num_inference_steps=4, **start)
    assert controlled.shape == bare.shape
    assert counter.count == (3 if start else 4)
    assert not torch.allclose(run(pipe, control_image=drawing(), gamma=0, **start), controlled, atol=1e-3)
    assert torch.equal(run(pipe, control_image=drawing(), gamma=0, **start), bare)


@pytest.mark.parametrize("variant", ["svd-v1", "svd-v2"])
def test_the_video_pipeline(variant):
    pipe = quiet(StableVideoDiffusionControlNeXtPipeline(**svd_components()))
    module = make_module(variant, CHANNELS[variant])
    pipe.load_controlnext(ControlNeXtAdapter(module))
    frames = [drawing(96, 96, seed) for seed in range(3)]
    call = {"num_inference_steps": 2, "output_type": "latent", "decode_chunk_size": 1}

    def animate(**kwargs):
        return pipe(drawing(seed=9), generator=torch.Generator().manual_seed(0), **call, **kwargs).frames

    counter = Counter(module)
    controlled = animate(control_image=frames)
    assert controlled.shape == (1, 3, 4, 12, 12)
    assert counter.count == 2
    bare = animate(height=96, width=96, num_frames=3)
    assert not torch.allclose(controlled, bare, atol=1e-3)
    assert torch.equal(animate(control_image=frames, gamma=0.0), bare)


def test_cropping_by_mask_is_refused():
    pipe = quiet(StableDiffusionControlNeXtInpaintPipeline(**sd_components()))
    pipe.load_controlnext(ControlNeXtAdapter(make_module("starter", 16)))
    with pytest.raises(PipelineError, match="padding_mask_crop"):
        run(pipe, control_image=drawing(), padding_mask_crop=8, **start_images(pipe))


def test_an_adapter_of_another_family_is_remarked(pipe, caplog):
    pipe.load_controlnext(ControlNeXtAdapter(make_module("sdxl", 16)))
    assert "sdxl is made for sdxl" in caplog.text


def test_pictures_of_every_form_are_one_condition():
    image = drawing(16, 24)
    array = np.asarray(image)
    forms = [
        image,
        image.convert("RGBA"),
        array,
        array[None],
        array.astype(np.float32) / 255,
        torch.from_numpy(array.copy()).permute(2, 0, 1),
        torch.from_numpy(array.copy()).permute(2, 0, 1)[None].float() / 255,
        [image],
    ]
    expected = resized(image, 16, 24)
    assert expected.shape == (3, 16, 24)
    for form in forms:
        (picture,) = as_pictures(form)
        assert torch.equal(resized(picture, 16, 24), expected)
        # bytes round after each pass of the filter, floats do not
        torch.testing.assert_close(resized(picture, 8, 40), resized(image, 8, 40), rtol=0, atol=0.02)
    assert len(as_pictures([image, np.stack([array, array]), array])) == 4
    grey = np.linspace(0, 1, 16 * 24, dtype=np.float32).reshape(16, 24)
    assert torch.equal(resized(as_pictures(grey)[0], 16, 24), torch.from_numpy(grey).expand(3, 16, 24))


def test_resizing_is_that_of_the_authors_image_processor():
    from diffusers.image_processor import VaeImageProcessor

    image = drawing(40, 72, seed=2)
    processor = VaeImageProcessor(vae_scale_factor=8, do_convert_rgb=True, do_normalize=False)
    assert torch.equal(resized(image, 64, 48), processor.preprocess(image, height=64, width=48)[0])


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        ("picture.png", "not str"),
        ([], "empty"),
        (np.zeros((8, 8, 4), np.uint8), "shape"),
        (np.zeros(8, np.uint8), "shape"),
        (np.full((8, 8, 3), 200.0), "from 200 to 200"),
        (torch.full((3, 8, 8), -1.0), "from -1 to -1"),
        (torch.full((3, 8, 8), torch.nan), "nan"),
    ],
)
def test_other_things_are_no_pictures(picture, message):
    with pytest.raises(ControlImageError, match=message):
        as_pictures(picture)


def test_tiny_pictures_are_refused(loaded):
    with pytest.raises(PipelineError, match="at least 8 pixels"):
        run(loaded, control_image=PIL.Image.new("RGB", (1, 1)))


def test_every_public_pipeline_is_tested_here():
    import test_transformer_pipelines as others

    assert {name for name in controlnext.__all__ if name.endswith("Pipeline")} <= globals().keys() | vars(
        others
    ).keys()
