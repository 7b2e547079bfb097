import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_studio import Annotation, Annotators, count_forwards, picture, pixels, same

from annotators import NobodyFound
from annotators.poses.skeleton import draw_skeleton
from controlnext.errors import ControlNeXtError
from controlnext.method.injection import Injection
from controlnext.recipes.png import read_condition, read_facts, read_inputs, read_png
from controlnext.recipes.recipe import RecipeError
from controlnext.results.gallery import GalleryError
from controlnext.studio.studio import Cancelled, Studio, StudioError


def test_a_recipe_becomes_saved_pictures_that_carry_it(studio):
    recipe = studio.catalogue.resolve("starter", "canny", prompt="a person 🧍", seed=5, num_images=3)
    result = studio.generate(recipe, picture())
    assert [image.size for image in result.images] == [(64, 64)] * 3
    assert result.seeds == [5, 6, 7]
    assert not result.stopped
    assert result.seconds > 0
    assert result.recipe.condition_sha256
    assert set(result.recipe.weights) == {"base", "adapter"}
    for index, (path, image) in enumerate(zip(result.files, result.images, strict=True)):
        assert np.array_equal(np.asarray(Image.open(path)), np.asarray(image))
        assert read_png(path) == result.recipe.alone(index)
        assert np.array_equal(np.asarray(read_condition(path)), np.asarray(picture()))
    assert len({path.name for path in result.files}) == 3
    assert not np.array_equal(*pixels(result)[:2])


def test_the_same_recipe_gives_the_same_pixels_whatever_came_before(studio, models, tmp_path):
    recipe = studio.catalogue.resolve(
        "starter", "canny", prompt="x", seed=2**40, num_images=2, loras=["one"], scheduler="unipc"
    )
    first = pixels(studio.generate(recipe, picture()))
    studio.generate(studio.catalogue.resolve("starter", "pose", prompt="y", seed=1, loras=[("two", -1)]), picture(1))
    studio.generate(studio.catalogue.resolve("starter", prompt="z", seed=1), None)
    assert same(pixels(studio.generate(recipe, picture())), first)
    fresh = Studio(output_dir=tmp_path / "other", presets_dir=models, device="cpu", threads=1)
    assert same(pixels(fresh.generate(recipe, picture())), first)


def test_a_saved_picture_restores_itself(studio):
    recipe = studio.catalogue.resolve("starter", "pose", prompt="x", seed=9, num_images=2, width=72, height=96)
    made = studio.generate(recipe, picture(size=(200, 100)))
    again = studio.generate(read_png(made.files[1]), read_condition(made.files[1]))
    assert again.seeds == [10]
    assert again.notes == ()
    difference = np.abs(pixels(again)[0].astype(int) - pixels(made)[1].astype(int))
    assert difference.max() <= 1  # a batch of one adds in another order than a batch of two
    assert again.recipe == made.recipe.alone(1)


def test_control_gamma_alpha_window_and_loras_all_matter(studio):
    def made(**values):
        given = {"prompt": "x", "seed": 3, "gamma": 1.0, **values}
        return pixels(studio.generate(studio.catalogue.resolve("starter", "canny", **given), picture()))[0]

    full = made()
    variants = [
        made(gamma=0.0),
        made(gamma=2.0),
        made(alpha=0.0),
        made(alpha=1.5),
        made(control_end=0.5),
        made(control_start=0.5),
        made(loras=["one"]),
        made(loras=[{"name": "one", "weight": -1}]),
        made(loras=["one", "two"]),
        made(scheduler="euler_a"),
        made(guidance_scale=1.0),
        made(negative_prompt="blur"),
    ]
    for index, variant in enumerate(variants):
        assert not np.array_equal(variant, full), index
        assert not any(np.array_equal(variant, other) for other in variants[:index]), index
    bare = pixels(studio.generate(studio.catalogue.resolve("starter", prompt="x", seed=3), None))[0]
    assert np.array_equal(made(gamma=0.0, alpha=0.0), bare)


