"""ControlBench on the bundled model, with its adapters and with networks of diffusers."""

import json
from argparse import Namespace

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from PIL import Image

from controlnext import ControlNeXtAdapter, ControlNeXtModel
from controlnext.assets import STARTER
from controlnext.bench.command import BenchError
from controlnext.bench.convergence.ways import make_t2i_adapter
from controlnext.bench.quality import control_video, controlbench, starter_video
from controlnext.bench.quality.control_metrics import METRICS
from controlnext.bench.quality.control_models import DiffusersModel, PageModel
from controlnext.bench.quality.control_transformer import TransformerModel
from controlnext.bench.quality.control_video import clips_of, judge_clips
from controlnext.bench.quality.controlbench import KindScores, bars, table_rows
from controlnext.cli.program import main
from controlnext.starter.pictures import write_pictures
from controlnext.starter.train.dit import load_pipeline

QUICK = ("--size", "256", "--steps", "2", "--guidance", "3", "--pictures", "1")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_pictures(folder, 2)
    return folder


def test_the_command_measures_a_model_of_the_page(data, tmp_path, capsys):
    file = tmp_path / "figures.json"
    arguments = [
        "controlbench",
        "--data",
        str(data),
        "--kinds",
        "canny",
        *QUICK,
        "--out",
        str(tmp_path),
        "--json",
        str(file),
    ]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert text.startswith("Starter, ControlNeXt")
    assert "2 pictures of" in text
    assert "256 x 256, 2 steps, guidance 3" in text
    figures = json.loads(file.read_text())["results"]["canny"]
    exact = figures["exact F1"]
    assert exact["floor"]["mean"] < exact["controlled"]["mean"] < exact["ceiling"]["mean"] < 1
    assert exact["ceiling"]["low"] <= exact["ceiling"]["mean"] <= exact["ceiling"]["high"]
    assert exact["controlled"]["mean"] < figures["F1, 2 px in 256"]["controlled"]["mean"]
    page = (tmp_path / "report.html").read_text()
    assert page.count("<figure>") == 2
    assert page.count("data:image/png;base64,") == 2 * 3  # original, condition and one picture


@pytest.mark.parametrize("adapter", [False, True])
def test_networks_of_diffusers_steer_the_same_base(tmp_path, adapter):
    torch.manual_seed(0)
    unet = UNet2DConditionModel.from_pretrained(STARTER / "base" / "unet")
    net = make_t2i_adapter(unet) if adapter else ControlNetModel.from_unet(unet)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.startswith(("controlnet_down_blocks", "controlnet_mid_block")) or "proj" in name:
                parameter.add_(0.05 * torch.randn_like(parameter))
    net.save_pretrained(tmp_path / "net")
    values = {"num_inference_steps": 2, "guidance_scale": 3.0}
    model = DiffusersModel("starter", tmp_path / "net", adapter=adapter, kind="canny", values=values, size=256)
    assert model.kinds == ("canny",)
    condition = controlbench.Asked(Image.fromarray(np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8)))
    made = model.draw("canny", "a person", condition, [0])
    floor = model.draw("canny", "a person", condition, [0], controlled=False)
    bare = model.engine.pipeline(
        "a person", num_inference_steps=2, guidance_scale=3.0, generator=torch.Generator().manual_seed(0)
    )
    assert (
        np.abs(np.asarray(floor[0]).astype(int) - np.asarray(bare.images[0])).max() <= 1
    )  # torch 2.6 rounds a few pixels otherwise
    assert not np.array_equal(np.asarray(made[0]), np.asarray(floor[0]))


def test_a_transformer_is_measured_with_its_adapter(tmp_path):
    torch.manual_seed(0)
    load_pipeline(STARTER, STARTER / "transformer").save_pretrained(tmp_path / "base")
    module = ControlNeXtModel.from_variant("sd3-small").eval()
    ControlNeXtAdapter(module, variant="sd3-small", gamma=0.5).save_pretrained(tmp_path / "adapter")
    values = {"num_inference_steps": 2, "guidance_scale": 3.0}
    model = TransformerModel(tmp_path / "base", tmp_path / "adapter", "canny", values, None)
    assert (model.size, model.kinds, model.backend) == ((256, 256), ("canny",), "starter")
    condition = controlbench.Asked(Image.fromarray(np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8)))
    one, two = (np.asarray(picture) for picture in model.draw("canny", "a person", condition, [0, 1]))
    floor = np.asarray(model.draw("canny", "a person", condition, [0], controlled=False)[0])
    assert one.shape == two.shape == (256, 256, 3)
    assert not np.array_equal(one, two)
    assert not np.array_equal(one, floor)
    options = Namespace(
        own=False, steps=2, guidance=3.0, gamma=0.0, size=256, kinds=["canny"], controlnet=None, t2i_adapter=None,
        transformer=[tmp_path / "base", tmp_path / "adapter"],
    )  # fmt: skip
    off = controlbench.load_model(options)
    assert np.array_equal(np.asarray(off.draw("canny", "a person", condition, [0])[0]), floor)
    assert model.through(Image.fromarray(floor)).size == (256, 256)
    with pytest.raises(BenchError, match="nowhere"):
        TransformerModel(tmp_path / "base", tmp_path / "nowhere", "canny", {}, None)
    with pytest.raises(BenchError, match="cannot be loaded"):
        TransformerModel(tmp_path / "adapter", tmp_path / "adapter", "canny", {}, None)


