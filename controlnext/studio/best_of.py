"""Best of several seeds: the pictures of one run, the one that follows best first."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from controlnext.studio.studio import Result


def ranked(result: Result) -> Result:
    """Sort the pictures of a run by how well they follow the first condition; what was not measured comes last.

    Args:
        result: pictures of several seeds.

    Returns:
        The same pictures with their files, seeds and scores, the best first; equal ones stay in the order of their seeds.
    """
    scores = result.adherence
    order = sorted(range(len(scores)), key=lambda index: (scores[index] is None, -(scores[index] or 0.0)))
    return replace(
        result,
        images=[result.images[index] for index in order],
        files=[result.files[index] for index in order],
        seeds=[result.seeds[index] for index in order],
        adherence=[scores[index] for index in order],
        adherences={kind: [one[index] for index in order] for kind, one in result.adherences.items()},
    )
