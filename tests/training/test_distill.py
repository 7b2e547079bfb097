"""Few steps: the arithmetic of jumps against diffusers' own sampler, and trainings of tiny students."""

import json

import pytest
import torch
import yaml
from diffusers import DDIMScheduler
from test_training_start import configure
from tiny_models import TEXT_WIDTH
from tiny_studio import save_adapter
from training_parts import RandomData, tiny_config, tiny_method

from controlnext.recipes.schedulers import SCHEDULERS
from controlnext.training.config import ConfigError, TrainingError
from controlnext.training.data.samples import Dropping, Sample, stacked
from controlnext.training.data.samples import draw as draw_sample
from controlnext.training.distill import KIND, Jumps, Teacher, TrajectoryProcess, few_steps_scheduler
from controlnext.training.runs.run_folder import RunFolder
from controlnext.training.start import train
from controlnext.training.trainer import Trainer


def base_scheduler(kind="epsilon"):
    return DDIMScheduler(
        beta_schedule="scaled_linear", prediction_type=kind, set_alpha_to_one=False, clip_sample=False
    )


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_jumps_are_the_steps_of_diffusers_and_targets_lead_to_the_next_latents(kind):
    scheduler = few_steps_scheduler(base_scheduler(kind))
    jumps = Jumps(few_steps_scheduler(base_scheduler(kind)), 4, 20)
    assert (jumps.timesteps, jumps.each) == ([999, 749, 499, 249], 5)
    generator = torch.Generator().manual_seed(0)
    for steps, rows in ((4, jumps.of_student()), (20, jumps.of_teacher())):
        scheduler.set_timesteps(steps)
        now = torch.randn(2, 4, 8, 8, generator=generator)
        for timestep, keep, move in rows:
            predicted = torch.randn(2, 4, 8, 8, generator=generator)
            wanted = scheduler.step(predicted, timestep, now).prev_sample
            torch.testing.assert_close(keep * now + move * predicted, wanted, rtol=1e-3, atol=1e-3)
            now = wanted
    run = torch.randn(3, 5, 4, 8, 8, generator=generator)
    process = TrajectoryProcess(base_scheduler(kind), jumps)
    for share, step in ((0.0, 0), (0.3, 1), (0.999, 3)):
        noised = process.noised(run, run, torch.full((3,), share))
        timestep, keep, move = jumps.of_student()[step]
        assert noised.timestep.tolist() == [timestep] * 3
        assert torch.equal(noised.sample, run[:, step])
        torch.testing.assert_close(keep * noised.sample + move * noised.target, run[:, step + 1], rtol=1e-3, atol=1e-3)
        assert noised.weight[0] == pytest.approx(move**2)


def test_steps_that_do_not_divide_are_refused():
    for teacher in (10, 6):
        with pytest.raises(TrainingError, match="choose"):
            Jumps(few_steps_scheduler(base_scheduler()), 4, teacher)
    assert SCHEDULERS["ddim_trailing"].kind == "DDIMScheduler"


class Runs:
    """Runs of a teacher in memory."""

    def __init__(self, data, runs):
        self.data, self.runs, self.empty = data, runs, {}

    def __len__(self):
        return len(self.data)

    def shape(self, index):
        return self.data.shape(index)

    def sample(self, index, generator):
        row = self.data.sample(index, generator)
        return Sample(self.runs[index], row.condition, row.states)


def test_the_loss_falls_and_few_steps_come_nearer_to_the_guided_teacher(tmp_path):
    steps = 2
    torch.manual_seed(0)
    method, data = tiny_method(pattern=".*"), RandomData(4)
    jumps = Jumps(few_steps_scheduler(base_scheduler("v_prediction")), steps, 4)
    empty = {"encoder_hidden_states": torch.zeros(5, TEXT_WIDTH)}
    batch = stacked([draw_sample(data, index, Dropping(), 0, index) for index in range(len(data))])
    teacher = Teacher(method.eval(), jumps, empty, 3.0, torch.device("cpu"))
    runs = teacher(batch)
    assert runs.shape == (4, steps + 1, 4, 8, 8)
    assert torch.equal(runs[:, 0], batch.noise)

    @torch.no_grad()
    def distance():
        now = batch.noise
        for timestep, keep, move in jumps.of_student():
            now = keep * now + move * method.predict(
                now, torch.full((4,), timestep), batch.states, batch.condition, batch.keep
            )
        return (now - runs[:, -1]).square().mean().sqrt().item()

    before = distance()
    config = tiny_config(
        tmp_path, steps=24, optimizer={"rate": 3e-3, "module_rate": 3e-3, "warm_up": 2, "ema": 0.0},
        learning={"batch": 4}, checkpoints={"every": 100},
    )  # fmt: skip
    trainer = Trainer(config, method, Runs(data, runs), TrajectoryProcess(base_scheduler("v_prediction"), jumps))
    trainer.run()
    losses = [event["loss"] for event in RunFolder(tmp_path).events("step")]
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    method.eval()
    assert distance() < 0.7 * before


def test_a_training_makes_runs_once_resumes_and_leaves_a_preset_of_few_steps(tiny_base, photos, tmp_path):
    save_adapter(tmp_path / "start", 1, gamma=0.5)
    said = []

    def config(steps):
        return configure(
            tiny_base, photos, tmp_path / "run", steps=steps, optimizer={"warm_up": 1},
            trainable={"start": str(tmp_path / "start")}, distill={"steps": 2, "teacher_steps": 4, "noises": 1},
            validation={"every": 0}, data={"limit": 4},
        )  # fmt: skip

    assert train(config(1), log=said.append).step == 1
    files = {file: file.stat().st_mtime_ns for file in (tmp_path / "run" / "cache" / KIND).rglob("*.safetensors")}
    assert len(files) in (2, 4)  # two rows are drawn, and learned from where there are few
    assert train(config(2), log=said.append).step == 2
    assert {
        file: file.stat().st_mtime_ns for file in (tmp_path / "run" / "cache" / KIND).rglob("*.safetensors")
    } == files
    preset = yaml.safe_load(RunFolder(tmp_path / "run").preset.read_text())
    row = preset["adapters"]["canny"]
    assert (row["num_inference_steps"], row["guidance_scale"], row["scheduler"], row["gamma"]) == (
        2,
        1.0,
        "ddim_trailing",
        0.5,
    )
    assert json.loads((tmp_path / "run" / "adapter" / "config.json").read_text())["gamma"] == "0.5"
    with pytest.raises(ConfigError, match=r"trainable\.start"):
        configure(tiny_base, photos, tmp_path / "x", distill={"steps": 4})
