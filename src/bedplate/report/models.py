"""Models of a store as text: a table of all, and all that the header of one says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bedplate.model.launch import IntegrityResult, ModelRef, Removal
from bedplate.model.modelfile import Header
from bedplate.model.origin import Origin
from bedplate.model.units import render_size


def render_models(models: Sequence[ModelRef]) -> str:
    """A line for each model below a heading; each line ends with a line end."""
    head = ("NAME", "ARCHITECTURE", "PARAMETERS", "QUANTISATION", "CONTEXT", "SIZE", "SHA-256")
    table = [head] + [
        (
            model.name,
            model.architecture,
            render_count(model.parameters),
            model.quantisation,
            str(model.context_length or "-"),
            render_size(model.size_bytes),
            model.sha256[:12],
        )
        for model in models
    ]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join(lines) + "\n"


def render_model(model: ModelRef, header: Header, *, tensors: bool, origin: Origin | None = None) -> str:
    """What is known of one model, a line each, and with `tensors` each of its tensors; ends with a line end."""
    bits = 8 * sum(tensor.size_bytes for tensor in header.tensors) / max(model.parameters, 1)  # without what is beside it
    rows = {
        "name": model.name,
        "title": header.title or "-",
        "sha256": model.sha256,
        "path": model.path,
        "format": model.format,
        "task": model.task,
        "size": f"{render_size(model.size_bytes)} ({model.size_bytes} bytes)",
        "architecture": model.architecture,
        "parameters": f"{render_count(model.parameters)} ({model.parameters}) in {len(header.tensors)} tensors",
        "quantisation": f"{model.quantisation}, {bits:.2f} bits per parameter",
        "context": f"{model.context_length} tokens" if model.context_length else "the header does not say",
        "KV cache": f"{render_size(model.kv_bytes_per_token)} per token at 16 bits" if model.kv_bytes_per_token else "-",
        "vocabulary": f"{header.vocabulary} tokens" if header.vocabulary else "-",
        "chat template": "yes" if header.chat_template else "no",
        **({"pulled from": " at ".join(filter(None, (origin.source, origin.revision)))} if origin is not None else {}),
        **({"projector": model.projector} if model.projector else {}),
        **({"adapters": ", ".join(model.adapters)} if model.adapters else {}),
    }
    lines = [f"{key:<14} {value}" for key, value in rows.items()]
    for tensor in header.tensors if tensors else ():
        lines.append(f"  {tensor.name:<48} {tensor.type:<8} {' x '.join(map(str, tensor.shape))}")
    return "\n".join(lines) + "\n"


def render_removal(removal: Removal) -> str:
    """The name that was removed with the size of its model, and why the disk did not get its space back; lines."""
    lines = [f"removed {removal.model.name} ({render_size(removal.model.size_bytes)})"]
    if removal.obstacles:
        lines.append(f"{render_size(removal.kept_bytes)} of removed models stay on the disk:")
    for obstacle in removal.obstacles:
        lines += [f"  {obstacle.path}: {obstacle.problem}", f"  {obstacle.repair}"]
    return "\n".join(lines) + "\n"


def render_integrity(result: IntegrityResult) -> str:
    """The name of a model, and what is wrong with its content, or that it is as its digest says; a line."""
    return f"{result.model.name}: {result.problem or 'ok'}\n"


def render_shapes(shapes: Iterable[Mapping[str, Any]]) -> str:
    """A line for each shape that random weights can have, from the fields of its row."""
    return "".join(
        f"{shape['id']:<14} {shape['architecture']}, {shape['layers']} layers of {shape['width']},"
        f" {shape['vocabulary']} tokens\n"
        for shape in shapes
    )


def render_made(file: str, size_bytes: int, parameters: int, measured: Mapping[str, Any]) -> str:
    """The file of a known-answer model that was trained, and how many of its questions it answers exactly; lines.

    measured: of each set of questions how many were asked, and how many answers were right.
    """
    lines = [f"{file}: {render_size(size_bytes)}, {render_count(parameters)} parameters"]
    for label, key in (
        ("facts answered exactly", "facts_exact"),
        ("all trained phrasings", "phrasings_exact"),
        ("held-out phrasings", "held_out_phrasings_exact"),
        ("held-out questions refused", "held_out_questions_refused"),
    ):
        lines.append(f"{label:<28} {measured[key]['right']} of {measured[key]['asked']}")
    return "".join(f"{line}\n" for line in lines)


def render_count(count: int) -> str:
    """1235814400 -> "1.24 B" """
    for unit, name in ((10**12, "T"), (10**9, "B"), (10**6, "M")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return str(count)


def stored_object(model: ModelRef, origin: Origin | None) -> dict[str, Any]:
    """A model and where it was pulled from, for JSON; `origin` is null where that is not recorded."""
    return asdict(model) | {"origin": asdict(origin) if origin is not None else None}


def model_object(model: ModelRef, header: Header, *, tensors: bool, origin: Origin | None = None) -> dict[str, Any]:
    """A model and what its header says, for JSON; with `tensors` also name, type and shape of each."""
    row = stored_object(model, origin) | {
        "title": header.title,
        "vocabulary": header.vocabulary,
        "chat_template": header.chat_template,
        "tensor_count": len(header.tensors),
    }
    return row | ({"tensors": [asdict(tensor) for tensor in header.tensors]} if tensors else {})


def removal_object(removal: Removal) -> dict[str, Any]:
    """The model whose name was removed, and why the disk did not get its space back, for JSON."""
    obstacles = [asdict(obstacle) for obstacle in removal.obstacles]
    return asdict(removal.model) | {"kept_bytes": removal.kept_bytes, "obstacles": obstacles}


def integrity_object(result: IntegrityResult) -> dict[str, object]:
    """Whether the content of a model is what its digest says, for JSON; `problem` is "" where it is."""
    model = result.model
    return {"name": model.name, "sha256": model.sha256, "ok": not result.problem, "problem": result.problem}
