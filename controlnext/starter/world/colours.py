"""What the named colours of the world look like in pictures: learned from renders, to name colours that are read."""

from collections.abc import Iterable

import numpy as np

from annotators.starter.colours import SKY, ColourNames
from controlnext.starter.train.dataset import SceneSample

NAMED = ("shirt", "trousers", "hair", "hat", "ground")


def learn_colours(
    samples: Iterable[SceneSample],
) -> tuple[dict[tuple[str, str, str], np.ndarray], dict[str, np.ndarray]]:
    """Average the CIELAB colour of each part under each sky over rendered scenes.

    Args:
        samples: the scenes.

    Returns:
        (part, sky, name) -> (3,) mean colour, and part -> (3, 3) inverse covariance; what `ColourNames` takes.
    """
    seen: dict[tuple[str, str, str], list[np.ndarray]] = {}
    for sample in samples:
        for part in (*NAMED, SKY):
            colour = ColourNames.colour(sample.picture.rgb, sample.picture.parts, part)
            if colour is not None:
                sky = "" if part == SKY else sample.look.sky
                seen.setdefault((part, sky, getattr(sample.look, part)), []).append(colour)
    means = {key: np.mean(values, axis=0) for key, values in seen.items()}
    inside: dict[str, list[np.ndarray]] = {}
    for key, values in seen.items():
        inside.setdefault(key[0], []).extend(np.array(values) - means[key])
    precision = {part: np.linalg.inv(np.cov(np.array(spread).T) + np.eye(3)) for part, spread in inside.items()}
    return means, precision
