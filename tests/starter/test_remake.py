import json
import sys

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from safetensors.torch import load_file

from controlnext.assets import STARTER
from controlnext.method.adapter import ControlNeXtAdapter
from controlnext.method.model import ControlNeXtModel
from controlnext.starter.remake import __main__ as supervisor
from controlnext.starter.remake import adapters, autoencoder, base, gpu, latents, packing, reader, together
from controlnext.starter.remake.compute import CPU
from controlnext.starter.remake.networks import (
    LATENT_CHANNELS,
    TEXT_WIDTH,
    borrow,
    borrow_vae,
    level,
    make_reader,
    make_unet,
    make_vae,
)
from controlnext.starter.remake.redrawn import Redrawn
from controlnext.starter.scenes import shards
from controlnext.starter.scenes.palette import PARTS
from controlnext.starter.scenes.shards import Archive, make_example, write_shard
from controlnext.starter.scenes.shot import SIDE
from controlnext.starter.train import adapter, loop
from controlnext.starter.train.dataset import to_tensor
from controlnext.starter.train.loop import LIGHT, Plan

BRIEF = Plan(0.004, warm_up=1, checkpoint=1e9, clock="cpu")


@pytest.fixture(scope="module")
def patches():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def runs(tmp_path_factory, patches):
    """A run of every stage, a few steps each, on four pictures."""
    folder = tmp_path_factory.mktemp("runs")
    for module in (autoencoder, base, adapters, reader, together):
        for name in ("HELD_OUT", "SHEET"):
            if hasattr(module, name):
                patches.setattr(module, name, 1)
    patches.setattr(base, "SHEET_STEPS", 2)
    patches.setattr(adapter, "STEPS", 2)
    write_shard(folder / "data", 0, 4)
    autoencoder.train(folder / "data", folder / "autoencoder", BRIEF, start=STARTER / "base" / "vae", batch=2)
    latents.encode_shards(folder / "data", folder / "autoencoder")
    base.train(folder / "data", folder / "autoencoder", folder / "base", BRIEF, start=STARTER / "base", batch=2)
    adapters.train(
        folder / "data",
        folder / "base" / "pipeline",
        folder / "adapters" / "pose",
        BRIEF,
        kind="pose",
        start=STARTER / "adapters" / "pose",
        batch=2,
    )
    reader.train(folder / "data", folder / "reader", BRIEF, batch=2, start=STARTER / "annotator")
    drawing = folder / "base" / "pipeline"
    autoencoder.sharpen(
        folder / "data", folder / "autoencoder", folder / "reader", folder / "decoder", BRIEF, base=drawing, batch=2
    )
    return folder


def test_a_base_draws_half_of_the_latents_again_and_keeps_what_they_show():
    vae = AutoencoderKL.from_pretrained(STARTER / "base" / "vae", dtype=torch.float32)
    redrawn, x = Redrawn(STARTER / "base", vae, CPU), to_tensor(np.stack([make_example(s).view.rgb for s in range(4)]))
    with torch.no_grad():
        latents = vae.encode(x).latent_dist.mean
    torch.manual_seed(0)
    made = redrawn(latents)
    assert torch.equal(made[2:], latents[2:])
    apart = (made[:2] - latents[:2]).square().mean() / latents.var()
    assert 1e-4 < apart < 0.3


def latents_of_scenes(vae):
    x = to_tensor(np.stack([make_example(seed).view.rgb for seed in range(3)]))
    with torch.no_grad():
        return x, vae.encode(x).latent_dist.mean


def test_more_latent_channels_start_from_the_older_autoencoder():
    older = AutoencoderKL.from_pretrained(STARTER / "base" / "vae", dtype=torch.float32)
    torch.manual_seed(0)
    vae = make_vae(8)
    assert borrow_vae(vae, STARTER / "base" / "vae") == 4
    (x, latents), (_, known) = latents_of_scenes(vae), latents_of_scenes(older)
    torch.testing.assert_close(latents[:, :4], known, rtol=0, atol=1e-4)
    with torch.no_grad():
        assert vae.encode(x).latent_dist.logvar[:, 4:].max() < -5
        errors = [float((v.decode(z).sample - x).square().mean()) for v, z in ((vae, latents), (older, known))]
    assert errors[0] < 1.2 * errors[1]


