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
