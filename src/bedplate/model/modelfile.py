"""What the header of a model file says, after it was checked."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bedplate.model.decoder import DecoderShape
from bedplate.model.launch import Format, ModelTask


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One tensor of a model file: its type, and where its data lies; the reader checked that it lies inside of the file."""

    name: str
    type: str
    """Type of the elements in the format's own words: "Q4_0", "BF16"."""
    shape: tuple[int, ...]
    """As the file gives it: GGUF counts the fastest dimension first, safetensors last."""
    offset: int
    """Bytes from the beginning of the file."""
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """All of it was read from the file and none of it was believed: sizes add up to the size of the file."""

    format: Format
    architecture: str
    """"llama", "qwen3"; "unknown" for a single safetensors file, which does not say."""
    title: str
    """The name that the file gives itself, without control characters; empty when it gives none."""
    parameters: int
    quantisation: str
    """What most parameters are stored in: "Q4_0", "BF16"."""
    context_length: int
    kv_bytes_per_token: int
    vocabulary: int
    """Number of tokens; 0 when the header does not say."""
    chat_template: bool
    size_bytes: int
    tensors: tuple[Tensor, ...]
    task: ModelTask = ModelTask.GENERATE
    shape: DecoderShape | None = None
    """What memory and speed follow from; None where the file says too little."""


class FileRole(StrEnum):
    """What a GGUF file is to a model."""

    MODEL = "model"
    """A model, or a part of a split one."""
    PROJECTOR = "projector"
    """The part that sees or hears, in a file beside the model (mmproj)."""
    ADAPTER = "adapter"
    """A LoRA adapter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufFile:
    """One GGUF file by itself, checked; a split model has several."""

    role: FileRole
    part: int
    """From 1."""
    parts: int
    """1 for a file that is whole."""
    tensors_in_all: int
    """Of all parts, as the file says; 0 when it does not."""
    tokenizer: bool
    """Whether a tokenizer is in it; without one no engine serves a model."""
    embedding_length: int
    """Of a model, the length of the vectors that it reads; of a projector, of those that it makes, by its header
    (clip.vision.projection_dim). 0 where the header does not say."""
    header: Header
