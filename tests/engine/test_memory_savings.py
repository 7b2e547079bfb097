import accelerate
import numpy as np
import pytest
import torch
from tiny_studio import picture

from controlnext.engine.engine import Engine
from controlnext.engine.memory_savings import SAVINGS, SavingsTaken, savings_note
from controlnext.studio.studio import Studio, StudioError


@pytest.mark.parametrize(
    ("device", "batch", "wanted"),
    [
        ("cpu", 1, ["tiling"]),
        ("cpu", 5, ["tiling", "batch 2", "batch 1"]),
        ("cuda", 1, ["tiling", "offload", "group", "sequential"]),
        ("cuda", 4, ["tiling", "batch 2", "batch 1", "offload", "group", "sequential"]),
        ("mps", 2, ["tiling", "batch 1", "offload", "sequential"]),
    ],
)
def test_the_savings_of_each_device(device, batch, wanted):
    savings, taken = SavingsTaken(device), []
    while (saving := savings.take_next(4096, savings.most(4096, batch))) is not None:
        taken.append(f"batch {savings.most(4096, batch)}" if saving.name == "batch" else saving.name)
    assert taken == wanted
    assert savings.offloaded == ("sequential" if "sequential" in wanted else None)


def test_a_smaller_batch_holds_for_pictures_at_least_as_large():
    savings = SavingsTaken("cpu", taken=["tiling"])
    savings.take_next(1000, 4)
    assert savings.most(1000, 4) == savings.most(5000, 4) == 2
    assert savings.most(999, 4) == 4


def test_what_was_done_is_told_once():
    assert savings_note([]) == ""
    sentence = savings_note([SAVINGS[0], SAVINGS[1], SAVINGS[1]])
    assert sentence.startswith("There was not enough memory, so large pictures are decoded in tiles; fewer pictures")
    assert sentence.count("fewer") == 1


@pytest.fixture
def studio(models, tmp_path):
    return Studio(output_dir=tmp_path / "out", presets_dir=models, device="cpu", threads=1)


def fail_times(monkeypatch, count):
    """Let the first `count` batches run out of memory."""
    real, tries = Engine.run, []

    def run(self, recipe, seeds, *rest):
        tries.append(len(seeds))
        if len(tries) <= count:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return real(self, recipe, seeds, *rest)

    monkeypatch.setattr(Engine, "run", run)
    return tries


def test_a_run_saves_memory_by_itself_and_says_so(studio, monkeypatch):
    tries = fail_times(monkeypatch, 2)
    recipe = studio.catalogue.resolve("starter", "canny", prompt="x", seed=3, num_images=3, num_inference_steps=2)
    result = studio.generate(recipe, picture())
    assert tries == [2, 2, 1, 1, 1]
    assert result.seeds == [3, 4, 5]
    (note,) = result.notes
    assert "decoded in tiles; fewer pictures are made at once" in note
    assert studio._engine.pipeline.vae.use_tiling
    assert studio.generate(recipe, picture()).notes == ()  # what was taken stays, and is not told again
    assert tries[5:] == [1, 1, 1]


def test_the_end_of_the_ladder_is_a_sentence(studio, monkeypatch):
    fail_times(monkeypatch, 99)
    recipe = studio.catalogue.resolve("starter", "canny", prompt="x", seed=3, num_images=2, num_inference_steps=2)
    with pytest.raises(StudioError, match="not enough memory for a picture of 64x64; make it smaller"):
        studio.generate(recipe, picture())


def by_layers(pipeline):
    """What diffusers does for a card; its name for the CPU, `cpu:0`, is one that accelerate cannot fetch weights to."""
    for component in pipeline.components.values():
        if isinstance(component, torch.nn.Module):
            accelerate.cpu_offload(component, torch.device("cpu"), offload_buffers=len(component._parameters) > 0)


@pytest.mark.parametrize("saving", ["offload", "group", "sequential"])
def test_offloaded_weights_are_changed_and_restored_all_the_same(studio, monkeypatch, saving):
    """The savings of a GPU, with the CPU in its place: weights that wait elsewhere are fetched, changed and put back."""
    recipe = studio.catalogue.resolve("starter", "canny", prompt="x", seed=3, num_inference_steps=2, loras=["one"])
    plain = studio.catalogue.resolve("starter", prompt="x", seed=3, num_inference_steps=2)
    before = [
        np.asarray(studio.generate(one, picture() if one is recipe else None).images[0]) for one in (recipe, plain)
    ]
    engine = studio._engine
    engine.savings.device = "cuda"
    engine.pipeline.enable_sequential_cpu_offload = lambda device: by_layers(engine.pipeline)
    order = ["tiling", "offload", "group", "sequential"]
    engine.savings.taken = order[: order.index(saving)]
    assert engine.save_memory(recipe, 1).name == saving
    if saving == "sequential":
        assert next(engine.pipeline.unet.parameters()).is_meta
    after = [
        np.asarray(studio.generate(one, picture() if one is recipe else None).images[0]) for one in (recipe, plain)
    ]
    for a, b in zip(before, after, strict=True):
        assert np.array_equal(a, b)
    less = studio.generate(recipe.replace(alpha=0.5), picture()).images[0]
    assert not np.array_equal(np.asarray(less), before[0])


def test_a_model_too_large_for_the_card_is_offloaded_while_it_is_loaded(monkeypatch):
    from controlnext.device import Device
    from controlnext.engine.memory_savings import place_on

    class Pipeline:
        def __init__(self):
            self.calls, self.vae, self.components = [], self, {}

        def to(self, device, **options):
            self.calls.append(("to", device))
            if device == "cuda:1":
                raise torch.OutOfMemoryError("CUDA out of memory")

        def __getattr__(self, name):
            return lambda **options: self.calls.append((name, *options.values()))

    pipeline, savings = Pipeline(), SavingsTaken("cuda")
    place_on(pipeline, Device("cuda:1", torch.float16), savings)
    assert savings.offloaded == "offload"
    assert ("enable_tiling",) in pipeline.calls
    assert pipeline.calls[-1] == ("enable_model_cpu_offload", "cuda:1")
    with pytest.raises(torch.OutOfMemoryError):
        place_on(Pipeline(), Device("cuda:1", torch.float32), SavingsTaken("cpu"))


@pytest.mark.slow
def test_switching_models_gives_the_memory_back(models, tmp_path):
    import psutil

    (models / "second.yaml").write_text((models / "starter.yaml").read_text().replace("title: Tiny", "title: Second"))
    studio = Studio(output_dir=tmp_path / "out", presets_dir=models, device="cpu", threads=1)
    held = []
    for turn in range(11):
        for name in ("starter", "second"):
            recipe = studio.catalogue.resolve(
                name, "canny", prompt="x", seed=turn, num_inference_steps=2, loras=["one"]
            )
            studio.generate(recipe, picture())
        held.append(psutil.Process().memory_info().rss)
    assert held[10] <= 1.05 * held[0], held
