"""What a text encoder reads of prompts: weighted words, any number of tokens, and embeddings.

A plain prompt that fits is left to the stock pipeline, so that its pictures stay the same bit for bit. Everything else is
encoded here, in stretches of as many tokens as the encoder reads, one after the other.

A weight moves the vector of a word away from that of the empty prompt at its place: `empty + weight * (vector - empty)`, as ComfyUI
does. The older rule, a product and then the same mean as before, divides by a mean that may be near 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from controlnext.models.embeddings import EmbeddingError, Embeddings
from controlnext.recipes.prompts import is_plain, unmatched, weighted_parts

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from transformers import CLIPTextModel, CLIPTokenizer

    from controlnext.recipes.recipe import SavedRecipe

_PROBE = "a"
"""Word whose token holds the place of an embedding's vector."""


@dataclass(frozen=True)
class Token:
    """One token: its number, its weight, and the vector of an embedding that takes its place."""

    number: int
    weight: float = 1.0
    vector: Tensor | None = None


@dataclass(frozen=True)
class Reader:
    """A tokenizer with its text encoder.

    Attributes:
        tokenizer: CLIP's.
        encoder: as diffusers loaded it.
        hidden: layer whose output the UNet reads; None is the last one with its norm.
    """

    tokenizer: CLIPTokenizer
    encoder: CLIPTextModel
    hidden: int | None = None

    @property
    def room(self) -> int:
        """Tokens of one stretch, without the marks at both ends."""
        return int(self.tokenizer.model_max_length) - 2

    def stretches(self, text: str, embeddings: Embeddings, notes: list[str]) -> list[list[Token]]:
        """Split a prompt into stretches of tokens; no word is cut in two unless it is longer than a stretch.

        Args:
            text: the prompt.
            embeddings: what its words may name.
            notes: sentences about embeddings that cannot be used are added here.
        """
        stretches: list[list[Token]] = [[]]
        for part in weighted_parts(text):
            if part.breaks:
                stretches.append([])
                continue
            for words, file in embeddings.split(part.text):
                units = []
                if file is not None:
                    try:
                        vectors = embeddings.vectors(file, self.encoder.config.hidden_size)
                        place = self._numbers(_PROBE)[0]
                        units = [[Token(place, part.weight, vector) for vector in vectors]]
                    except (EmbeddingError, OSError) as error:
                        notes.append(f"{error} Its name was read as a word.")
                for unit in units or self._words(words, part.weight):
                    if len(stretches[-1]) + len(unit) > self.room and stretches[-1]:
                        stretches.append([])
                    for token in unit:
                        if len(stretches[-1]) == self.room:
                            stretches.append([])
                        stretches[-1].append(token)
        return stretches

    def encode(self, stretches: list[list[Token]], device: torch.device) -> tuple[Tensor, Tensor | None]:
        """Encode stretches; a stretch without weights is what the stock pipeline computes.

        Args:
            stretches: at least one.
            device: where the encoder runs.

        Returns:
            (1, stretches * tokens, width) in the encoder's dtype, and the pooled vector (1, width) of the first stretch, if
            the encoder has one.
        """
        found, pooled = [], None
        empty: Tensor | None = None
        for tokens in stretches:
            hidden, whole = self._run(tokens, device)
            pooled = whole if pooled is None else pooled
            weights = torch.ones(hidden.shape[1], 1, device=hidden.device)
            for index, token in enumerate(tokens, 1):
                weights[index] = token.weight
            if (weights != 1).any():
                empty = self._run([], device)[0].float() if empty is None else empty
                weighed = (empty + weights * (hidden.float() - empty)).to(hidden.dtype)
                hidden = torch.where(weights == 1, hidden, weighed)  # words without a weight stay exact
            found.append(hidden)
        return torch.cat(found, dim=1), pooled

    def _run(self, tokens: list[Token], device: torch.device) -> tuple[Tensor, Tensor | None]:
        tokenizer, length = self.tokenizer, self.room + 2
        numbers = [tokenizer.bos_token_id, *(token.number for token in tokens), tokenizer.eos_token_id]
        numbers += [tokenizer.pad_token_id] * (length - len(numbers))
        vectors = {index: token.vector for index, token in enumerate(tokens, 1) if token.vector is not None}
        with _in_place(self.encoder, vectors):
            output = self.encoder(torch.tensor([numbers], device=device), output_hidden_states=self.hidden is not None)
        if self.hidden is None:
            return output[0], None
        return output.hidden_states[self.hidden], output[0] if output[0].ndim == 2 else None

    def _numbers(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False, truncation=False, verbose=False)["input_ids"])

    def _words(self, text: str, weight: float) -> list[list[Token]]:
        """Tokens of a text, word by word."""
        numbers = self._numbers(text)
        words: list[list[Token]] = [[]]
        for number, letters in zip(numbers, self.tokenizer.convert_ids_to_tokens(numbers), strict=True):
            words[-1].append(Token(number, weight))
            if letters.endswith("</w>"):
                words.append([])
        return [word for word in words if word]


