"""The model store: files under the SHA-256 of their content, and a record for each name that stands for some.

    names/NAME.json     the record of a model; names/ and going/ are explained in weights/records.py
    index.json          all records in one file, derived from them (weights/index.py)
    sha256/<digest>     content, read-only; for a safetensors directory also its list of files, whose digest is the model's
    trees/<digest>/     such a directory as an engine wants it: hard links under the files' own names
    going/              what a change is about to make or remove
    .lock               held while records or the names of files change, never while bytes are copied

A model has a record or it is not there: content is copied to a private file, checked, synced and renamed before its record
is written. What a killed process left behind (private files without a holder, announced content without a record) goes at
the next change. Content that nothing announced is never removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from bedplate.act.download.pace import Pace
from bedplate.act.files import digest_file, sync_directory
from bedplate.act.lock import try_lock, wait_lock
from bedplate.act.paths import STATE_HINT, is_full
from bedplate.errors import BedplateError, ModelRefused, PreflightError, ReadError, UsageError
from bedplate.host.root.regular import open_regular
from bedplate.model.instance import is_model_name
from bedplate.model.launch import IntegrityResult, ModelRef, Removal
from bedplate.model.modelfile import Header
from bedplate.model.origin import Origin
from bedplate.model.progress import Progress
from bedplate.model.units import MIB, render_size
from bedplate.weights.gguf import printable
from bedplate.weights.index import DIGEST
from bedplate.weights.records import (
    KeptContent,
    announce,
    content_of,
    link_tree,
    read_origin,
    remove_record,
    settle,
    survey,
    write_record,
)
from bedplate.weights.source import ModelSource, SourceFile, find_source, make_ref, read_stored

CHUNK_BYTES = 4 * MIB
RESERVE_BYTES = 64 * MIB  # stays free on the disk of the store
_DIGEST_PREFIX = re.compile(r"[0-9a-f]{6,64}")
_PART = ".part"
_LINKS_SHOWN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A private file in the store. Whoever holds its lock may write it; without a holder it is rubbish."""

    path: Path
    file: BinaryIO


