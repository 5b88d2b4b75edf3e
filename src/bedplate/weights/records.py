"""Which models a store holds, and what in it may be removed: the records, and the lists of what a change leaves behind.

    names/NAME.json     one model, its name percent-encoded. These records count; index.json is derived from them
                        and may be missing or damaged.
    going/ANY           digests, one a line: content that a change is about to make, or to remove. Written before the change.

Content is removed only when such a list names it and no record needs it. So a kill at any instant leaves nothing behind for
longer than until the next change, and no missing or damaged list ever costs content: content that neither a record nor a
list names gets a record again, with the name that index.json or its own header gives it.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote, unquote

from bedplate.act.files import sync_directory, write_whole
from bedplate.errors import BedplateError, ReadError
from bedplate.model.instance import is_model_name
from bedplate.model.launch import ModelRef, StoreObstacle
from bedplate.model.origin import Origin
from bedplate.weights.index import (
    DIGEST,
    NewerIndex,
    parse_index,
    parse_origin,
    parse_record,
    render_index,
    render_record,
)

Adopt = Callable[[str, str], ModelRef | None]
"""(path relative to the store, digest) -> the model that lies there, named by its header; None when it is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a store holds."""

    models: tuple[ModelRef, ...]
    """By name; paths are relative to the store."""
    unrecorded: tuple[ModelRef, ...]
    """Those of them that have no record yet."""
    damaged: tuple[str, ...]
    """Names of records that cannot be read: what they need is not known, so nothing may be removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptContent:
    """What a change had to leave on the disk."""

    size_bytes: int
    obstacles: tuple[StoreObstacle, ...]
    """Empty where all was removed that was to be removed."""


def survey(root: Path, adopt: Adopt, *, going: Iterable[str] = ()) -> Survey:
    """Read the records, and give a name to content that has none but `going`. Changes nothing and needs no lock.

    Raises ReadError for a record that cannot be read from the disk, and for one of a newer bedplate.
    """
    # A change announces what it makes before it is there, and what it removes before its record goes. Read in this order,
    # and the lists again at the end, content of a change that goes on meanwhile is never taken for forgotten content.
    files, trees = _digests(root / "sha256"), _digests(root / "trees")
    needed = {*going, *read_going(root)}
    index = _read_index(root)
    records, damaged = _read_records(root)
    if records is None:  # a store of a bedplate that had no records: its index counts
        records = {model.name: model for model in index}
        unrecorded = list(records.values())
    else:
        unrecorded = []
    needed |= read_going(root)
    for model in records.values():
        with contextlib.suppress(OSError):  # its content was removed by hand; verify says so
            needed |= {digest for _, digest in content_of(root, model)}
        needed.add(model.sha256)
    forgotten = [model for model in index if model.sha256 not in needed and model.sha256 in (files | trees)]
    known = {model.sha256 for model in forgotten}
    for kind, digests in (("trees", trees & files), ("sha256", files)):
        for digest in sorted(digests - needed - known):
            found = adopt(f"{kind}/{digest}", digest)
            if found is not None and (root / found.path).exists():
                forgotten.append(found)
        for model in forgotten if kind == "trees" else ():
            with contextlib.suppress(OSError):
                known |= {digest for _, digest in content_of(root, model)}
    for model in forgotten:
        name = model.name if model.name not in records else f"{model.name[:86]}-{model.sha256[:12]}"
        records[name] = replace(model, name=name)
        unrecorded.append(records[name])
    return Survey(
        models=tuple(records[name] for name in sorted(records)), unrecorded=tuple(unrecorded), damaged=tuple(damaged)
    )


def settle(root: Path, adopt: Adopt, *, going: Iterable[str] = ()) -> KeptContent:
    """Bring a store into order: a record for each model, what killed changes left removed, the index as the records say.

    going: digests that are to go though no list could be written. Returns what could not be removed. Only with the lock of
    the store held. Raises ReadError where survey does; nothing is changed then.
    """
    found = survey(root, adopt, going=going)
    for directory in (root, root / "names", root / "going"):
        for left_over in directory.glob(".*.unfinished"):
            left_over.unlink()
    _write_records(root, found.unrecorded)
    for model in found.models:
        if model.path.startswith("trees/"):
            with contextlib.suppress(OSError):  # a part of it was removed by hand; verify says so
                link_tree(root, model.sha256, [(path.name, digest) for path, digest in content_of(root, model)[1:]])
    kept = _remove_going(root, found, going)
    text = render_index(found.models)
    with contextlib.suppress(OSError):
        if (root / "index.json").read_text() == text:
            return kept
    write_whole(root / "index.json", text, sync=True)
    return kept


def record_file(name: str) -> str:
    """The file name of a model's record: "Qwen/Qwen3-8B" -> "Qwen%2FQwen3-8B.json"."""
    return f"{quote(name, safe='')}.json"


def announce(root: Path, digests: Iterable[str]) -> None:
    """Say that this content may be removed unless a record needs it. Only with the lock of the store held."""
    (root / "going").mkdir(exist_ok=True)
    text = "".join(f"{digest}\n" for digest in digests)
    write_whole(root / "going" / secrets.token_hex(8), text, sync=True)
    sync_directory(root)


def write_record(root: Path, model: ModelRef, origin: Origin | None = None) -> None:
    """The moment at which a model is in the store. Its content must be there, and on the disk."""
    write_whole(root / "names" / record_file(model.name), render_record(model, origin), sync=True)


def read_origin(root: Path, name: str) -> Origin | None:
    """Where the model of that name came from; None where its record does not say, or cannot be read."""
    path = root / "names" / record_file(name)
    try:
        return parse_origin(path.read_bytes(), str(path))
    except (OSError, ReadError):
        return None


