"""Build, list and show engine layers, and say for which GPU each of them is offered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bedplate.act.layer_record import read_gpu_code
from bedplate.act.lock import hold_lock
from bedplate.act.paths import Paths, check_paths, find_paths
from bedplate.catalog.stack import read_stack
from bedplate.errors import ReadError, UsageError
from bedplate.host.root.jsontext import parse_json
from bedplate.host.system.buildhost import find_mirror
from bedplate.image.engine import build_engine
from bedplate.image.manifest import EngineLayer
from bedplate.image.recipe import list_engine_recipes, read_engine_recipe, recipes_directory
from bedplate.model.layer import LayerOffer
from bedplate.model.progress import Progress
from bedplate.plan.layer_offers import offer_layers


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedLayer:
    """An engine layer in a line: one that has a recipe, built or not."""

    name: str
    version: str | None
    """None for a layer that was not built."""
    size_bytes: int | None
    packages: int | None
    """How many it has: those of Debian and those of Python."""
    offer: LayerOffer | None = None
    """Whether it is offered for the accelerator that was asked about; None where none was, or the layer was not built."""


def build_layer(
    progress: Progress, name: str, *, force: bool = False, update: bool = False, mirror: str | None = None
) -> EngineLayer:
    """The layer of a recipe, built now unless its inputs are unchanged; mirror None: that of the host's apt configuration.

    force: even so. update: with newer packages. Raises UsageError for a name without a recipe, BuildError when a step fails
    and BusyError beside another build; what was published before stays.
    """
    paths = _paths()
    read_engine_recipe(recipes_directory(), name)
    with hold_lock(paths, "engine build"):
        return build_engine(paths, progress, name, force=force, update=update, mirror=mirror or find_mirror())


def list_layers(accelerator: str | None = None) -> tuple[ListedLayer, ...]:
    """All layers that have a recipe, by name; with an accelerator ("b200"), whether each built one is offered for it.

    Raises UsageError for an accelerator that the catalogue does not have, ReadError for a record that cannot be read.
    """
    paths = _paths()
    records = {name: _read(paths, name) for name in list_engine_recipes(recipes_directory())}
    offers = {offer.layer: offer for offer in _offers(records, accelerator)} if accelerator is not None else {}
    return tuple(
        ListedLayer(
            name=name,
            version=record["version"] if record else None,
            size_bytes=record["size_bytes"] if record else None,
            packages=len(record["packages"]) + len(record.get("python", {}).get("packages", ())) if record else None,
            offer=offers.get(name),
        )
        for name, record in records.items()
    )


def show_layer(name: str) -> dict[str, Any]:
    """The record of a built layer, as its build wrote it of what is inside. Raises UsageError where there is none.

    Raises ReadError for a record that cannot be read, and for a layer whose file is missing or of another size.
    """
    paths = _paths()
    known = list_engine_recipes(recipes_directory())
    if name not in known:
        raise UsageError(f"{name}: there is no engine layer of this name", hint=f"The layers are: {', '.join(known)}.")
    record = _read(paths, name)
    hint = f"Build it: bedplate engine build {name}"
    if record is None:
        raise UsageError(f"{name}: this layer was not built", hint=hint)
    file = paths.engines / record["file"]
    got = file.stat().st_size if file.is_file() else None
    if got != record["size_bytes"]:
        state = "is missing" if got is None else f"has {got} bytes, expected {record['size_bytes']}"
        raise ReadError(f"{file}: {state}", hint=hint)
    return record


def _offers(records: dict[str, dict[str, Any] | None], accelerator: str) -> tuple[LayerOffer, ...]:
    catalogue = read_stack()
    devices = {device.id: device for device in catalogue.devices}
    if accelerator not in devices:
        raise UsageError(
            f"{accelerator}: the catalogue has no accelerator of this name", hint=f"Known: {', '.join(sorted(devices))}."
        )
    layers = [gpu for name, record in records.items() if record and (gpu := read_gpu_code(name, record)) is not None]
    return offer_layers(layers, devices[accelerator], catalogue)


def _read(paths: Paths, name: str) -> dict[str, Any] | None:
    """The record of a layer; None where it was not built. Its keys are those that every build writes."""
    file = paths.engines / f"{name}.json"
    try:
        record = parse_json(file.read_text(), str(file))
    except FileNotFoundError:
        return None
    missing = [key for key in _KEYS if not isinstance(record, dict) or key not in record]
    if missing:
        raise ReadError(
            f"{file}: not the record of a layer: it has no {missing[0]}",
            hint=f"Build it again: bedplate engine build {name}",
        )
    checked: dict[str, Any] = record
    return checked


_KEYS = ("name", "version", "digest", "file", "size_bytes", "sha256", "suite", "packages", "architectures")


def _paths() -> Paths:
    paths = find_paths()
    check_paths(paths)
    return paths
