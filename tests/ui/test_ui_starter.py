"""The page with the bundled model: a click on an example, and a picture that follows it."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "assets" / "starter" / "base" / "model_index.json"

pytestmark = pytest.mark.skipif(not BASE.is_file(), reason="the starter model's weights (assets/starter) are not here")


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    from gradio_client import Client

    from controlnext.cli import app
    from controlnext.ui import build_ui, launch_options

    studio = app.make_studio(app.options(["--output-dir", str(tmp_path_factory.mktemp("outputs"))]))
    page = build_ui(studio)
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **launch_options())
    yield Client(url, verbose=False)
    page.close()


@pytest.mark.parametrize("annotator", ["canny", "depth", "pose", "segmentation"])
def test_example_becomes_a_picture_that_follows_it(client, annotator):
    from gradio_client import handle_file

    example = sorted((ROOT / "assets" / "examples").glob("*.png"))[0]
    settings = {} if annotator == "canny" else {"backend": "starter"}
    pictures, recipe = client.predict(
        handle_file(example),
        prompt="a person in a red shirt and blue trousers on green grass",
        annotator=annotator,
        seed=1,
        num_inference_steps=5,
        settings=settings,
        api_name="/generate",
    )
    assert len(pictures) == 1
    assert recipe["adherence"][0] > 0.6