def remove_record(root: Path, name: str) -> None:
    """The moment at which a model is no longer in the store. Its content must have been announced."""
    (root / "names" / record_file(name)).unlink(missing_ok=True)
    sync_directory(root / "names")


def read_going(root: Path) -> frozenset[str]:
    """Digests that some list names, lists of changes that were killed too. A list that cannot be read counts as empty."""
    found: set[str] = set()
    for path in _listed(root / "going"):
        with contextlib.suppress(OSError):
            found |= {line for line in path.read_text(errors="replace").splitlines() if DIGEST.fullmatch(line)}
    return frozenset(found)


def content_of(root: Path, model: ModelRef) -> list[tuple[Path, str]]:
    """Paths of a model's content and the digests that they must have. Raises OSError when its list of files is not there."""
    if model.path.rpartition("/")[0].endswith("trees"):
        manifest = root / "sha256" / model.sha256
        tree = root / "trees" / model.sha256
        lines = manifest.read_text(errors="replace").splitlines()
        return [(manifest, model.sha256), *((tree / line[66:], line[:64]) for line in lines)]
    return [(root / "sha256" / model.sha256, model.sha256)]


def link_tree(root: Path, digest: str, files: Iterable[tuple[str, str]]) -> None:
    """Make trees/<digest> hold these (name, digest) as links to the content; what is so already stays."""
    tree = root / "trees" / digest
    tree.mkdir(parents=True, exist_ok=True)
    for name, file_digest in files:
        content, link, making = root / "sha256" / file_digest, tree / name, tree / ".making"
        with contextlib.suppress(FileNotFoundError):
            if link.samefile(content):
                continue
        making.unlink(missing_ok=True)
        making.hardlink_to(content)
        making.replace(link)


def _write_records(root: Path, models: Iterable[ModelRef]) -> None:
    names = root / "names"
    if names.is_dir():
        for model in models:
            write_record(root, model)
        return
    making = root / "names.new"  # until all are there, the index counts
    if making.exists():
        shutil.rmtree(making)
    making.mkdir()
    for model in models:
        write_whole(making / record_file(model.name), render_record(model), sync=True)
    making.rename(names)
    sync_directory(root)


def _remove_going(root: Path, found: Survey, going: Iterable[str]) -> KeptContent:
    lists = _listed(root / "going")
    doomed = {*going, *read_going(root)}
    if not lists and not doomed:
        return KeptContent(size_bytes=0, obstacles=())
    needed = {model.sha256 for model in found.models}
    obstacles = [_damaged_record(root, stem) for stem in found.damaged]
    for model in found.models:
        try:
            needed |= {digest for _, digest in content_of(root, model)}
        except FileNotFoundError:
            if (root / model.path).exists():
                obstacles.append(_lost_list(root, model))
    if obstacles:
        return KeptContent(size_bytes=_size(root, doomed - needed), obstacles=tuple(obstacles))
    for digest in doomed - needed:
        (root / "sha256" / digest).unlink(missing_ok=True)
        if (root / "trees" / digest).is_dir():
            shutil.rmtree(root / "trees" / digest)
    for path in lists:
        path.unlink()
    return KeptContent(size_bytes=0, obstacles=())


def _damaged_record(root: Path, stem: str) -> StoreObstacle:
    return StoreObstacle(
        path=str(root / "names" / f"{stem}.json"),
        problem="is damaged; the content that this model needs is unknown",
        repair=f"To keep the model, add it again: bedplate model add PATH --name {unquote(stem)}."
        " To give it up, remove the file. The next change of the store then frees the space.",
    )


def _lost_list(root: Path, model: ModelRef) -> StoreObstacle:
    return StoreObstacle(
        path=str(root / "sha256" / model.sha256),
        problem=f"is missing; it lists the files that the model {model.name} needs",
        repair=f"Add the model again: bedplate model add DIRECTORY --name {model.name}."
        " The next change of the store then frees the space.",
    )


def _size(root: Path, digests: Iterable[str]) -> int:
    """Bytes of this content; what is not there counts 0."""
    total = 0
    for digest in digests:
        with contextlib.suppress(OSError):
            total += (root / "sha256" / digest).stat().st_size
    return total


def _read_records(root: Path) -> tuple[dict[str, ModelRef] | None, list[str]]:
    """(records by name, names of damaged ones); (None, []) where the store has no records at all."""
    if not (root / "names").is_dir():
        return None, []
    records: dict[str, ModelRef] = {}
    damaged: list[str] = []
    for path in _listed(root / "names"):
        if path.suffix != ".json":
            continue
        try:
            model = parse_record(path.read_bytes(), str(path))
            if record_file(model.name) != path.name:
                raise ReadError(f"{path}: is the record of {model.name}")
        except FileNotFoundError:
            continue  # removed since it was listed
        except OSError as error:
            raise ReadError(f"{path}: cannot read: {error.strerror}") from error
        except NewerIndex:
            raise
        except ReadError:
            damaged.append(path.stem)
            continue
        records[model.name] = model
    return records, damaged


def _read_index(root: Path) -> tuple[ModelRef, ...]:
    """The rows of an index that can be used: it is derived, so a damaged one is none."""
    path = root / "index.json"
    try:
        return tuple(row for row in parse_index(path.read_bytes(), str(path), []) if is_model_name(row.name))
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ReadError(f"{path}: cannot read: {error.strerror}") from error
    except NewerIndex:
        raise
    except BedplateError:
        return ()


def _listed(directory: Path) -> list[Path]:
    """Visible entries, sorted; none without the directory."""
    try:
        return sorted(path for path in directory.iterdir() if not path.name.startswith("."))
    except FileNotFoundError:
        return []


def _digests(directory: Path) -> frozenset[str]:
    return frozenset(path.name for path in _listed(directory) if DIGEST.fullmatch(path.name))
