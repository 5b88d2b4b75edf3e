"""The catalog's models, accelerators and engines as pages of the reference, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bedplate.model.catalogued import AcceleratorRow, EngineRow, ModelRow, Precision, Rates
from bedplate.model.units import render_size
from bedplate.report.markdown import one_line, table_row
from bedplate.report.models import render_count

_ACCELERATORS = """\
What `bedplate fit` knows of accelerators: the rows of `src/bedplate/catalog/accelerators.toml`. Operations a second are
**dense**, in TFLOPS; data sheets of NVIDIA print the sparse number from Hopper on, which is twice as much. Memory is of one
device, as the device reports it where that is known. `device` is the id of the same in the
[support matrix](support-matrix.md#accelerators), which a wish may name as well. Nothing here was measured: each row says how
it was checked, and which figures rest on one source."""
_ENGINES = """\
What an engine takes of a device beside weights and KV cache, and the precisions that it loads: the rows of
`src/bedplate/catalog/fit_engines.toml`."""
_MODELS = """\
What `bedplate fit` knows of models: the rows of `src/bedplate/catalog/models.toml`, which hold the numbers of the
published config.json. Parameters are counted from them unless the row says otherwise; KV bytes are of a 16-bit cache, on
one device."""


def render_accelerators_page(
    rows: Sequence[AcceleratorRow], engines: Sequence[EngineRow], precisions: Sequence[Precision]
) -> str:
    """docs/reference/accelerators.md below its first line: a table, then how each row was checked; then the engines."""
    parts = ["# Accelerators\n", one_line(_ACCELERATORS)]
    heads = ("id", "name", "device", "GiB", "GB/s", "bf16", "fp8", "fp4", "int8", "PCI")
    parts += [table_row(*heads), "|---" * len(heads) + "|"]
    for row in rows:
        figures = [f"{row.memory_gib:g}", f"{row.bandwidth_gbs:g}", *_rates(row.tflops)]
        parts.append(table_row(f"`{row.id}`", row.name, row.device, *figures, ", ".join(f"`{id}`" for id in row.pci)))
    parts += ["", "## How the rows were checked\n", "| id | checked | unverified | trap | source |", "|---|---|---|---|---|"]
    for row in rows:
        parts.append(table_row(f"`{row.id}`", row.checked, row.unverified, row.trap, row.source))
    parts += ["", "## Engines\n", one_line(_ENGINES)]
    for engine in engines:
        parts += [f"### {engine.title}\n", *_engine(engine), ""]
    parts += ["## Precisions\n", "| id | bits | embedding | multiplied in | engines | source |", "|---|---|---|---|---|---|"]
    for precision in precisions:
        bits = f"{precision.bits:g}", f"{precision.embedding_bits:g}"
        loads = ", ".join(precision.engines)
        parts.append(table_row(f"`{precision.id}`", *bits, precision.arithmetic, loads, precision.source))
    return "\n".join([*parts, ""])


def _engine(engine: EngineRow) -> list[str]:
    """One engine as a list."""
    rows = [
        ("Id", f"`{engine.id}`"),
        ("Several devices", {"tensor": "tensor parallelism", "layers": "each has some of the layers"}[engine.split.value]),
        ("Share of the memory that it uses", f"{engine.memory_fraction:g}"),
        ("Block of the KV cache", f"{engine.block_tokens} tokens"),
        ("Tokens of prompts in one step", str(engine.batch_tokens or "")),
        ("Sequences in one step", str(engine.sequences or "")),
        ("Runtime", f"{engine.runtime_mib} MiB" if engine.runtime_mib else ""),
        ("Source", engine.source),
        ("Checked", engine.checked),
        ("Unverified", engine.unverified),
    ]
    return [f"- {name}: {text}" for name, text in rows if text]


def render_models_page(rows: Sequence[ModelRow], counted: Mapping[str, int | None]) -> str:
    """docs/reference/models.md below its first line: a table, then each row. counted: parameters by id; None: not known."""
    parts = ["# Models\n", one_line(_MODELS)]
    parts += [
        "| id | parameters | layers | KV a token | beyond the window | context | precisions |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        shape, number = row.shape, counted[row.id]
        beyond = render_size(shape.kv_bytes_beyond_window) if shape.window_layers else ""
        cells = (
            f"[{row.id}](#{row.id.replace('.', '')})",
            render_count(number) if number is not None else "not known",
            str(shape.layers),
            render_size(shape.kv_bytes_per_token),
            beyond,
            str(shape.context or ""),
            ", ".join(checkpoint.precision for checkpoint in row.checkpoint),
        )
        parts.append(table_row(*cells))
    parts.append("")
    for row in rows:
        parts += [f"## {row.id}\n", *_model(row), ""]
    return "\n".join(parts)


def _model(row: ModelRow) -> list[str]:
    """One model as a list."""
    shape = row.shape
    attention = (
        f"latent (MLA), {shape.kv_lora_rank} + {shape.rope_size} values a layer"
        if shape.latent
        else f"{shape.heads} heads, {shape.kv_heads} of keys and values, {shape.head_size} values each"
    )
    if shape.index_size:
        attention += f", with an indexer of {shape.index_size} values"
    kinds = [f"{shape.attending_layers - shape.window_layers} full"]
    kinds += [f"{shape.window_layers} of {shape.window} tokens"] if shape.window_layers else []
    kinds += [f"{shape.state_layers} with a state"] if shape.state_layers else []
    experts = f"{shape.experts}, {shape.experts_per_token} for each token" if shape.experts else ""
    rows = [
        ("Names", ", ".join(f"`{name}`" for name in row.names)),
        ("Attention", attention),
        ("Layers", ", ".join(kinds)),
        ("Experts", experts),
        ("Published size", row.published_params),
        ("Published KV cache", row.published_kv),
        ("Source", row.source),
        ("Checked", f"{row.checked} ({row.date})"),
        ("Unverified", row.unverified),
        ("Trap", row.trap),
    ]
    return [f"- {name}: {text}" for name, text in rows if text]


def _rates(rates: Rates) -> list[str]:
    return [f"{rate:g}" if rate is not None else "" for rate in (rates.bf16, rates.fp8, rates.fp4, rates.int8)]
