import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent / "video"))


@pytest.fixture(scope="session")
def reference():
    """A picture of one figure of the starter's world."""
    import annotators

    return annotators.load_picture(Path(__file__).parents[2] / "assets" / "examples" / "arms-out.png")


@pytest.fixture(scope="session")
def dance(tmp_path_factory):
    """Six pose frames of one walking figure, with a tone."""
    from animation_clips import pose_clip

    return pose_clip(tmp_path_factory.mktemp("dance") / "dance.mp4", sound=True)


@pytest.fixture(scope="session")
def presets_dir(tmp_path_factory):
    """Presets `starter` (pictures), `svd-v2` and `starter-video`, all tiny and random."""
    from tiny_studio import save_all
    from tiny_video import save_video

    return save_video(save_all(tmp_path_factory.mktemp("models")))


@pytest.fixture(scope="session")
def whole(presets_dir, tmp_path_factory):
    """One studio with everything real but its weights."""
    import annotators
    from controlnext.studio.studio import Studio

    return Studio(
        output_dir=tmp_path_factory.mktemp("out"),
        presets_dir=presets_dir,
        device="cpu",
        threads=1,
        annotators=annotators,
    )


@pytest.fixture
def studio(whole, tmp_path):
    """The same with a gallery of the test's own."""
    whole.gallery.output_dir = tmp_path / "out"
    return whole