def test_channels_are_levelled_without_changing_pictures():
    torch.manual_seed(0)
    vae = make_vae(8)
    borrow_vae(vae, STARTER / "base" / "vae")
    x, before = latents_of_scenes(vae)
    with torch.no_grad():
        picture, noise = vae.decode(before).sample, vae.encode(x).latent_dist.logvar
        level(vae, before, 4)
        _, after = latents_of_scenes(vae)
        torch.testing.assert_close(vae.decode(after).sample, picture, rtol=0, atol=1e-4)
        louder = vae.encode(x).latent_dist.logvar - noise
    assert torch.equal(after[:, :4], before[:, :4])
    wanted = float(after[:, :4].std())
    assert after[:, 4:].std((0, 2, 3)).tolist() == pytest.approx([wanted] * 4, rel=0.01)
    factor = after[:, 4:].std((0, 2, 3)) / before[:, 4:].std((0, 2, 3))
    torch.testing.assert_close(louder[:, 4:].mean((0, 2, 3)), 2 * factor.log(), rtol=0, atol=0.01)


def test_every_stage_writes_what_the_next_one_needs(runs):
    assert (
        AutoencoderKL.from_pretrained(runs / "autoencoder").config.latent_channels == make_vae().config.latent_channels
    )
    archive = Archive(runs / "data", latents=f"latents-{make_vae().config.latent_channels}")
    height, width = archive.array("rgb", 0).shape[:2]
    assert archive[0].latent.shape == (make_vae().config.latent_channels, height // 8, width // 8)
    assert 0.2 < np.std([archive[i].latent for i in range(4)]) < 5
    assert (runs / "base" / "sheets").is_dir()
    assert (runs / "adapters" / "pose" / "adapter" / "config.json").is_file()


def test_the_packed_starter_draws_under_control(runs):
    sizes = packing.pack(runs, runs / "starter")
    assert sizes["largest"] < 10
    pipeline = StableDiffusionPipeline.from_pretrained(runs / "starter" / "base", safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    from controlnext.starter.train.adapter import as_conditions, controlled

    packed = ControlNeXtAdapter.from_pretrained(runs / "starter" / "adapters" / "pose", variant="starter")
    picture = controlled(pipeline, packed.module, as_conditions([make_example(0).view.rgb]), ["a woman"])
    assert picture.shape == (1, SIDE, SIDE, 3)
    assert set(reader.load_reader(runs / "starter" / "annotator").state_dict()) == set(make_reader().state_dict())


def test_training_resumes_where_it_stopped(runs):
    before = torch.load(runs / "base" / "checkpoint.pt", weights_only=True)
    plan = Plan(before["elapsed"] / 60 + 0.004, warm_up=1, checkpoint=1e9, clock="cpu")
    figures = base.train(runs / "data", runs / "autoencoder", runs / "base", plan, batch=2)
    assert figures["step"] > before["step"]
    assert 0 < figures["held_out"] < 10


def test_a_base_learns_under_modules_that_stay(runs, tmp_path):
    figures = together.train(runs / "data", runs / "autoencoder", tmp_path / "together", BRIEF, start=STARTER, batch=2)
    assert figures["step"] >= 1
    assert 0 < figures["held_out"] < 10
    packing.pack(tmp_path, tmp_path / "starter")
    for kind in together.KINDS:
        packed, known = (
            ControlNeXtAdapter.from_pretrained(folder / "adapters" / kind, variant="starter")
            for folder in (tmp_path / "starter", STARTER)
        )
        assert packed.unet_weights is None
        for name, value in known.module.state_dict().items():
            torch.testing.assert_close(packed.module.state_dict()[name], value, atol=2e-3, rtol=1e-3)
    changed = load_file(next((tmp_path / "starter" / "base" / "unet").glob("*.safetensors")))
    first = load_file(next((STARTER / "base" / "unet").glob("*.safetensors")))
    assert any(not torch.equal(changed[name], first[name]) for name in changed.keys() & first.keys())


def test_min_snr_weights_train_too(runs, tmp_path):
    figures = base.train(runs / "data", runs / "autoencoder", tmp_path, BRIEF, batch=2, weighting="min-snr")
    assert figures["step"] >= 1


def test_importance_is_one_on_average_and_largest_on_heads():
    examples = [make_example(seed) for seed in range(3)]
    weight = base.importance(examples)
    torch.testing.assert_close(weight.mean((1, 2, 3)), torch.ones(3))
    for example, map_ in zip(examples, weight, strict=True):
        face = example.view.parts[4::8, 4::8] == PARTS.index("face")
        sky = np.isin(example.view.parts[4::8, 4::8], [PARTS.index(n) for n in ("sky", "ground", "wall")])
        if face.any() and sky.any():
            assert map_[0].numpy()[face].mean() > 1.5 * map_[0].numpy()[sky].mean()


def test_shares_of_parts_are_what_the_cells_of_the_latents_show():
    example = make_example(0)
    shares = base.shares_of_parts([example])
    height, width = example.view.parts.shape
    assert shares.shape == (1, len(PARTS), height // 8, width // 8)
    cell = example.view.parts[64:72, 80:88]
    for part in np.unique(cell):
        assert shares[0, part, 8, 10] == pytest.approx((cell == part).mean())


def test_features_learn_to_tell_parts():
    """The loss falls by what it sends back into the UNet: the reader's own layer stays as it is here."""
    torch.manual_seed(0)
    unet = make_unet()
    told = base.PartsReader(unet)
    shares = base.shares_of_parts([make_example(0)])
    latents, states = torch.randn(1, LATENT_CHANNELS, 32, 32), torch.zeros(1, 4, TEXT_WIDTH)
    optimizer, losses = torch.optim.Adam(unet.parameters(), 2e-3), []
    for _ in range(12):
        unet(latents, torch.tensor(500), states)
        loss = told(shares)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_packing_before_any_base_says_which_stage_to_run(tmp_path):
    assert packing.latest_pipeline(tmp_path) is None
    with pytest.raises(ValueError, match="together"):
        packing.pack(tmp_path, tmp_path / "starter")


def test_heatmaps_peak_at_joints():
    view = make_example(0).view
    maps = reader.heatmaps(view.people, *view.rgb.shape[:2])
    assert maps.shape == (18, 64, 64)
    x, y, seen = view.people[0, 1]
    assert seen
    row, column = np.unravel_index(maps[1].argmax(), maps[1].shape)
    assert np.hypot(column + 0.5 - x * 64 / SIDE, row + 0.5 - y * 64 / SIDE) < 1


def test_the_widths_are_those_of_the_bundled_unet():
    config = json.loads((STARTER / "base" / "unet" / "config.json").read_text())
    assert list(make_unet().config.block_out_channels) == config["block_out_channels"]


def test_the_supervisor_does_what_is_not_done_and_stops_at_a_failure(tmp_path):
    steps = (supervisor.Step("scenes", 0), supervisor.Step("nonsense"))
    assert supervisor.supervise(tmp_path, steps) != 0
    done = json.loads((tmp_path / "done.json").read_text())
    assert done == ["00-scenes"]
    lines = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    assert lines[0]["written"] == 0


def test_a_light_checkpoint_is_small_and_resumes(runs, tmp_path):
    light = Plan(0.004, warm_up=1, checkpoint=1e9, clock="cpu", light=True)
    reader.train(runs / "data", tmp_path / "one", light, batch=1, start=runs / "reader")
    saved = torch.load(tmp_path / "one" / LIGHT, weights_only=True)
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / LIGHT).write_bytes((tmp_path / "one" / LIGHT).read_bytes())
    further = Plan(saved["elapsed"] / 60 + 0.004, warm_up=1, checkpoint=1e9, clock="cpu", light=True)
    figures = reader.train(runs / "data", tmp_path / "two", further, batch=1)
    assert figures["step"] > saved["step"]
    assert (tmp_path / "one" / LIGHT).stat().st_size < 16 * 2**20


def test_shares_of_a_gpu_fill_its_time():
    assert sum(gpu.SHARES.values()) == pytest.approx(1.0)
    assert len({gpu.light_name(stage) for stage in gpu.SHARES}) == len(gpu.SHARES)


def test_two_processes_share_what_there_is_to_draw(tmp_path, monkeypatch):
    drawn = []
    for number in range(2):
        monkeypatch.setenv("RANK", str(number))
        monkeypatch.setattr(loop, "start_processes", lambda: None)
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setattr(shards, "write_shard", lambda folder, index: drawn.append(index) or True)
        supervisor.run_stage(supervisor.Step("scenes", 5), tmp_path)
    assert sorted(drawn) == list(range(5))


def test_a_failing_process_ends_the_others():
    script = "import os, time; time.sleep(60) if os.environ['RANK'] == '0' else exit(3)"
    assert supervisor._run_processes([sys.executable, "-c", script], 2) == 3


def test_an_adapter_forgets_the_weights_of_another_base(tmp_path):
    """Its checkpoint holds UNet weights of the base it was trained on; on another they would undo that base's training."""
    folder, base_folder, module = tmp_path / "pose", tmp_path / "base", ControlNeXtModel.from_variant("starter")
    (base_folder / "unet").mkdir(parents=True)
    (base_folder / "unet" / "weights.safetensors").write_bytes(b"one")
    folder.mkdir()
    adapters._forget_other_base(folder, base_folder, module)
    values = [torch.full_like(parameter, 0.5) for parameter in module.parameters()]
    torch.save({"averages": [*values, torch.zeros(3)]}, folder / "checkpoint.pt")  # the last is of the UNet
    adapters._forget_other_base(folder, base_folder, module)
    assert (folder / "checkpoint.pt").exists()
    (base_folder / "unet" / "weights.safetensors").write_bytes(b"two")
    adapters._forget_other_base(folder, base_folder, module)
    assert not (folder / "checkpoint.pt").exists()
    for parameter in module.parameters():
        assert (parameter == 0.5).all()


def test_the_reader_starts_from_the_features_and_joints_of_the_bundled_one():
    network = make_reader()
    older = load_file(STARTER / "annotator" / reader.BUNDLED)
    borrow(network, older)
    mine = network.state_dict()
    for name in ("down3.2.0.weight", "pose.weight"):
        assert torch.equal(mine[name], older[name].float())
    count = len(older["maps.bias"])
    assert torch.equal(mine["maps.bias"][:count], older["maps.bias"].float())


def test_an_adapter_starts_where_its_own_kind_was_learned(tmp_path, monkeypatch):
    starts = []
    monkeypatch.setattr(adapters, "train", lambda *_, start, **__: starts.append(start) or {})

    def learn(kind):
        supervisor.run_stage(supervisor.Step("adapter", 1, kind), tmp_path)
        return starts[-1]

    assert learn("canny") == learn("pose") == STARTER / "adapters" / "pose"
    (tmp_path / "adapters" / "pose" / "adapter").mkdir(parents=True)
    assert learn("pose") == STARTER / "adapters" / "pose"  # not from what it made itself, which it resumes
    assert learn("canny") == learn("scribble") == tmp_path / "adapters" / "pose" / "adapter"
    for kind in together.KINDS:
        (tmp_path / "together" / "adapters" / kind).mkdir(parents=True)
    assert learn("canny") == tmp_path / "together" / "adapters" / "canny"
    assert learn("scribble") == tmp_path / "adapters" / "pose" / "adapter"