def test_control_is_computed_once_for_a_batch_and_kept_for_the_next_run(studio, monkeypatch):
    calls = count_forwards(monkeypatch)
    recipe = studio.catalogue.resolve("starter", "canny", prompt="x", seed=3, num_images=4, num_inference_steps=3)
    studio.generate(recipe, picture(77))
    assert len(calls) == 3
    studio.generate(recipe.replace(seed=8, prompt="y"), picture(77))
    assert len(calls) == 3
    studio.generate(recipe, picture(78))
    assert len(calls) == 6


def test_progress_counts_every_step_with_previews_and_time_left(studio):
    seen = []
    recipe = studio.catalogue.resolve("starter", "canny", prompt="x", seed=3, num_images=3, num_inference_steps=4)
    studio.generate(recipe, picture(), on_progress=seen.append)
    drawing = [progress for progress in seen if progress.stage == "Drawing"]
    assert [progress.step for progress in drawing] == [0, 1, 2, 3, 4, 4, 5, 6, 7, 8]
    assert {progress.total for progress in drawing} == {8}
    previews = [progress.preview for progress in drawing if progress.preview]
    assert [preview.size for preview in previews] == [(128, 64)] * 4 + [(64, 64)] * 4
    assert all(progress.seconds_left is not None for progress in drawing[1:])
    seen.clear()
    studio.generate(recipe, picture(), on_progress=seen.append)
    assert all(progress.seconds_left is not None for progress in seen)


def test_stop_between_batches_keeps_what_is_made(studio):
    cancel = threading.Event()

    def stop_in_the_second_batch(progress):
        if progress.step == 5:
            cancel.set()

    recipe = studio.catalogue.resolve("starter", "canny", prompt="x", seed=3, num_images=6, num_inference_steps=4)
    result = studio.generate(recipe, picture(), on_progress=stop_in_the_second_batch, cancel=cancel)
    assert result.stopped
    assert result.seeds == [3, 4]
    assert len(result.files) == 2
    assert all(path.exists() for path in result.files)


def test_stop_before_a_picture_raises_and_leaves_the_model_as_it_was(studio):
    recipe = studio.catalogue.resolve("starter", "canny", prompt="x", seed=3)
    before = pixels(studio.generate(recipe, picture()))
    cancel = threading.Event()
    steps = []

    def stop_at_once(progress):
        steps.append(progress.step)
        if progress.step == 2:
            cancel.set()

    with pytest.raises(Cancelled, match="Stopped before a picture was finished"):
        studio.generate(recipe, picture(), on_progress=stop_at_once, cancel=cancel)
    assert max(steps) == 2
    assert same(pixels(studio.generate(recipe, picture())), before)
    cancel.set()
    with pytest.raises(Cancelled):
        studio.generate(recipe, picture(), cancel=cancel)


def test_a_picture_that_only_waits_to_be_decoded_is_kept(studio):
    cancel = threading.Event()
    recipe = studio.catalogue.resolve("starter", "canny", prompt="x", seed=3, num_images=4)
    last = recipe.num_inference_steps
    result = studio.generate(
        recipe, picture(), cancel=cancel, on_progress=lambda progress: cancel.set() if progress.step == last else None
    )
    assert result.stopped
    assert result.seeds == [3, 4]


def test_runs_take_turns_and_a_waiting_one_can_be_stopped(studio):
    recipe = studio.catalogue.resolve("starter", "canny", prompt="x", seed=3, num_inference_steps=4)
    inside, go_on, cancel = threading.Event(), threading.Event(), threading.Event()
    made, stages, errors = [], [], []

    def hold(progress):
        if progress.step == 1:
            inside.set()
            go_on.wait(10)

    first = threading.Thread(target=lambda: made.append(studio.generate(recipe, picture(), on_progress=hold)))
    first.start()
    assert inside.wait(10)

    def second_run():
        try:
            studio.generate(recipe, picture(), on_progress=lambda p: stages.append(p.stage), cancel=cancel)
        except Cancelled as error:
            errors.append(error)

    second = threading.Thread(target=second_run)
    second.start()
    time.sleep(0.2)
    assert stages == ["Waiting for another run"]
    cancel.set()
    second.join(5)
    assert len(errors) == 1
    go_on.set()
    first.join(10)
    assert len(made) == 1


