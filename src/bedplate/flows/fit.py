"""Will it run: a model from a file, a directory or the catalog, against this host's accelerators or named ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bedplate import __version__
from bedplate.catalog.accelerators import read_accelerator_rows
from bedplate.catalog.drop_ins import DROP_INS, RowKind, read_drop_ins
from bedplate.catalog.fit_engines import FitEngines, read_fit_engines
from bedplate.catalog.models import find_model_row, read_model_rows
from bedplate.catalog.near import near_hint
from bedplate.errors import ModelRefused, ReadError, UsageError
from bedplate.flows.fit_targets import read_host_targets, read_named_targets
from bedplate.model.catalogued import Arithmetic, EngineRow, ModelRow, Precision
from bedplate.model.decoder import DecoderShape
from bedplate.model.fit import FitModel, FitReport, FitWish, WeightsChoice
from bedplate.model.launch import Format
from bedplate.model.modelfile import Header
from bedplate.model.units import GIB
from bedplate.plan.fit import plan_fit, weights_bytes
from bedplate.plan.limits import DEFAULT_CONTEXT, UNKNOWN_CONTEXT
from bedplate.plan.parameters import ParameterCount, count_parameters

_BF16_TYPES = frozenset(["F32", "F16", "BF16", "AWQ", "GPTQ", "I32"])  # packed integers are multiplied in bf16, too
_FP4_TYPES = frozenset(["MXFP4", "NVFP4", "F4"])
_FP8_TYPES = frozenset(["FP8", "F8_E4M3", "F8_E5M2"])


def read_fit(
    name: str,
    *,
    on: str | None = None,
    engine: str | None = None,
    precision: str | None = None,
    context: int | None = None,
    concurrency: int = 1,
    price_per_hour: float | None = None,
    recording: Path | None = None,
    drop_ins: Path | None = DROP_INS,
) -> FitReport:
    """The answer for a model: a path, or a name of the catalog.

    on: "8xH100", several with commas, or "any"; None: this host, or the recording. context None: what the model was made
    for, up to 8192 tokens. drop_ins: where further rows lie, in models/ and accelerators/; None: none. Raises
    UsageError for an unknown name, ReadError and ModelRefused for a file, DataError for a bad row.
    """
    engines = read_fit_engines()
    model = read_fit_model(name, engines, drop_ins)
    chosen = _choose_engines(engines, engine)
    model = _choose_precision(model, precision)
    rows = read_accelerator_rows(read_drop_ins(RowKind.ACCELERATORS, drop_ins))
    targets = read_named_targets(on, chosen, rows) if on is not None else read_host_targets(recording, chosen, rows)
    wish = FitWish(
        context=context or min(DEFAULT_CONTEXT, model.shape.context or UNKNOWN_CONTEXT),
        concurrency=concurrency,
        price_per_hour=price_per_hour,
    )
    return FitReport(model=model, wish=wish, results=plan_fit(model, targets, chosen, wish), version=__version__)


def _choose_engines(engines: FitEngines, wanted: str | None) -> tuple[EngineRow, ...]:
    if wanted is None:
        return engines.engine
    found = tuple(row for row in engines.engine if row.id == wanted.lower())
    if not found:
        names = {known.lower(): row.id for row in engines.engine for known in (row.id, row.title)}
        raise UsageError(f"--engine {wanted[:80]!r}: no such engine", hint=near_hint(wanted, names))
    return found


def _choose_precision(model: FitModel, wanted: str | None) -> FitModel:
    if wanted is None:
        return model
    found = tuple(choice for choice in model.weights if choice.precision.lower() == wanted.lower())
    if not found:
        names = {choice.precision.lower(): choice.precision for choice in model.weights}
        raise UsageError(f"--precision {wanted[:80]!r}: {model.name} is not had in it", hint=near_hint(wanted, names))
    return replace(model, weights=found)


def read_fit_model(name: str, engines: FitEngines, drop_ins: Path | None = None) -> FitModel:
    """The model at a path, or of a row of the catalog. Raises UsageError listing near names, ReadError, ModelRefused."""
    path = Path(name)
    try:
        there = path.exists()
    except OSError:  # a name that is too long for a path
        there = False
    if there:
        return _of_path(path, engines)
    if name.endswith((".gguf", ".safetensors", ".json")) or name.startswith(("/", "./", "../", "~")):
        raise ReadError(f"{name[:200]}: does not exist", hint="Name a file, a directory, or a model of the catalog.")
    return make_row_model(find_model_row(name, read_model_rows(read_drop_ins(RowKind.MODELS, drop_ins))), engines.precision)


def _of_path(path: Path, engines: FitEngines) -> FitModel:
    if path.suffix == ".json" and path.is_file():
        return _of_config(path, engines, None)
    from bedplate.weights.source import find_source

    config = path / "config.json"
    if path.is_dir() and config.is_file() and not any(path.glob("*.gguf")):
        header = find_source(path).header if any(path.glob("*.safetensors")) else None
        return _of_config(config, engines, header)
    source = find_source(path)
    if source.header.format is Format.SAFETENSORS:
        raise ModelRefused(
            f"{path}: one safetensors file does not say what its KV cache takes",
            hint="Name the directory in which config.json is, too.",
        )
    return _of_gguf(source.name, path, source.header)


def _of_gguf(name: str, path: Path, header: Header) -> FitModel:
    from bedplate.weights.amx import amx_bytes

    if header.shape is None:
        raise ModelRefused(
            f"{path}: its header does not say layers, width, heads and vocabulary, from which memory is computed",
            hint="Convert the model again with a current tool.",
        )
    choice = WeightsChoice(
        precision=header.quantisation,
        size_bytes=sum(tensor.size_bytes for tensor in header.tensors),
        arithmetic=_arithmetic(header.quantisation),
        engines=("llamacpp",),
        origin="the file",
        amx_bytes=None if header.shape.latent else amx_bytes(header.tensors),  # engines/llamacpp.py: --no-repack
    )
    return _make(name, f"{path}: GGUF header", header.shape, (choice,), parameters=header.parameters)


def _of_config(path: Path, engines: FitEngines, header: Header | None) -> FitModel:
    """Of config.json: with the weights' own size where they lie beside it."""
    from bedplate.weights.config_shape import read_config_shape

    found = read_config_shape(path)
    count = count_parameters(found.shape)
    notes = found.notes
    if header is not None:
        choice = WeightsChoice(
            precision=found.precision or header.quantisation,
            size_bytes=sum(tensor.size_bytes for tensor in header.tensors),
            arithmetic=_arithmetic(header.quantisation),
            engines=("vllm", "sglang"),
            origin="the files",
        )
        parameters = count.total if count is not None else None
        return _make(
            path.parent.name, f"{path.parent}: safetensors", found.shape, (choice,), parameters=parameters, notes=notes
        )
    wanted = [row for row in engines.precision if row.id == (found.precision or "bf16")]
    if not found.precision:
        notes = (*notes, "the file does not say the precision of the weights, or one that has no row: bf16 is taken")
    choices = _choices(wanted, count, None, {})
    return _make(path.parent.name or str(path), f"{path}: config.json", found.shape, choices, parameters=None, notes=notes)


