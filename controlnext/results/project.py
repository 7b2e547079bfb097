"""A project: results with everything that makes them again, in one ZIP that can be opened elsewhere."""

from __future__ import annotations

import io
import json
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controlnext.errors import ControlNeXtError, shorten
from controlnext.recipes.inputs import picture_of
from controlnext.recipes.pictures import picture_digest
from controlnext.recipes.png import read_inputs, read_png
from controlnext.recipes.recipe import Recipe, RecipeError
from controlnext.results.gallery import COMPANIONS, VIDEO_SUFFIX, Gallery
from controlnext.results.saved_sweeps import FOLDER, PLAN, TABLE, SavedSweep
from controlnext.scratch import unfinished

if TYPE_CHECKING:
    from PIL import Image

    from controlnext.recipes.video_recipe import VideoRecipe

INDEX = "project.json"
RESULTS, RECIPES, MAPS, POSES, MASKS, STARTS = "results", "recipes", "maps", "poses", "masks", "starts"
"""Folders of the ZIP. The results carry everything themselves; the other folders show it to people and other programs."""

MOST_FILES, LARGEST_FILE, LARGEST = 5_000, 2 << 30, 8 << 30
"""Bounds of a ZIP that is opened: files, bytes of one and of all of them."""

_VERSION = 1
_NAME = re.compile(rf"results/((?:{FOLDER}/[\w-]{{1,99}}/)?[\w][\w.,+ -]{{0,199}})")
_CHUNK = 1 << 20


class ProjectError(ControlNeXtError, ValueError):
    """A project that cannot be written or opened."""


@dataclass(frozen=True)
class OpenedProject:
    """What came out of a ZIP.

    Attributes:
        files: results in the output folder, each as it was saved; folders are sweeps.
        recipes: the recipe of each that has one.
        missing: a sentence for each model, adapter or LoRA that is not here or is another one.
    """

    files: tuple[Path, ...]
    recipes: tuple[Recipe | VideoRecipe, ...]
    missing: tuple[str, ...] = ()

    def sentence(self) -> str:
        """Say what came out."""
        count = f"{len(self.files)} result{'' if len(self.files) == 1 else 's'}"
        if not self.missing:
            return f"{count} restored; everything that their recipes name is here."
        return f"{count} restored. Missing here: {' '.join(self.missing)}"


Weights = Callable[["Recipe | VideoRecipe"], Mapping[str, str]]
"""Digests of the files that a recipe would use here: `Catalogue.weights`."""


def write_project(target: Path, results: Sequence[Path], version: str) -> None:
    """Write results into one ZIP, whole or not at all.

    Args:
        target: the ZIP.
        results: PNGs, MP4s and folders of sweeps as they were saved; what belongs to a video goes with it.
        version: of this package, named in the index.

    Raises:
        ProjectError: there are no results, one has gone, or the ZIP cannot be written.
    """
    if not results:
        raise ProjectError("There are no results to put into a project; choose some first.")
    partial = unfinished(target.parent, ".zip")
    try:
        with zipfile.ZipFile(partial, "w") as archive:
            rows = [row for result in results for row in _put(archive, result)]
            index = {"controlnext_project": _VERSION, "version": version, "results": rows}
            archive.writestr(INDEX, json.dumps(index, ensure_ascii=False, indent=2))
        partial.replace(target)
    except OSError as error:
        raise ProjectError(f"The project cannot be written to {target.name}: {error.strerror or error}.") from None
    finally:
        partial.unlink(missing_ok=True)