def out_of_memory_for(studio, monkeypatch, most):
    engine = studio._engine
    real = engine.run

    def run(recipe, seeds, condition, on_step):
        on_step(None)
        if len(seeds) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return real(recipe, seeds, condition, on_step)

    monkeypatch.setattr(engine, "run", run)


def test_a_batch_too_large_is_made_in_halves(studio, monkeypatch):
    recipe = studio.catalogue.resolve("starter", "canny", prompt="x", seed=3, num_images=3)
    studio.generate(recipe, picture())
    out_of_memory_for(studio, monkeypatch, most=1)
    result = studio.generate(recipe, picture())
    assert result.seeds == [3, 4, 5]


def test_out_of_memory_is_a_sentence_and_the_studio_keeps_serving(studio, monkeypatch):
    recipe = studio.catalogue.resolve("starter", "canny", prompt="x", seed=3)
    before = pixels(studio.generate(recipe, picture()))
    with monkeypatch.context() as patch:
        out_of_memory_for(studio, patch, most=0)
        with pytest.raises(StudioError, match="not enough memory for a picture of 64x64; make it smaller"):
            studio.generate(recipe, picture())
    assert same(pixels(studio.generate(recipe, picture())), before)


def test_out_of_memory_while_loading_is_a_sentence(studio, models, tmp_path, monkeypatch):
    from controlnext.engine.engine import Engine

    def fail(*args):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 12 bytes")

    recipe = studio.catalogue.resolve("starter", "canny", prompt="x", seed=3)
    before = pixels(studio.generate(recipe, picture()))
    with monkeypatch.context() as patch:
        patch.setattr(studio._engine, "prepare", fail)
        with pytest.raises(StudioError, match="not enough memory for the adapter and the LoRAs"):
            studio.generate(recipe, picture())
    fresh = Studio(output_dir=tmp_path, presets_dir=models, device="cpu", threads=1)
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "load", fail)
        with pytest.raises(StudioError, match="not enough memory to load Tiny; close other programs"):
            fresh.generate(recipe, picture())
    assert same(pixels(fresh.generate(recipe, picture())), before)


def test_a_run_during_the_warm_up_says_what_it_waits_for(models, tmp_path, monkeypatch):
    studio = Studio(output_dir=tmp_path, presets_dir=models, device="cpu", threads=1)
    inside, go_on = threading.Event(), threading.Event()
    load = studio.load

    def slow_load(*arguments):
        inside.set()
        go_on.wait(10)
        return load(*arguments)

    monkeypatch.setattr(studio, "load", slow_load)
    warming = threading.Thread(target=studio.warm_up)
    warming.start()
    assert inside.wait(10)
    stages = []

    def note(progress):
        stages.append(progress.stage)
        go_on.set()

    assert studio.generate(studio.catalogue.resolve("starter", "canny", seed=1), picture(), on_progress=note).files
    warming.join(10)
    assert stages[:2] == ["Loading the model", "Drawing"]


def test_overflow_is_a_sentence(studio, monkeypatch):
    recipe = studio.catalogue.resolve("starter", "canny", prompt="x", seed=3)
    studio.generate(recipe, picture())
    unet = studio._engine.pipeline.unet
    hook = unet.register_forward_hook(lambda module, args, output: (output[0] * torch.nan,))
    try:
        with pytest.raises(ControlNeXtError, match=r"overflowed in torch\.float32"):
            studio.generate(recipe, picture())
    finally:
        hook.remove()


