import math

import numpy as np
import oracle
import PIL.Image
import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableVideoDiffusionPipeline
from tiny_models import CHANNELS, Counter, make_module, svd_components

from controlnext import ControlNeXtAdapter, StableVideoDiffusionControlNeXtPipeline
from controlnext.engine.preview import CleanEstimate, LatentPreview
from controlnext.method.control_images import ControlImageError
from controlnext.method.gamma import ControlSizeError
from controlnext.method.pipelines import PipelineError
from controlnext.method.video_pipeline import as_frames
from controlnext.method.windows import WindowError

SIZE = 96  # the smallest that the control module of SVD v1, which reduces by 32, takes
FRAMES = 7
SHORT = {"window": 4, "overlap": 2}


def drawing(seed=0):
    pixels = np.random.default_rng(seed).integers(0, 255, (SIZE // 8, SIZE // 8, 3), np.uint8)
    return PIL.Image.fromarray(pixels).resize((SIZE, SIZE), PIL.Image.NEAREST)


def drawings(count=FRAMES):
    return [drawing(seed) for seed in range(count)]


def quiet(pipe):
    pipe.set_progress_bar_config(disable=True)
    return pipe


def make_pipe(variant="svd-v2", **adapter):
    pipe = quiet(StableVideoDiffusionControlNeXtPipeline(**svd_components()))
    pipe.load_controlnext(ControlNeXtAdapter(make_module(variant, CHANNELS[variant]), **adapter))
    return pipe


@pytest.fixture(scope="module")
def shared():
    """A pipeline for tests that leave it as it was."""
    return make_pipe()


def arguments(**changes):
    seeded = {"generator": torch.Generator().manual_seed(0), "num_inference_steps": 2}
    return {"image": drawing(99), **seeded, "output_type": "latent", **changes}


def run(pipe, frames=FRAMES, **changes):
    call = arguments(**changes)
    call.setdefault("control_image", drawings(frames))
    return pipe(**call).frames


def released_pipe(variant, gamma):
    pipe = make_pipe(variant, gamma=gamma)
    pipe.scheduler = EulerDiscreteScheduler(
        sigma_min=0.002, sigma_max=700.0, timestep_type="continuous", use_karras_sigmas=True,
        prediction_type="v_prediction", beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012,
        timestep_spacing="leading", steps_offset=1,
    )  # fmt: skip
    return pipe


@pytest.mark.parametrize("variant", ["svd-v1", "svd-v2"])
@torch.no_grad()
def test_the_authors_pipeline_in_windows(variant):
    """The whole of it, from noise to latents: the authors' loop by hand, the UNet block by block, the control in numpy."""
    gamma, steps, guidance, window, overlap = 0.9, 3, (1.5, 3.0), 4, 2
    pipe, bare = released_pipe(variant, gamma), svd_components()["unet"]
    module = pipe.controlnexts["default"].adapter.module
    conditions = [torch.from_numpy(np.asarray(frame, np.float32) / 255).permute(2, 0, 1)[None] for frame in drawings()]
    generator = torch.Generator().manual_seed(0)
    start = torch.from_numpy(np.asarray(drawing(99), np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
    start = start + 0.05 * torch.randn(start.shape, generator=generator)
    image_latents = pipe.vae.encode(start).latent_dist.mode()
    embedding = pipe._encode_image(drawing(99), "cpu", 1, False)
    sigmas = oracle.karras_sigmas(steps)
    noise = torch.randn(1, FRAMES, 4, SIZE // 8, SIZE // 8, generator=generator)[0]

    def predict(timestep, part, frames):
        controls = [0 if variant == "svd-v2" and frames[0] else frames[0], *frames[1:]]
        state = module.state_dict()
        control = torch.cat(
            [oracle.control_module(state, conditions[frame], timestep, variant, padding=0) for frame in controls]
        ).numpy()

        def add(hidden):
            rows = oracle.inject(
                variant,
                hidden.numpy(),
                np.concatenate([control, control]),
                np.full(2 * window, gamma),
                module.scale.item() if variant == "svd-v1" else 1.0,
                uncond=window,
            )
            return torch.from_numpy(rows).float()

        images = image_latents.expand(window, -1, -1, -1)
        sample = torch.stack([torch.cat([part, 0 * images], dim=1), torch.cat([part, images], dim=1)])
        return oracle.forked_unet(
            bare,
            sample,
            timestep,
            torch.cat([0 * embedding, embedding]),
            torch.tensor([[6, 128, 0.02]] * 2),
            place=oracle.PLACES[variant],
            add=add,
        )

    noise = noise * math.sqrt(sigmas[0] ** 2 + 1)
    expected = oracle.denoise_in_windows(predict, noise, sigmas, window, overlap, guidance)
    call = {
        "num_inference_steps": steps, "noise_aug_strength": 0.05, "micro_conditioning": False,
        "min_guidance_scale": guidance[0], "max_guidance_scale": guidance[1], "window": window, "overlap": overlap,
    }  # fmt: skip
    # float32 through three steps against float64 in the places that matter; noise begins at 700
    torch.testing.assert_close(run(pipe, **call)[0], expected, rtol=2e-3, atol=2e-3)
    for other in ({"micro_conditioning": True}, {"overlap": 1}, {"min_guidance_scale": guidance[1]}):
        assert not torch.allclose(run(pipe, **{**call, **other})[0], expected, rtol=2e-3, atol=2e-3)


def test_windows_as_long_as_the_video_equal_the_stock_call(shared):
    adapter = shared.controlnexts["default"].adapter
    frames = run(shared, window=FRAMES, output_type="np")
    shared.unload_controlnext()
    try:
        stock = quiet(StableVideoDiffusionPipeline(**shared.components))
        conditions = torch.stack(
            [torch.from_numpy(np.asarray(frame, np.float32) / 255).permute(2, 0, 1) for frame in drawings()]
        )
        with adapter.attach(stock.unet, conditions[None]):
            expected = stock(**arguments(output_type="np"), height=SIZE, width=SIZE, num_frames=FRAMES).frames
    finally:
        shared.load_controlnext(adapter)
    assert np.array_equal(frames, expected)
    assert type(shared.unet) is type(stock.unet)


def test_without_control_images_it_is_the_stock_call_or_windows_of_it(shared):
    size = {"height": SIZE, "width": SIZE, "num_frames": FRAMES, "control_image": None}
    stock = quiet(StableVideoDiffusionPipeline(**shared.components))
    bare = stock(**arguments(), height=SIZE, width=SIZE, num_frames=FRAMES).frames
    assert torch.equal(run(shared, **size), bare)
    windowed = run(shared, **size, **SHORT)
    assert not torch.allclose(windowed, bare, atol=1e-3)
    assert torch.equal(run(shared, gamma=0, **SHORT), windowed)


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 9])
def test_any_number_of_frames(shared, frames):
    told = []
    latents = run(shared, frames, num_inference_steps=1, window=4, overlap=3, on_window=lambda *row: told.append(row))
    assert latents.shape == (1, frames, 4, SIZE // 8, SIZE // 8)
    assert latents.isfinite().all()
    assert told == [(0, done, len(told)) for done in range(1, len(told) + 1)]
    assert len(told) == max(1, frames - 3)


def test_micro_conditioning_is_as_asked_for_or_as_released(shared):
    told = []
    handle = shared.unet.register_forward_pre_hook(
        lambda _, args, kwargs: told.append(kwargs["added_time_ids"]), with_kwargs=True
    )
    call = {"fps": 12, "motion_bucket_id": 40, "noise_aug_strength": 0.1, "num_inference_steps": 1}
    try:
        honoured = run(shared, 2, **call)
        released = run(shared, 2, **call, micro_conditioning=False)
        again = run(shared, 2, **call)
    finally:
        handle.remove()
    assert [ids.tolist() for ids in told] == [
        [pytest.approx(row)] * 2 for row in ([11, 40, 0.1], [6, 128, 0.02], [11, 40, 0.1])
    ]
    assert torch.equal(honoured, again)
    assert not torch.allclose(honoured, released, atol=1e-4)


def starting_noise(pipe, frames=4, **changes):
    """The noise before the first step, of unit variance."""
    seen = []
    handle = pipe.unet.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    try:
        run(pipe, frames, num_inference_steps=1, **changes)
    finally:
        handle.remove()
    return seen[0][:1, :, :4].double()


def test_frames_share_as_much_of_their_noise_as_asked_for(shared):
    stock = starting_noise(shared)
    assert torch.equal(starting_noise(shared, shared_noise=0), stock)
    same = starting_noise(shared, shared_noise=1.0)
    assert torch.equal(same, same[:, :1].expand_as(same))
    half = starting_noise(shared, shared_noise=0.5)
    assert half.std().item() == pytest.approx(stock.std().item(), rel=0.1)
    for noise, share in ((stock, 0.0), (half, 0.5), (same, 1.0)):
        first, second = noise[0, 0].flatten(), noise[0, 1].flatten()
        assert torch.corrcoef(torch.stack([first, second]))[0, 1].item() == pytest.approx(share, abs=0.12)
    assert torch.equal(starting_noise(shared), stock)  # it holds for one call
    given = torch.randn(1, 4, 4, SIZE // 8, SIZE // 8, generator=torch.Generator().manual_seed(5))
    assert torch.equal(*(starting_noise(shared, latents=given, shared_noise=share) for share in (0.0, 1.0)))
    for share in (-0.1, 1.1):
        with pytest.raises(PipelineError, match="from 0 to 1"):
            run(shared, 2, shared_noise=share)


class Drawn:
    """Frames that are drawn when they are asked for."""

    def __init__(self, count=FRAMES):
        self.count, self.fetched = count, []

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.fetched.append(index)
        return drawing(index)


def test_control_images_in_every_form_are_one_video(shared):
    call = {"num_inference_steps": 1, **SHORT}
    expected = run(shared, **call)
    array = np.stack([np.asarray(frame) for frame in drawings()])
    tensor = torch.from_numpy(array).permute(0, 3, 1, 2)
    for frames in (tuple(drawings()), array, tensor, Drawn(), iter(drawings())):
        assert torch.equal(run(shared, control_image=frames, **call), expected)
    larger = [frame.resize((2 * SIZE, 2 * SIZE), PIL.Image.NEAREST) for frame in drawings()]
    assert run(shared, control_image=larger, height=SIZE, width=SIZE, **call).shape == expected.shape


def test_frames_are_drawn_once_a_step_as_windows_come(shared):
    frames = Drawn(9)
    run(shared, control_image=frames, **SHORT)
    assert frames.fetched[0] == 0  # for its size
    assert frames.fetched[1:] == [*range(9), *range(9)]


def test_a_picture_alone_is_a_video_of_one_frame():
    assert (
        len(as_frames(drawing())) == len(as_frames(np.zeros((8, 8, 3)))) == len(as_frames(torch.zeros(3, 8, 8))) == 1
    )


def test_control_images_that_are_no_video_are_refused(shared):
    with pytest.raises(ControlImageError, match="is empty"):
        run(shared, control_image=[])
    with pytest.raises(ControlImageError, match="one picture a frame, not int"):
        run(shared, control_image=7)
    with pytest.raises(PipelineError, match="5 frames needs as many control images, but 7 were given"):
        run(shared, num_frames=5)
    with pytest.raises(WindowError, match="window"):
        run(shared, window=4, overlap=4)
    with pytest.raises(ControlSizeError, match="gamma"):
        run(shared, gamma=float("nan"))
    assert run(shared, 1, num_inference_steps=1).isfinite().all()  # and none of it leaves a trace


def test_gamma_and_control_window_count_steps_not_windows(shared):
    counter = Counter(shared.controlnexts["default"].adapter.module)
    call = {"num_inference_steps": 4, **SHORT}
    half = run(shared, control_end=0.5, **call)
    assert counter.count == 2 * 3  # of two steps, 4, 2 and 1 frames more in each window
    curve = run(shared, gamma="0:1, 0.4:1, 0.5:0", **call)
    assert torch.equal(curve, half)
    assert not torch.allclose(run(shared, **call), half, atol=1e-3)


def test_several_adapters_control_a_long_video():
    pipe = make_pipe("svd-v2")
    pipe.load_controlnext(ControlNeXtAdapter(make_module("svd-v1", CHANNELS["svd-v1"])), "second")
    call = {"num_inference_steps": 1, **SHORT}
    both = run(pipe, control_image=[drawings(), drawings()[::-1]], **call)
    first = run(pipe, control_image=[drawings(), None], **call)
    assert not torch.allclose(both, first, atol=1e-3)
    pipe.unload_controlnext("second")
    assert torch.equal(run(pipe, **call), first)
    pipe.load_controlnext(ControlNeXtAdapter(make_module("svd-v1", CHANNELS["svd-v1"])), "second")
    with pytest.raises(PipelineError, match="7 frames needs as many control images, but 3"):
        run(pipe, control_image=[drawings(), drawings(3)], **call)


@pytest.mark.parametrize("place", ["on_window", "callback_on_step_end"])
def test_stopping_leaves_the_pipeline_usable(shared, place):
    class Stop(Exception):
        pass

    def stop(*_):
        raise Stop

    unet = shared.unet
    call = {"num_inference_steps": 1, **SHORT}
    expected = run(shared, **call)
    with pytest.raises(Stop):
        run(shared, **call, **{place: stop})
    assert shared.unet is unet
    assert torch.equal(run(shared, **call), expected)


def pixels(frames):
    return np.stack([np.asarray(frame) for frame in frames])


def test_a_stream_gives_the_frames_of_the_call(shared):
    call = {"num_inference_steps": 1, "output_type": "pil", **SHORT}
    expected = run(shared, **call, decode_chunk_size=3)
    stream = shared.stream(**arguments(control_image=drawings(), **call, decode_chunk_size=3))
    assert len(stream) == FRAMES
    assert isinstance(next(stream), PIL.Image.Image)
    assert np.array_equal(pixels(stream), pixels(expected[0])[1:])
    with pytest.raises(StopIteration):
        next(stream)
    by_position = shared.stream(drawing(99), SIZE, SIZE, control_image=drawings(), num_inference_steps=1, **SHORT)
    assert by_position.decode_chunk_size == SHORT["window"]


def stream(pipe, **changes):
    call = {"num_inference_steps": 1, "output_type": "pil", **SHORT, **changes}
    return pipe.stream(**arguments(control_image=drawings(), **call))


def test_a_stream_decodes_no_more_than_it_is_asked_for(shared, monkeypatch):
    decoded, decode = [], type(shared.vae).decode
    monkeypatch.setattr(
        type(shared.vae), "decode", lambda self, z, **options: decoded.append(len(z)) or decode(self, z, **options)
    )
    frames = stream(shared, decode_chunk_size=2)
    assert decoded == []
    next(frames)
    next(frames)
    assert decoded == [2]
    list(frames)
    assert decoded == [2, 2, 2, 1]


def test_a_stream_decodes_fewer_frames_at_once_where_memory_is_short(shared, monkeypatch):
    whole, decode = pixels(stream(shared, decode_chunk_size=1)), shared.decode_latents

    def short(latents, num_frames, chunk):
        if num_frames > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(latents, num_frames, chunk)

    monkeypatch.setattr(shared, "decode_latents", short)
    frames = stream(shared, decode_chunk_size=4)
    assert np.array_equal(pixels(frames), whole)
    assert frames.decode_chunk_size == 1

    def shorter(*_):
        raise MemoryError

    monkeypatch.setattr(shared, "decode_latents", shorter)
    with pytest.raises(MemoryError):
        next(stream(shared))


def test_one_video_of_frames_is_streamed(shared):
    with pytest.raises(PipelineError, match="not 2"):
        stream(shared, num_videos_per_prompt=2)
    with pytest.raises(PipelineError, match="not 2"):
        stream(shared, image=[drawing(1), drawing(2)])
    with pytest.raises(PipelineError, match="Latents"):
        stream(shared, output_type="latent")


def test_an_offloaded_pipeline_runs_in_windows():
    pipe = make_pipe()
    expected = pixels(stream(pipe))
    unet = pipe.unet
    pipe.enable_model_cpu_offload(device="cpu")
    for _ in range(2):
        assert np.array_equal(pixels(stream(pipe)), expected)
        assert pipe.unet is unet
        assert hasattr(unet, "_hf_hook")
    pipe.remove_all_hooks()
    assert not hasattr(unet, "_hf_hook")


def test_steps_of_a_video_are_shown_as_a_strip_of_frames(shared):
    look, shown = LatentPreview.fit(shared.vae), []
    estimate = None

    def after_step(pipe, step, timestep, tensors):
        nonlocal estimate
        estimate = estimate or CleanEstimate(pipe.scheduler)
        shown.append(look.draw(estimate(step, tensors["latents"][0, [0, 3, 6]]), 24, 16))
        return tensors

    run(shared, callback_on_step_end=after_step, **SHORT)
    assert [picture.size for picture in shown] == [(3 * 24, 16)] * 2
    assert not np.array_equal(*map(np.asarray, shown))