def open_project(source: Path, gallery: Gallery, weights: Weights) -> OpenedProject:
    """Put the results of a ZIP into the output folder; what is there already is left alone.

    Args:
        source: written by `write_project`.
        gallery: where the results go.
        weights: digests of the files that a recipe would use here.

    Raises:
        ProjectError: it is no project, or a file in it is damaged or too large. Nothing is restored then.
        GalleryError: the output folder cannot be written.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            rows = _index(archive)
            gallery.check()
            files = _unpack(archive, rows, gallery)
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError, EOFError) as error:
        if isinstance(error, ControlNeXtError):
            raise
        raise ProjectError(f"{source.name} is no project that can be read; give a ZIP that this app saved.") from None
    saved = [path for path in files if not path.name.endswith((*COMPANIONS, ".json", ".csv"))]
    recipes = tuple(recipe for path in saved if (recipe := _recipe(path)) is not None)
    results = dict.fromkeys(path if path.parent == gallery.output_dir else path.parent for path in files)
    results = dict.fromkeys(path for path in results if not path.name.endswith(COMPANIONS))
    return OpenedProject(tuple(results), recipes, missing_files(recipes, weights))


def missing_files(recipes: Sequence[Recipe | VideoRecipe], weights: Weights) -> tuple[str, ...]:
    """Say what recipes need and this machine lacks, or has in another version: a sentence each, no two alike."""
    found: dict[str, None] = {}
    for recipe in recipes:
        found.update(dict.fromkeys(_missing(recipe, weights)))
    return tuple(found)


def _missing(recipe: Recipe | VideoRecipe, weights: Weights) -> Iterator[str]:
    try:
        here = weights(recipe)
    except ControlNeXtError as error:
        digests = ", ".join(f"{name} {value[:12]}" for name, value in recipe.weights.items())
        yield f"{error}{f' It was made with {digests}.' if digests else ''}"
        return
    for name, digest in recipe.weights.items():
        own = here.get(_named_here(name, recipe))
        if own is None:
            yield f"{name} of the model {shorten(recipe.model)} is not on this disk ({digest[:12]})."
        elif own != digest:
            yield f"{name} of the model {shorten(recipe.model)} is another one here ({own[:12]} for {digest[:12]})."


def _named_here(name: str, recipe: Recipe | VideoRecipe) -> str:
    """The name of the first adapter's weights in a list of this machine."""
    return f"adapter:{recipe.condition_kind}" if name == "adapter" else name


def _put(archive: zipfile.ZipFile, result: Path) -> Iterator[dict[str, Any]]:
    sweep = SavedSweep.read(result) if result.suffix == "" else None
    paths, place = [result], RESULTS
    if sweep is not None:
        paths, place = sweep.files, f"{RESULTS}/{FOLDER}/{result.name}"
    elif result.suffix == VIDEO_SUFFIX:
        paths += [path for ending in COMPANIONS if (path := result.with_suffix(ending)).exists()]
    for path in paths:
        digest = sha256()
        name = f"{place}/{path.name}"
        with path.open("rb") as file, archive.open(name, "w", force_zip64=True) as packed:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                packed.write(chunk)
        yield {"file": name, "sha256": digest.hexdigest(), **_facts(path)}
    recipe = _recipe(result) if sweep is None else sweep.plan.recipe
    if recipe is not None:
        archive.writestr(f"{RECIPES}/{result.stem}.json", recipe.to_json())
    for picture in [result] if sweep is None else sweep.pictures[:1]:
        if isinstance(recipe, Recipe):
            _put_inputs(archive, picture, recipe)


def _put_inputs(archive: zipfile.ZipFile, result: Path, recipe: Recipe) -> None:
    there = set(archive.namelist())

    def put(name: str, data: bytes) -> None:
        if name not in there:
            there.add(name)
            archive.writestr(name, data)

    inputs = read_inputs(result)
    for control, condition in zip(recipe.all_controls, inputs.conditions, strict=False):
        image = picture_of(condition)
        put(f"{MAPS}/{control.condition_kind}-{picture_digest(image)[:12]}.png", _png(image))
    for folder, given in ((STARTS, inputs.init_image), (MASKS, inputs.mask)):
        if given is not None:
            put(f"{folder}/{picture_digest(given)[:12]}.png", _png(given))
    if recipe.pose:
        put(f"{POSES}/{sha256(recipe.pose.encode()).hexdigest()[:12]}.json", recipe.pose.encode())


def _facts(path: Path) -> dict[str, Any]:
    """What the index says about a result: model, LoRAs, and the digests of all weights."""
    recipe = _recipe(path)
    if recipe is None:
        return {}
    loras = [{"name": use.name, "weight": use.weight} for use in getattr(recipe, "loras", ())]
    return {"model": recipe.model, "loras": loras, "weights": dict(recipe.weights)}