def test_a_full_disk_is_a_sentence_that_counts_what_is_safe(studio, monkeypatch):
    recipe = studio.catalogue.resolve("starter", "canny", prompt="x", seed=3, num_images=4)
    save = studio.gallery.save
    saved = []

    def save_two(*args):
        if len(saved) == 2:
            raise GalleryError("Could not save a picture: the disk is full.")
        saved.append(save(*args))
        return saved[-1]

    monkeypatch.setattr(studio.gallery, "save", save_two)
    with pytest.raises(GalleryError, match=r"the disk is full\. The 2 made before it are saved in"):
        studio.generate(recipe, picture())
    assert all(path.exists() for path in saved)


def test_an_unwritable_folder_is_found_before_the_work(studio, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(studio.gallery, "output_dir", tmp_path / "file")
    seen = []
    with pytest.raises(GalleryError, match="not a folder"):
        studio.generate(studio.catalogue.resolve("starter", "canny", seed=1), picture(), on_progress=seen.append)
    assert seen == []


def test_condition_and_kind_must_go_together(studio):
    with pytest.raises(RecipeError, match="asks for canny control, but no condition picture"):
        studio.generate(studio.catalogue.resolve("starter", "canny", seed=1), None)
    with pytest.raises(RecipeError, match="choose one of canny, pose, depth"):
        studio.generate(studio.catalogue.resolve("starter", "none", seed=1), picture())
    given = studio.generate(
        studio.catalogue.resolve("starter", "none", adapter="canny", seed=1, prompt="x"), picture()
    )
    made = studio.generate(studio.catalogue.resolve("starter", "canny", seed=1, prompt="x"), picture())
    assert same(pixels(given), pixels(made))


def test_a_model_without_weights_is_a_sentence(studio, models):
    text = (models / "starter.yaml").read_text()
    (models / "gone.yaml").write_text(text.replace("path: base", "path: nowhere"))
    (models / "hollow").mkdir()
    (models / "hollow" / "model_index.json").write_text("{}")
    (models / "hollow.yaml").write_text(text.replace("path: base", "path: hollow"))
    try:
        with pytest.raises(ControlNeXtError, match=r"weights of Tiny are not there: .*nowhere holds no model_index"):
            studio.generate(studio.catalogue.resolve("gone", "canny", seed=1), picture())
        with pytest.raises(ControlNeXtError, match=r"Tiny cannot be loaded from .*hollow"):
            studio.generate(studio.catalogue.resolve("hollow", "canny", seed=1), picture())
        rows = {row["name"]: row for row in studio.catalogue.models()}
        assert not rows["gone"]["usable"]
        assert "cannot be loaded" in rows["hollow"]["reason"]
        assert rows["starter"]["usable"]
    finally:
        for name in ("gone", "hollow"):
            (models / f"{name}.yaml").unlink()
    assert studio.generate(studio.catalogue.resolve("starter", "canny", seed=1), picture()).files


def test_a_damaged_adapter_is_a_sentence(studio, models):
    text = (models / "starter.yaml").read_text()
    (models / "depth" / "controlnet.safetensors").rename(models / "depth" / "kept")
    (models / "depth" / "controlnet.safetensors").write_bytes(b"rubbish")
    (models / "other.yaml").write_text(text)
    try:
        with pytest.raises(ControlNeXtError, match=r"controlnet\.safetensors"):
            studio.generate(studio.catalogue.resolve("other", "depth", seed=1), picture())
        assert studio.generate(studio.catalogue.resolve("other", "canny", seed=1), picture()).files
    finally:
        (models / "depth" / "kept").rename(models / "depth" / "controlnet.safetensors")
        (models / "other.yaml").unlink()


def test_long_prompts_are_read_and_changed_weights_noted(studio):
    recipe = studio.catalogue.resolve("starter", "canny", prompt="a b c d e f g h i j k l m n o p", seed=1)
    assert studio.generate(recipe, picture()).notes == ()  # two stretches of tokens
    recipe = studio.catalogue.resolve("starter", "canny", seed=1).replace(
        weights={"base": "old"}, condition_sha256="old"
    )
    notes = studio.generate(recipe, picture()).notes
    assert [note.split(",")[0] for note in notes] == [
        "The recipe was made with other weights (base)",
        "The recipe was made with another condition",
    ]


def test_adherence_is_measured_with_the_conditions_own_settings(studio):
    annotators = studio._annotators = Annotators()
    settings = {"low": 10, "backend": "opencv"}
    recipe = studio.catalogue.resolve(
        "starter", "canny", prompt="x", seed=1, num_images=2, annotator_settings=settings
    )
    result = studio.generate(recipe, picture())
    assert annotators.calls == [("canny", {"low": 10})] * 2
    assert result.adherence_name == "edge F1"
    assert all(0 <= value <= 1 for value in result.adherence)
    facts = read_facts(result.files[0])
    assert facts.pop("made_with")["device"] == "cpu"
    assert facts == {"adherence": round(result.adherence[0], 4), "adherence_name": "edge F1"}
    annotators.calls.clear()
    studio.generate(
        studio.catalogue.resolve("starter", "depth", seed=1, annotator_settings={"backend": "midas"}), picture()
    )
    studio.generate(
        studio.catalogue.resolve("starter", "none", adapter="canny", seed=1, annotator_settings={"invert": True}),
        picture(),
    )
    assert annotators.calls == [("depth", {"backend": "starter"}), ("canny", {})]
    assert studio.generate(studio.catalogue.resolve("starter", seed=1), None).adherence == [None]


def test_adherence_of_a_pose_uses_the_people_it_was_given(studio):
    person = np.array([[x, y, 1.0] for x, y in zip(range(10, 154, 8), range(20, 200, 10), strict=True)])
    wide = Annotation(Image.fromarray(draw_skeleton([person], 256, 512)), {"people": [person]})
    moved = person * [0.125, 0.125, 1] + [0, 16, 0]  # 512x256 into 64x64: an eighth of the size, 16 px from the top
    studio._annotators = SimpleNamespace(
        annotate=lambda name, image, **options: Annotation(image, {"people": [moved]})
    )
    recipe = studio.catalogue.resolve("starter", "pose", prompt="x", seed=1)
    result = studio.generate(recipe, wide)
    assert result.adherence == [1.0]
    (kept,) = read_inputs(result.files[0]).conditions  # so that the picture has the same score later
    assert np.allclose(kept.data["people"], [moved], atol=1e-3)
    assert studio.generate(recipe, wide.image).adherence == [1.0]  # read from the drawing


def test_what_fails_in_measuring_never_costs_a_picture(studio):

    def fail_with(error):
        def fail(*args, **kwargs):
            raise error

        return fail

    recipe = studio.catalogue.resolve("starter", "depth", prompt="x", seed=1)
    studio._annotators = SimpleNamespace(annotate=fail_with(RuntimeError("no weights")))
    assert studio.generate(recipe, picture()).adherence == [None]
    studio._annotators = SimpleNamespace(annotate=fail_with(NobodyFound("no person")))
    assert studio.generate(recipe, picture()).adherence == [0.0]


def test_warm_up_makes_ready_and_never_raises(models, tmp_path):
    studio = Studio(output_dir=tmp_path / "out", presets_dir=models, device="cpu", threads=1)
    assert not studio.ready
    studio.warm_up()
    assert studio.ready
    assert not (tmp_path / "out").exists()
    empty = Studio(output_dir=tmp_path / "out", presets_dir=tmp_path)
    empty.warm_up()
    assert not empty.ready
    assert empty.catalogue.models() == []


def test_unet_is_clean_after_control(studio):
    studio.generate(studio.catalogue.resolve("starter", "canny", seed=1), picture())
    studio.generate(studio.catalogue.resolve("starter", seed=1), None)
    hooks = studio._engine.pipeline.unet._forward_pre_hooks.values()
    assert not any(isinstance(getattr(hook, "__self__", None), Injection) for hook in hooks)