def make_row_model(row: ModelRow, precisions: Sequence[Precision]) -> FitModel:
    """The model of a row, in each precision that the row lists; the loader lets no other one through."""
    by_id = {precision.id: precision for precision in precisions}
    wanted = [by_id[checkpoint.precision] for checkpoint in row.checkpoint]
    sizes = {checkpoint.precision: checkpoint.size_gib for checkpoint in row.checkpoint if checkpoint.size_gib is not None}
    choices = _choices(wanted, count_parameters(row.shape), row.parameters, sizes)
    notes = (row.trap,) if row.trap else ()
    return _make(
        row.id,
        f"catalog: {row.source}; {row.checked}",
        row.shape,
        choices,
        parameters=row.parameters,
        active=row.active_parameters,
        unverified=row.unverified,
        notes=notes,
    )


def _choices(
    precisions: Sequence[Precision], count: ParameterCount | None, parameters: int | None, sizes: dict[str, float]
) -> tuple[WeightsChoice, ...]:
    return tuple(
        WeightsChoice(
            precision=precision.id,
            size_bytes=int(sizes[precision.id] * GIB)
            if precision.id in sizes
            else weights_bytes(count, parameters, precision),
            arithmetic=precision.arithmetic,
            engines=precision.engines,
            origin="published" if precision.id in sizes else "computed from the parameters",
        )
        for precision in precisions
    )


def _make(
    name: str,
    source: str,
    shape: DecoderShape,
    weights: tuple[WeightsChoice, ...],
    *,
    parameters: int | None,
    active: int | None = None,
    unverified: str = "",
    notes: tuple[str, ...] = (),
) -> FitModel:
    count = count_parameters(shape)
    return FitModel(
        name=name,
        source=source,
        shape=shape,
        parameters=parameters or (count.total if count is not None else None),
        active_parameters=active or (count.active if count is not None else None),
        routed_parameters=count.routed if count is not None else 0,
        weights=weights,
        unverified=unverified,
        notes=notes,
    )


def _arithmetic(quantisation: str) -> Arithmetic:
    """Of what most weights of a file are stored in; integers of ggml are multiplied as 8-bit ones."""
    kind = quantisation.upper()
    if kind in _BF16_TYPES:
        return Arithmetic.BF16
    if kind in _FP8_TYPES:
        return Arithmetic.FP8
    return Arithmetic.FP4 if kind in _FP4_TYPES else Arithmetic.INT8


def write_fit_page(file: Path, report: FitReport) -> None:
    """Write the answer as one self-contained HTML page. Raises UsageError where it cannot be written."""
    from bedplate.flows.pages import write_page
    from bedplate.report.fit.page import render_fit_page

    write_page(file, render_fit_page(report))