def test_wrong_requests_are_sentences(data, tmp_path):
    def run(*arguments):
        controlbench.main(["--data", str(data), "--out", str(tmp_path), *arguments])

    with pytest.raises(BenchError, match="give --own"):
        run("--size", "1024")
    with pytest.raises(BenchError, match="name it by --kinds"):
        run("--controlnet", "nowhere", "--size", "256")
    with pytest.raises(BenchError, match="name it by --kinds"):
        run("--transformer", "nowhere", "nowhere", "--size", "256")
    with pytest.raises(BenchError, match="no ControlNetModel"):
        DiffusersModel("starter", tmp_path, adapter=False, kind="canny", values={}, size=256)
    with pytest.raises(BenchError, match="no annotator for hed"):
        run("--kinds", "hed", "--size", "256")
    with pytest.raises(BenchError, match="no clips"):
        clips_of(tmp_path)


def test_the_ceiling_is_what_the_autoencoder_keeps():
    model = PageModel("starter", {}, None)
    picture = Image.fromarray(np.full((256, 256, 3), 128, np.uint8))
    assert model.size == (256, 256)
    assert np.abs(np.asarray(model.through(picture), float) - 128).mean() < 16


def test_means_leave_out_what_asks_for_nothing_and_tables_say_what_is_better():
    rows = ("controlled", "floor", "ceiling")
    values = {row: {metric.name: [0.2, float("nan"), 0.6] for metric in METRICS["depth"]} for row in rows}
    values["floor"]["RMSE, 0 to 255"] = [float("nan")] * 3
    made = bars(KindScores(values), METRICS["depth"])
    assert made["RMSE, 0 to 255"]["controlled"].mean == pytest.approx(0.4)
    assert "floor" not in made["RMSE, 0 to 255"]
    text = table_rows({"depth": made})
    assert text[1][1] == "RMSE, 0 to 255, less is better"
    assert text[1][3] == "–"
    assert text[2][1] == "rank correlation (tolerant)"


def test_frames_in_which_nobody_was_asked_for_do_not_count():
    person = np.ones((18, 3))
    person[:, :2] = np.random.default_rng(0).uniform(10, 50, (18, 2))
    frames = np.zeros((3, 64, 64, 3), np.uint8)
    figures = judge_clips([[person], [], [person]], [[person], [], []], frames)
    assert figures["PCK@0.1"] == 0.5


@pytest.mark.slow
def test_clips_are_measured_frame_by_frame(tmp_path, monkeypatch, capsys):
    task = starter_video.make_task(1, 3)
    frames = [Image.fromarray(picture.rgb) for picture in task.truth]
    (tmp_path / "clips").mkdir()
    frames[0].save(tmp_path / "clips" / "walk.gif", save_all=True, append_images=frames[1:], duration=125)
    task.reference.save(tmp_path / "clips" / "walk.png")
    monkeypatch.setattr(control_video, "FRAMES", 2)
    file = tmp_path / "figures.json"
    arguments = [
        "--data",
        str(tmp_path / "clips"),
        "--video",
        "--steps",
        "2",
        "--out",
        str(tmp_path / "out"),
        "--json",
        str(file),
    ]
    assert controlbench.main(arguments) == 0
    assert "| video | PCK@0.1 |" in capsys.readouterr().out
    clips = json.loads(file.read_text())["clips"]
    assert {name: len(rows) for name, rows in clips.items()} == {"controlled": 1, "floor": 1, "ceiling": 1}
    assert clips["ceiling"][0]["PCK@0.1"] == 1
    assert clips["controlled"][0]["PCK@0.1"] > clips["floor"][0]["PCK@0.1"]
    assert 0 <= clips["controlled"][0]["flicker"] < 0.5
    assert "<h2>video, worst</h2>" in (tmp_path / "out" / "report.html").read_text()
