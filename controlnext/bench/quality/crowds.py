"""`python -m controlnext bench people`: how many people of a composed photograph the pose annotator finds, and how long it takes.

1, 3 and 10 figures of a half, a quarter and an eighth of the height stand on photographs of 1920x1080 pixels: drawn figures of the
starter's world, whose joints are known, and people cut out of photographs from head to chest or waist.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from controlnext.bench.command import BenchError, bench_parser, publish, whole
from controlnext.bench.tables import markdown

SIZE = (1920, 1080)
COUNTS, SHARES = (1, 3, 10), (2, 4, 8)
_FIGURES = 10
_RENDERED = 512  # pixels of a render
_FRAMED = (1.05, 1.3)  # half the height of a scene in metres that shows a whole figure
_TURNED = 1.0  # radians that a figure is turned away at most
_FOUND = 0.15  # of the figure's height: a joint this close is right
_ENOUGH = 0.5  # share of right joints from which a person is found
_BACKGROUNDS = ("coffee.png", "chelsea.png", "rocket.jpg")
_PHOTOS = (("skimage", "data/astronaut.png"), ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"))


@dataclass(frozen=True)
class CutOut:
    """A person on nothing: RGB (H, W, 3) uint8, alpha (H, W) float32, and joints (18, 3) in its pixels."""

    rgb: np.ndarray
    alpha: np.ndarray
    joints: np.ndarray

    @staticmethod
    def of(rgb: np.ndarray, alpha: np.ndarray, joints: np.ndarray) -> CutOut:
        """Crop a person to its mask."""
        ys, xs = np.nonzero(alpha > 0.5)
        part = np.s_[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
        return CutOut(rgb[part], alpha[part], joints - np.array([xs.min(), ys.min(), 0.0]))


@dataclass(frozen=True)
class PeopleFound:
    """Figures of one kind of composed photograph.

    Attributes:
        kind: `drawn` or `photo`.
        count: people in a picture.
        share: the height of the picture over theirs.
        shown: people in all pictures.
        found: those of them that were found.
        false: finds that are nobody.
        seconds: CPU time of a picture; median.
    """

    kind: str
    count: int
    share: int
    shown: int
    found: int
    false: int
    seconds: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return 0."""
    parser = bench_parser("people", __doc__)
    parser.add_argument("--pictures", type=whole(), default=3, help="pictures of each kind")
    options = parser.parse_args(arguments)
    rows = [
        measure(kind, people, count, share, options.pictures)
        for kind, people in (("drawn", drawn_figures()), ("photo", photographed_people()))
        for count in COUNTS
        for share in SHARES
    ]
    return publish(options, [asdict(row) for row in rows], table(rows))


def table(rows: Sequence[PeopleFound]) -> str:
    """Format the figures as Markdown."""
    columns = ("people", "in a picture", "height", "found", "false finds", "CPU seconds")
    cells = [
        (row.kind, row.count, f"1/{row.share}", f"{row.found} of {row.shown}", row.false, f"{row.seconds:.2f}")
        for row in rows
    ]
    return markdown(columns, cells)


def measure(kind: str, people: Sequence[CutOut], count: int, share: int, pictures: int) -> PeopleFound:
    """Count whom the pose annotator finds in some composed photographs."""
    from annotators import NobodyFound, annotate

    found = false = 0
    seconds = []
    for number in range(pictures):
        picture, truth = compose(people, count, share, number)
        begun = time.process_time()
        try:
            data = annotate("pose", picture, backend="mediapipe", people=32).data
        except NobodyFound:
            data = None
        seconds.append(time.process_time() - begun)
        read = [np.asarray(person) for person in (data or {}).get("people", ())]
        hits = matched(truth, read, SIZE[1] / share)
        found, false = found + hits, false + len(read) - hits
    return PeopleFound(kind, count, share, count * pictures, found, false, statistics.median(seconds))


def compose(people: Sequence[CutOut], count: int, share: int, number: int) -> tuple[Image.Image, list[np.ndarray]]:
    """Place people on a photograph; returns it and their joints in its pixels."""
    random = np.random.default_rng([number, count, share])
    width, height = SIZE
    picture = _package_photo("skimage", f"data/{_BACKGROUNDS[number % len(_BACKGROUNDS)]}")
    picture = picture.resize(SIZE, Image.Resampling.BICUBIC)
    rows = 2 if count == max(COUNTS) else 1
    cell, band, tall = width * rows / count, height / rows, height // share
    truth = []
    for index in range(count):
        person = people[int(random.integers(len(people)))]
        zoom = tall / len(person.rgb)
        wide = max(1, round(person.rgb.shape[1] * zoom))
        row, column = divmod(index, count // rows)
        shift = random.uniform(-0.15, 0.15) * max(0.0, cell - wide)
        x = int(np.clip(cell * (column + 0.5) - wide / 2 + shift, 0, width - wide))
        y = int(np.clip(band * row + (band - tall) * random.uniform(0.1, 0.9), 0, height - tall))
        alpha = Image.fromarray((person.alpha * 255).astype(np.uint8)).resize((wide, tall), Image.Resampling.BOX)
        picture.paste(Image.fromarray(person.rgb).resize((wide, tall), Image.Resampling.BOX), (x, y), alpha)
        truth.append(person.joints * np.array([zoom, zoom, 1.0]) + np.array([x, y, 0.0]))
    return picture, truth


def matched(truth: Sequence[np.ndarray], read: Sequence[np.ndarray], tall: float) -> int:
    """Return how many people (18, 3) were found: half of the joints that are shown lie where they are; each find counts once."""
    free, hits = list(read), 0
    for person in truth:
        shown = person[:, 2] > 0
        shares = [float((np.hypot(*(find[shown, :2] - person[shown, :2]).T) <= _FOUND * tall).mean()) for find in free]
        if shares and max(shares) >= _ENOUGH:
            free.pop(int(np.argmax(shares)))
            hits += 1
    return hits


def drawn_figures() -> list[CutOut]:
    """Render whole figures of the starter's world and cut them out."""
    from controlnext.starter.world.world import PARTS, render, sample_scene

    body = [PARTS.index(name) for name in ("face", "limb", "hair", "shirt", "trousers", "shoes", "hat")]
    figures: list[CutOut] = []
    seed = 0
    while len(figures) < _FIGURES:
        stage, look = sample_scene(seed)
        seed += 1
        if not _FRAMED[0] <= stage.half_height <= _FRAMED[1] or abs(stage.yaw) > _TURNED:
            continue
        made = render(stage, look, _RENDERED)
        if (made.people[0][:, 2] > 0).sum() >= 16:
            figures.append(CutOut.of(made.rgb, np.isin(made.parts, body).astype(np.float32), made.people[0]))
    return figures


def photographed_people() -> list[CutOut]:
    """Cut people out of photographs that come with packages, by the person mask; their joints are read at full size."""
    from annotators import annotate

    people = []
    for package, path in _PHOTOS:
        photo = _package_photo(package, path)
        mask = annotate("segmentation", photo, backend="person").data
        pose = annotate("pose", photo, backend="mediapipe").data
        joints = np.asarray((pose or {})["people"][0])
        joints[:, 2] = joints[:, 2] > 0.5
        people.append(CutOut.of(np.asarray(photo), np.asarray((mask or {})["ids"], np.float32), joints))
    return people


def _package_photo(package: str, path: str) -> Image.Image:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise BenchError(
            f"This bench takes photographs of the package {package}: pip install scikit-image matplotlib."
        )
    return Image.open(Path(found.origin).parent / path).convert("RGB")