@contextmanager
def _in_place(encoder: CLIPTextModel, vectors: dict[int, Tensor]) -> Iterator[None]:
    """Let vectors take the places of tokens while the encoder runs; its weights and its tokenizer stay as they are."""
    if not vectors:
        yield
        return

    def replace(layer: torch.nn.Module, inputs: object, output: Tensor) -> Tensor:
        output = output.clone()
        for index, vector in vectors.items():
            output[:, index] = vector.to(output)
        return output

    hook = encoder.get_input_embeddings().register_forward_hook(replace)
    try:
        yield
    finally:
        hook.remove()


def readers_of(pipeline: DiffusionPipeline) -> list[Reader]:
    """Return the text encoders of a pipeline with their tokenizers: one of SD1.5, two of SDXL."""
    if getattr(pipeline, "text_encoder_2", None) is None:
        return [Reader(pipeline.tokenizer, pipeline.text_encoder)]
    first = [] if pipeline.text_encoder is None else [Reader(pipeline.tokenizer, pipeline.text_encoder, hidden=-2)]
    return [*first, Reader(pipeline.tokenizer_2, pipeline.text_encoder_2, hidden=-2)]


@torch.no_grad()
def prompt_arguments(pipeline: DiffusionPipeline, recipe: SavedRecipe, embeddings: Embeddings) -> dict[str, Any]:
    """Return the arguments of a pipeline call that carry the prompts of a recipe.

    Args:
        pipeline: loaded, on its device.
        recipe: with choices drawn and LoRA tags taken out.
        embeddings: what words may name.

    Returns:
        The texts themselves where the stock pipeline reads them the same; otherwise their embeddings.
    """
    texts: list[str] = [recipe.prompt, recipe.negative_prompt]  # type: ignore[attr-defined]
    readers = readers_of(pipeline)
    rows = [[reader.stretches(text, embeddings, []) for text in texts] for reader in readers]
    if all(is_plain(text) and not embeddings.named(text) for text in texts) and all(
        len(stretches) == 1 for row in rows for stretches in row
    ):
        return {"prompt": texts[0], "negative_prompt": texts[1]}
    most = max(len(stretches) for row in rows for stretches in row)
    device = pipeline._execution_device
    arguments: dict[str, Any] = {}
    for index, prefix in enumerate(("", "negative_")):
        read = [
            reader.encode([*row[index], *[[]] * (most - len(row[index]))], device)
            for reader, row in zip(readers, rows, strict=True)
        ]
        arguments[f"{prefix}prompt_embeds"] = torch.cat([hidden for hidden, _ in read], dim=-1)
        if read[-1][1] is not None:
            arguments[f"{prefix}pooled_prompt_embeds"] = read[-1][1]
    return arguments


@torch.no_grad()
def encoded_words(pipeline: DiffusionPipeline, text: str, embeddings: Embeddings) -> Tensor:
    """Encode some words, `(1, tokens, width)`; arguments as of `prompt_arguments`."""
    readers = readers_of(pipeline)
    rows = [reader.stretches(text, embeddings, []) for reader in readers]
    most = max(map(len, rows))
    read = [
        reader.encode([*row, *[[]] * (most - len(row))], pipeline._execution_device)
        for reader, row in zip(readers, rows, strict=True)
    ]
    return torch.cat([hidden for hidden, _ in read], dim=-1)


def prompt_notes(pipeline: DiffusionPipeline, recipe: SavedRecipe, embeddings: Embeddings) -> list[str]:
    """Say what of a recipe's prompts was left as it is: brackets without a partner, embeddings that cannot be used."""
    notes: list[str] = []
    for text in (recipe.prompt, recipe.negative_prompt):  # type: ignore[attr-defined]
        if loose := unmatched(text):
            what = f"{loose[0]!r} has no partner" if len(loose) == 1 else f"the brackets {loose} do not match"
            notes.append(f"In the prompt {what}, so it was read as a word; write \\{loose[0]} where that is meant.")
        for reader in readers_of(pipeline):
            reader.stretches(text, embeddings, notes)
    return list(dict.fromkeys(notes))