@dataclass(frozen=True, slots=True)
class Store:
    """The models below one directory, which is made by the first `add`."""

    root: Path

    def models(self) -> tuple[ModelRef, ...]:
        """All models by name, with absolute paths. Raises ReadError when the store cannot be read."""
        return tuple(replace(model, path=str(self.root / model.path)) for model in self._rows())

    def find(self, key: str) -> ModelRef:
        """The model of that name, or the only one whose digest begins so (six digits or more). Raises UsageError."""
        models = self.models()
        for model in models:
            if model.name == key:
                return model
        found = [model for model in models if _DIGEST_PREFIX.fullmatch(key) and model.sha256.startswith(key)]
        if len({model.sha256 for model in found}) == 1:
            return found[0]
        if found:
            raise UsageError(
                f"{key}: is the beginning of several digests: {', '.join(model.name for model in found)}",
                hint="Give the name of the model.",
            )
        names = ", ".join(model.name for model in models) or "none"
        raise UsageError(f"{key}: no model has this name or digest; the store has: {names}", hint="See bedplate model list.")

    def read_header(self, model: ModelRef) -> Header:
        """The header of a model of this store, read and checked again.

        Raises ReadError, or ModelRefused where it is whole no more.
        """
        return read_stored(Path(model.path)).header

    def origin(self, model: ModelRef) -> Origin | None:
        """Where a model was pulled from; None for one that was added, and of stores of before."""
        return read_origin(self.root, model.name)

    def find_content(self, digest: str) -> Path | None:
        """The content of that SHA-256, where the store has it."""
        path = self.root / "sha256" / digest
        return path if DIGEST.fullmatch(digest) and path.is_file() else None

    def add(
        self,
        source: Path,
        *,
        progress: Progress,
        name: str | None = None,
        overwrite: bool = False,
        choice: str = "",
        projector: str = "",
        adapters: Sequence[Path] = (),
        check: Callable[[ModelRef, frozenset[str]], None] = lambda model, types: None,
        origin: Origin | None = None,
        taken: Mapping[str, str] | None = None,
    ) -> ModelRef:
        """Copy a model into the store and name it: whatever `find_source` takes, which `choice` to `adapters` are for.

        The name is that of the file without its ending unless one is given. The same content under the same name is no
        error. check may refuse the model, whose tensors are of these types, before anything is copied. origin goes into the
        record. taken: name -> SHA-256 of files that bedplate itself has just made in the store's file system, for nobody
        else; these become content by another name for the same file instead of a copy. Raises ModelRefused
        for a bad file, or a name that stands for something else (overwrite=True takes it over); PreflightError for a full
        disk; ReadError when the source cannot be read.
        """
        with progress.phase(f"read the header of {source.name}"):
            found = find_source(source, choice=choice, projector=projector, adapters=adapters)
            name = self.check_source(found, name=name, overwrite=overwrite, check=check)
        for path in found.left_out:
            progress.note(f"left out: {printable(path.name)}")
        for path, target in found.links[:_LINKS_SHOWN]:
            progress.note(f"followed: {printable(path.name)} -> {printable(target, 200)}")
        if len(found.links) > _LINKS_SHOWN:
            progress.note(f"followed: {len(found.links) - _LINKS_SHOWN} links more")
        taken = taken or {}
        check_space(self.root, sum(file.path.stat().st_size for file in found.files if file.name not in taken))
        if not found.is_single:
            return self._add_directory(found, name, progress, overwrite=overwrite, origin=origin, taken=taken)
        file = found.files[0]
        with self.incoming() as part, ExitStack() as stack:
            with progress.phase(f"copy {render_size(found.header.size_bytes)}"):
                if (digest := taken.get(file.name, "")) != "":
                    with self._locked():  # nobody looks for abandoned files before this one is locked
                        part.path.unlink()
                        part.path.hardlink_to(file.path)
                        part = Incoming(path=part.path, file=stack.enter_context(part.path.open("rb")))
                        try_lock(part.file.fileno())  # unless who fetched it has it locked
                else:
                    digest = _copy(file.path, part.file, progress, within=found.within)
            _check_digest(file, digest)
            return self.commit(part, name, digest=digest, overwrite=overwrite, origin=origin)

    def check_source(
        self,
        source: ModelSource,
        *,
        name: str | None,
        overwrite: bool,
        check: Callable[[ModelRef, frozenset[str]], None],
    ) -> str:
        """The name that `add` would give a model; raises as `add` does for what its headers and its name forbid."""
        name = make_name(Path(source.name)) if name is None else check_name(name)
        types = frozenset(tensor.type for tensor in source.header.tensors)
        check(make_ref(name, "", source.header, path="", source=source), types)
        self._check_name_free(name, overwrite=overwrite, source=source)
        return name

    @contextlib.contextmanager
    def incoming(self) -> Iterator[Incoming]:
        """A private file to write a model into, for `commit`; it is gone after the block if it was not committed."""
        with ExitStack() as stack:
            with self._changing():
                part = stack.enter_context(self._private())
            yield part

    @contextlib.contextmanager
    def _incoming_directory(self) -> Iterator[Path]:
        """A private directory for the files of one model, which is gone after the block with what was not renamed out of it.

        One for all: each private file by itself looked for abandoned ones, which took 1,100 files a million looks.
        """
        path = self.root / "sha256" / f".{secrets.token_hex(8)}{_PART}"
        with ExitStack() as stack:
            with self._changing():
                path.mkdir()
                descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                stack.callback(os.close, descriptor)
                stack.callback(shutil.rmtree, path, ignore_errors=True)
                wait_lock(descriptor)  # held until it is closed, however this process ends
            yield path

    def commit(
        self,
        part: Incoming,
        name: str,
        *,
        digest: str | None = None,
        overwrite: bool = False,
        origin: Origin | None = None,
    ) -> ModelRef:
        """Check the private file, make it content of the store, write its record. digest: when a copy made it."""
        _seal(part.file)
        header = read_stored(part.path).header
        if digest is None:
            digest = digest_file(part.path)
        model = make_ref(check_name(name), digest, header, path=f"sha256/{digest}")
        with self._changing():
            self._announce(model.name, digest, [digest], overwrite=overwrite)
            part.path.rename(self.root / model.path)
            sync_directory(self.root / "sha256")
            write_record(self.root, model, origin)
        return replace(model, path=str(self.root / model.path))

    def remove(self, key: str) -> Removal:
        """Remove a model's record, and its content from the disk when no other name stands for it.

        The content stays where a damaged record may need it, too; the result says which record.
        """
        if not self.root.is_dir():  # its lock would make it
            self.find(key)
        with self._locked():
            self._settle()
            gone = self.find(key)
            others = [model.name for model in self.models() if model.sha256 == gone.sha256 and model.name != key]
            if gone.name != key and others[1:]:
                raise UsageError(f"{key}: {', '.join(others)} have this digest", hint="Give the name of the one to remove.")
            digests = self._digests(gone)
            with contextlib.suppress(OSError):  # a full disk is why models are removed: killed now, this one would come back
                announce(self.root, digests)
            remove_record(self.root, gone.name)
            kept = self._settle(going=digests)
        return Removal(model=gone, kept_bytes=kept.size_bytes, obstacles=kept.obstacles)

    def verify(self, model: ModelRef, *, progress: Progress) -> IntegrityResult:
        """Read all of a model again and compare digests; the header is checked again too."""
        try:
            with progress.phase(f"verify {model.name}"):
                for path, digest in content_of(self.root, model):
                    found = digest_file(path, on_read=lambda done: progress.detail(f"{render_size(done)} read"))
                    if found != digest:
                        return IntegrityResult(model=model, problem=f"{path}: content has digest {found}, expected {digest}")
                self.read_header(model)
        except (OSError, BedplateError) as error:
            return IntegrityResult(model=model, problem=str(error))
        return IntegrityResult(model=model, problem="")

    def _add_directory(
        self,
        source: ModelSource,
        name: str,
        progress: Progress,
        *,
        overwrite: bool,
        origin: Origin | None,
        taken: Mapping[str, str],
    ) -> ModelRef:
        size = sum(file.path.stat().st_size for file in source.files)
        with self._incoming_directory() as incoming:
            files: list[tuple[str, str]] = []
            with progress.phase(f"copy {len(source.files)} files, {render_size(size)}"):
                for number, file in enumerate(source.files):
                    if (digest := taken.get(file.name, "")) != "":
                        (incoming / f"{number}").hardlink_to(file.path)
                        with (incoming / f"{number}").open("rb") as linked:
                            _seal(linked)
                        files.append((file.name, digest))
                        continue
                    with (incoming / f"{number}").open("xb") as part:
                        files.append((file.name, _copy(file.path, part, progress, within=source.within)))
                        _check_digest(file, files[-1][1])
                        _seal(part)
            listing = "".join(f"{digest}  {file_name}\n" for file_name, digest in files).encode()
            with (incoming / "listing").open("xb") as manifest:
                manifest.write(listing)
                _seal(manifest)
            digest = hashlib.sha256(listing).hexdigest()
            with self._changing():
                tree = self.root / "trees" / digest
                self._announce(name, digest, [digest, *(file_digest for _, file_digest in files)], overwrite=overwrite)
                for number, (_, file_digest) in enumerate(files):
                    (incoming / f"{number}").rename(self.root / "sha256" / file_digest)
                link_tree(self.root, digest, files)
                (incoming / "listing").rename(self.root / "sha256" / digest)
                stored = read_stored(tree)  # the copy: a file may have been exchanged since its header was read
                if (stored.main, stored.projector, set(stored.adapters)) != (
                    source.main,
                    source.projector,
                    set(source.adapters),
                ):
                    raise ModelRefused(f"{name}: its files changed while they were copied", hint="Add it again.")
                model = make_ref(name, digest, stored.header, path=f"trees/{digest}", source=source)
                for directory in (self.root / "sha256", tree, self.root / "trees"):
                    sync_directory(directory)
                write_record(self.root, model, origin)
        return replace(model, path=str(self.root / model.path))

    def _check_name_free(self, name: str, *, overwrite: bool, source: ModelSource) -> None:
        """Before anything is copied: a name that stands for a model of another size can only end in a refusal."""
        if overwrite or not source.is_single:
            return
        for model in self._rows():
            if model.name == name and model.size_bytes != source.header.size_bytes:
                raise _taken(model)

    def _rows(self) -> tuple[ModelRef, ...]:
        try:
            return survey(self.root, self._adopt).models
        except OSError as error:
            raise ReadError(f"{error.filename}: cannot read: {error.strerror}", hint=STATE_HINT) from error

    def _announce(self, name: str, digest: str, digests: list[str], *, overwrite: bool) -> None:
        """Before the first file of a new model is named: what goes again unless its record is written, or once it is."""
        there = next((row for row in self._rows() if row.name == name), None)
        if there is not None and there.sha256 != digest:
            if not overwrite:
                raise _taken(there)
            digests = [*digests, *self._digests(there)]
        announce(self.root, digests)

    def _digests(self, model: ModelRef) -> list[str]:
        try:
            return [digest for _, digest in content_of(self.root, model)]
        except OSError:  # its list of files was removed by hand
            return [model.sha256]

    def _adopt(self, path: str, digest: str) -> ModelRef | None:
        """The model of content that has no record, named by its header."""
        try:
            source = read_stored(self.root / path)
        except (BedplateError, OSError):
            return None
        header = source.header
        with contextlib.suppress(UsageError):
            return make_ref(make_name(Path(header.title or "-")), digest, header, path=path, source=source)
        return make_ref(f"{header.architecture or 'model'}-{digest[:12]}", digest, header, path=path, source=source)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Hold the lock for a change; before and after it the store is brought into order, also when the change fails."""
        with self._locked():
            self._settle()
            try:
                yield
            finally:
                self._settle()

    def _settle(self, going: Sequence[str] = ()) -> KeptContent:
        kept = settle(self.root, self._adopt, going=going)
        for path in (self.root / "sha256").glob(f".*{_PART}"):
            _remove_if_abandoned(path)
        return kept

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            (self.root / "sha256").mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise PreflightError(f"{self.root}: cannot write: {error.strerror}", hint=STATE_HINT) from error
        try:
            wait_lock(descriptor)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _private(self) -> Iterator[Incoming]:
        path = self.root / "sha256" / f".{secrets.token_hex(8)}{_PART}"
        with path.open("xb") as file:
            wait_lock(file.fileno())  # held until it is closed, however this process ends
            try:
                yield Incoming(path=path, file=file)
            finally:
                path.unlink(missing_ok=True)


def check_space(root: Path, needed_bytes: int) -> None:
    """Raise PreflightError, with the arithmetic, when the disk of the store cannot take so many bytes more."""
    there = next(path for path in (root, *root.parents) if path.exists())
    disk = os.statvfs(there)
    free = disk.f_bavail * disk.f_frsize
    if needed_bytes + RESERVE_BYTES > free:
        raise PreflightError(
            f"{root}: {render_size(free)} free, needed: {render_size(needed_bytes)} for the model and "
            f"{render_size(RESERVE_BYTES)} that stay free; {render_size(needed_bytes + RESERVE_BYTES - free)} too little",
            hint="Remove a model (bedplate model rm), or move the store with BEDPLATE_STATE_DIR.",
        )


def make_name(source: Path) -> str:
    """A model's name from its file's: "Qwen 0.5B.Q4_0.gguf" -> "Qwen-0.5B.Q4_0"; one of Ollama stays as it is."""
    stem = str(source) if not source.is_absolute() else source.name
    for ending in (".gguf", ".safetensors"):
        stem = stem.removesuffix(ending)
    return check_name(re.sub(r"[^A-Za-z0-9._:/-]+", "-", stem).lstrip("._-/:")[:100].rstrip("/:"))


def check_name(name: str) -> str:
    """The name, if a model can be called so; it becomes part of units, paths and requests. Raises UsageError."""
    if not is_model_name(name):
        raise UsageError(
            f"{name!r}: not a valid model name: expected letters, digits and . _ - : @ +, at most 100, in parts between /",
            hint="Choose another --name, such as Qwen/Qwen3-8B or qwen3:8b.",
        )
    return name


def _taken(model: ModelRef) -> ModelRefused:
    return ModelRefused(
        f"{model.name}: this name already belongs to another model ({model.sha256[:12]}, {render_size(model.size_bytes)})",
        hint="Choose another --name, or take the name over with --replace.",
    )


def _check_digest(file: SourceFile, digest: str) -> None:
    """Raise ModelRefused for content that is not what its source says."""
    if file.sha256 and file.sha256 != digest:
        raise ModelRefused(
            f"{file.path}: its content has the digest {digest}, but its name is another digest", hint="Download it again."
        )


def _copy(source: Path, target: BinaryIO, progress: Progress, *, within: tuple[Path, ...] = ()) -> str:
    """Copy all bytes in one pass; gives their SHA-256.

    Raises ModelRefused when the source changes, PreflightError when the disk is full.
    """
    digest = hashlib.sha256()
    done = 0
    try:
        with open_regular(source, within=within) as file:
            size = os.fstat(file.fileno()).st_size
            pace = Pace(total_bytes=size)
            pace.record(time.monotonic(), 0)
            while chunk := file.read(CHUNK_BYTES):
                target.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                pace.record(time.monotonic(), done)
                progress.detail(pace.describe())
    except OSError as error:
        if is_full(error):
            raise PreflightError(
                f"{source}: copy stopped after {render_size(done)}: {error.strerror}", hint=STATE_HINT
            ) from error
        raise ModelRefused(f"{source}: copy stopped after {render_size(done)}: {error.strerror}") from error
    if done != size:
        raise ModelRefused(f"{source}: read {done} bytes, expected {size}: the file changed while it was copied")
    return digest.hexdigest()


def _seal(file: BinaryIO) -> None:
    """Read-only from now on, and on the disk."""
    file.flush()
    os.fchmod(file.fileno(), 0o444)
    os.fsync(file.fileno())


def _remove_if_abandoned(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError), ExitStack() as stack:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, descriptor)
        if not try_lock(descriptor):
            return  # another process is writing it
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