def _recipe(path: Path) -> Recipe | VideoRecipe | None:
    try:
        if path.suffix == ".png":
            return read_png(path)
        if path.suffix == VIDEO_SUFFIX and not path.name.endswith(COMPANIONS):
            from controlnext.recipes.video_recipe import read_video_recipe

            return read_video_recipe(path)
    except RecipeError:
        return None
    return None


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _index(archive: zipfile.ZipFile) -> list[tuple[zipfile.ZipInfo, str, str]]:
    """Check a ZIP before anything is unpacked: entry, name in the output folder and digest of each result."""
    infos = {info.filename: info for info in archive.infolist()}
    if INDEX not in infos or infos[INDEX].file_size > LARGEST_FILE >> 6:
        raise ProjectError("This ZIP is no project: it lacks its index; give one that this app saved.")
    try:
        index = json.loads(archive.read(INDEX))
    except (ValueError, RecursionError):
        raise ProjectError("The index of this project is damaged: it is not valid JSON.") from None
    if not isinstance(index, dict) or index.get("controlnext_project") != _VERSION:
        raise ProjectError(f"This is no project of version {_VERSION}; open it with a matching release.")
    rows = index.get("results")
    if not isinstance(rows, list) or not rows or len(rows) > MOST_FILES:
        raise ProjectError(f"This project names no results, or more than {MOST_FILES:,}.")
    found = []
    for row in rows:
        name = row.get("file") if isinstance(row, dict) else None
        match = _NAME.fullmatch(name) if isinstance(name, str) else None
        ends = (
            (".png", PLAN, TABLE)
            if match and match[1].startswith(f"{FOLDER}/")
            else (".png", VIDEO_SUFFIX, *COMPANIONS)
        )
        if match is None or not match[1].endswith(ends):
            raise ProjectError(f"This project names {shorten(name)}, which is no result.")
        if name not in infos:
            raise ProjectError(f"The result {shorten(match[1])} is missing in this project.")
        found.append((infos[name], match[1], str(row.get("sha256"))))
    if max(info.file_size for info, _, _ in found) > LARGEST_FILE or sum(one[0].file_size for one in found) > LARGEST:
        raise ProjectError("This project is too large to be opened: its results take several gigabytes.")
    return found


def _unpack(
    archive: zipfile.ZipFile, rows: Sequence[tuple[zipfile.ZipInfo, str, str]], gallery: Gallery
) -> list[Path]:
    """Unpack all results next to their places, then move them there: all of them or none."""
    partials: list[tuple[Path, str, str]] = []
    try:
        with gallery.reported("restore a project in"):
            for info, name, digest in rows:
                partial = unfinished(gallery.output_dir, Path(name).suffix)
                partials.append((partial, name, digest))
                with archive.open(info) as packed, partial.open("wb") as file:
                    shutil.copyfileobj(packed, file, _CHUNK)
                with partial.open("rb") as file:
                    if digest != _digest(file):
                        raise ProjectError(f"The result {shorten(name)} in this project is damaged.")
            folders = _free_folders(partials, gallery.output_dir)
            return [
                _move(partial, folders[str(Path(name).parent)] / Path(name).name, digest)
                for partial, name, digest in partials
            ]
    finally:
        for partial, _, _ in partials:
            partial.unlink(missing_ok=True)


def _free_folders(partials: Sequence[tuple[Path, str, str]], output: Path) -> dict[str, Path]:
    """Return where the files of each folder go: a sweep into one of its own, unless the same files are there already."""
    folders: dict[str, Path] = {}
    for place in dict.fromkeys(str(Path(name).parent) for _, name, _ in partials):
        digests = {Path(name).name: digest for _, name, digest in partials if str(Path(name).parent) == place}
        folder, number = output / place, 1
        while place != "." and folder.exists() and not _same_files(folder, digests):
            number += 1
            folder = output / f"{place}_{number}"
        folder.mkdir(parents=True, exist_ok=True)
        folders[place] = folder
    return folders


def _same_files(folder: Path, digests: Mapping[str, str]) -> bool:
    for name, digest in digests.items():
        if not (folder / name).is_file():
            return False
        with (folder / name).open("rb") as file:
            if _digest(file) != digest:
                return False
    return True


def _move(partial: Path, target: Path, digest: str) -> Path:
    """Move a result to its name, or to a numbered one where another result has it; the same file is not kept twice."""
    stem, dot, ending = target.name.partition(".")
    number = 1
    while target.exists():
        with target.open("rb") as file:
            if _digest(file) == digest:
                return target
        number += 1
        target = target.with_name(f"{stem}_{number}{dot}{ending}")
    partial.replace(target)
    return target


def _digest(file: io.BufferedReader) -> str:
    digest = sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()
