"""The models of this host: those of the store, and models that are made for tests and benches."""

from __future__ import annotations

import datetime
import hashlib
import importlib.util
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bedplate.act.files import write_report
from bedplate.act.layer_record import read_layer_record
from bedplate.act.paths import Paths, check_paths, find_paths
from bedplate.catalog.shapes import ModelShape, find_shape, read_shapes
from bedplate.engines import engines_for
from bedplate.errors import ModelRefused, PreflightError, ReadError, UsageError
from bedplate.host.root.root import Root
from bedplate.host.system.booted import is_bedplate_system
from bedplate.model.launch import Format, IntegrityResult, ModelRef
from bedplate.model.modelfile import Header
from bedplate.model.origin import Origin
from bedplate.model.progress import Progress
from bedplate.weights.store import Store, check_name, check_space

if TYPE_CHECKING:
    from bedplate.weights.known_answer import Made


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownModel:
    """A model of the store beside all that the header of its file says, its tensors too."""

    model: ModelRef
    header: Header
    origin: Origin | None
    """Where it was pulled from; None where that is not recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownAnswerOutcome:
    """A known-answer model that was just trained, and the record by which others can make it again."""

    made: Made
    record: str
    """JSON text; known-answer.json beside the model has it too."""


def open_store() -> Store:
    """The store of this host, or of this user. Raises PreflightError where its directory cannot be used."""
    paths = find_paths()
    check_paths(paths)
    return Store(paths.models)


def tell_what_serves() -> str | None:
    """In a booted image: what makes it serve the models of its store, as a sentence; None on a build host."""
    return (
        "The machine serves its models as they are now after: bedplate serve prepare" if is_bedplate_system(Root()) else None
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AddRequest:
    """A model to be added, and which of the files there it is."""

    path: Path
    """A file, a directory, a snapshot of a hub, a store or a manifest of Ollama."""
    name: str | None = None
    """None: as its file is called."""
    overwrite: bool = False
    """Take the name over from another model."""
    choice: str = ""
    """Of several models: a file's name or a part of it ("Q4_K_M"), or the name that Ollama gives it."""
    projector: str = ""
    """File that makes images into what the model reads; "none": without the one that is there."""
    adapters: tuple[Path, ...] = ()
    """LoRA adapters, applied whenever the model is served."""
    origin: Origin | None = None
    """Where it was pulled from; None for a model that is added."""


def add(request: AddRequest, progress: Progress) -> ModelRef:
    """Check a model and copy it into the store. Raises ReadError for a file that is none, UsageError for a name in use, and
    ModelRefused for a model that the engine of this host cannot serve."""
    return open_store().add(
        request.path,
        progress=progress,
        name=request.name,
        overwrite=request.overwrite,
        choice=request.choice,
        projector=request.projector,
        adapters=request.adapters,
        check=lambda model, types: check_storable(model, types, progress),
        origin=request.origin,
    )


def check_storable(model: ModelRef, types: frozenset[str], progress: Progress) -> None:
    """Raise ModelRefused for a model that no engine of this host can serve; note it where an engine of another might."""
    try:
        check_servable(model, types, find_paths())
    except ModelRefused as error:
        if model.format is Format.GGUF:
            raise
        progress.note(f"{error.message}; the store keeps it for an engine that can")


def check_servable(model: ModelRef, tensor_types: Collection[str], paths: Paths, *, wanted: str = "") -> None:
    """Raise ModelRefused for a model that no engine reads, or that none whose layer was built here can serve.

    wanted: the only engine that may serve it; "" for any.
    """
    refusals: list[ModelRefused] = []
    for engine in engines_for(model, wanted=wanted):
        layer = read_layer_record(paths, engine.name)
        try:
            engine.check_model(model, layer.architectures if layer is not None else (), tensor_types)
            return
        except ModelRefused as error:
            refusals.append(error)
    raise refusals[0]


def show(name: str) -> ShownModel:
    """A model by its name or the beginning of its digest, and what its header says. Raises UsageError without such one."""
    store = open_store()
    model = store.find(name)
    return ShownModel(model=model, header=store.read_header(model), origin=store.origin(model))


def verify(names: Sequence[str], progress: Progress) -> tuple[IntegrityResult, ...]:
    """Read models again and compare their digests; () names all."""
    store = open_store()
    models = [store.find(name) for name in names] or list(store.models())
    return tuple(store.verify(model, progress=progress) for model in models)


def list_shapes() -> tuple[ModelShape, ...]:
    """The shapes of real models that `make_random` can fill, in the catalog's order."""
    return read_shapes()


def make_random(
    shape_id: str, quantisation: str, progress: Progress, *, name: str | None = None, seed: int = 1, overwrite: bool = False
) -> ModelRef:
    """Random weights in the shape of a real model, for speed tests; same seed, same file. Raises UsageError for a shape or
    quantisation that is not known."""
    from bedplate.weights.random_model import Quant, random_model_bytes, write_random_model

    shape = find_shape(shape_id)
    if quantisation not in list(Quant):
        raise UsageError(f"--quant: got {quantisation!r}, expected one of {', '.join(Quant)}")
    quant = Quant(quantisation)
    store = open_store()
    called = check_name(name or f"random-{shape.id}-{quant}")
    check_space(store.root, random_model_bytes(shape, quant))
    with store.incoming() as part:
        write_random_model(part.path, shape, quant, seed=seed, progress=progress)
        with progress.phase("read the model back and name it"):
            return store.commit(part, called, overwrite=overwrite)


def make_known_answer(
    output: Path,
    progress: Progress,
    *,
    seed: int | None = None,
    steps: int | None = None,
    threads: int | None = None,
) -> KnownAnswerOutcome:
    """Train the model of the self-test into a directory; None: as the model that ships was made."""
    from bedplate.weights import known_answer

    seed = known_answer.SEED if seed is None else seed
    steps = known_answer.STEPS if steps is None else steps
    threads = known_answer.THREADS if threads is None else threads
    made = known_answer.make_known_answer(output, progress=progress, seed=seed, steps=steps, threads=threads)
    record = known_answer.render_record(
        made,
        command=f"bedplate model make known-answer --seed {seed} --steps {steps} --threads {threads} --output DIRECTORY",
        seed=seed,
        steps=steps,
        threads=threads,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
    )
    write_report(output / "known-answer.json", record)
    return KnownAnswerOutcome(made=made, record=record)


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenFile:
    """A file that was written, and the digest of its content."""

    path: Path
    size_bytes: int
    sha256: str


def convert_known_answer(output: Path) -> tuple[WrittenFile, ...]:
    """Write the known-answer model that ships into a directory, as Transformers and vLLM read it.

    Raises PreflightError when the `models` extra is missing, BedplateError for a directory that cannot be written.
    """
    missing = [name for name in ("gguf", "numpy") if importlib.util.find_spec(name) is None]
    if missing:
        raise PreflightError(
            f"converting a model needs Python packages that are not installed: {', '.join(missing)}",
            hint="Install the extra: pip install 'bedplate[models]'.",
        )
    from bedplate.weights.known_answer_transformers import convert_known_answer as convert

    try:
        paths = convert(output)
    except OSError as error:
        raise ReadError(
            f"{error.filename or output}: cannot write: {error.strerror}", hint="Choose another --output."
        ) from error
    return tuple(
        WrittenFile(path=path, size_bytes=path.stat().st_size, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
        for path in paths
    )
