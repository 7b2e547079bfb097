"""The model card of a trained adapter: with it the adapter's folder is ready for `huggingface_hub.upload_folder`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import ModelCardData

from controlnext.method.families import FAMILIES
from controlnext.recipes.kinds import kind_of
from controlnext.training.base_model import base_preset
from controlnext.training.config import TrainConfig

CARD_FILE = "README.md"

_TEXT = """---
{data}
---

# ControlNeXt adapter: {condition} for {title}

A control module and changes of {trained} UNet weights for {base}. It steers {outputs} by conditions of the kind *{condition}*, at
control strength (gamma) {gamma}.

| training | |
|---|---|
{rows}

## Use

```python
from controlnext import {pipeline}

pipe = {pipeline}.from_pretrained({base!r})
pipe.load_controlnext("this repository or folder")
```
"""


def write_card(config: TrainConfig, folder: Path, facts: Mapping[str, str], trained: int) -> None:
    """Write the model card into an adapter's folder; it names no file of this machine.

    Args:
        config: of the training, filled in.
        folder: of the adapter.
        facts: what the adapter's metadata says, see `controlnext.training.runs.report.facts_of`.
        trained: number of UNet weights that learned.
    """
    preset, family = base_preset(config), FAMILIES[config.family]
    repo = preset.base.repo
    base = repo or f"{family.title} on your disk"
    data = ModelCardData(
        library_name="diffusers",
        base_model=repo,
        license=preset.base.licence or None,
        pipeline_tag="image-to-video" if family.video else "text-to-image",
        tags=["controlnext", "diffusers", config.condition, config.family],
        ignore_metadata_errors=True,
    )
    shown = {
        "steps": facts["steps"],
        "samples a step": facts["samples"],
        "size": facts["size"],
        "minutes": facts["minutes"],
        "weights": facts["trained"],
        kind_of(config.condition).score or "adherence": facts.get("adherence"),
        **{name.replace("_", " "): value for name, value in facts.items() if "loss" in name},
    }
    text = _TEXT.format(
        data=data.to_yaml(), condition=config.condition, title=family.title, trained=f"{trained:,}", base=base,
        outputs="videos" if family.video else "pictures", gamma=facts["gamma"], pipeline=family.pipeline,
        rows="\n".join(f"| {name} | {f'`{value}`' if name == 'weights' else value} |" for name, value in shown.items() if value),
    )  # fmt: skip
    partial = folder / f"{CARD_FILE}.partial"
    partial.write_text(text, encoding="utf-8")
    partial.replace(folder / CARD_FILE)
