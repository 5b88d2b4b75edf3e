"""The model store: files under the SHA-256 of their content, and one index that gives them names.

    index.json          {"schema": 1, "models": [...]}: rows of ModelRef, path relative to the store; what `serve` reads too
    sha256/<digest>     content, read-only; for a safetensors directory also its list of files, whose digest is the model's
    trees/<digest>/     such a directory as an engine wants it: hard links under the files' own names
    .lock               held while the index or the names of files change, never while bytes are copied

A model is in the index or it is not: content is copied to a private file, checked, synced and renamed before its row is
written. What a killed process left behind (private files without a holder, content without a row) goes at the next change.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, BinaryIO

from bedplate.errors import BedplateError, ModelRefused, ReadError, UsageError
from bedplate.host.gguf import read_gguf
from bedplate.host.safetensors import read_safetensors, read_safetensors_directory
from bedplate.model.launch import Format, ModelRef
from bedplate.model.modelfile import Header
from bedplate.model.progress import Progress
from bedplate.model.units import MIB, render_size

SCHEMA = 1
CHUNK_BYTES = 4 * MIB
RESERVE_BYTES = 64 * MIB  # stays free on the disk of the store
MAX_FILES = 1024  # of a safetensors directory
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_DIGEST_PREFIX = re.compile(r"[0-9a-f]{6,64}")
_PART = ".part"
# What an engine reads from a directory; code (.py) and pickles (.bin, .pt) can run anything and stay out.
_WANTED = re.compile(r".+\.(safetensors|json|jinja|txt|model|md)|LICENSE.*|NOTICE.*", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What `verify` found; problem is empty when the content is what it was when it was added."""

    model: ModelRef
    problem: str


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
        """All models by name, with absolute paths. Raises ReadError when the index is not readable."""
        return tuple(replace(model, path=str(self.root / model.path)) for model in self._read_index())

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
                f"{key}: begins the digests of {', '.join(model.name for model in found)}", hint="Give the name."
            )
        names = ", ".join(model.name for model in models) or "none"
        raise UsageError(f"{key}: no model of that name or digest; there are: {names}", hint="See bedplate model list.")

    def read_header(self, model: ModelRef) -> Header:
        """The header of a model of this store, read and checked again."""
        return read_header(Path(model.path), form=model.format)

    def add(self, source: Path, *, progress: Progress, name: str | None = None, overwrite: bool = False) -> ModelRef:
        """Copy a GGUF file, a safetensors file or a safetensors directory into the store and name it.

        The name is that of the file without its ending unless one is given. The same content under the same name is no
        error. Raises ModelRefused for a bad file, a full disk, or a name that stands for something else (overwrite=True
        takes it over); ReadError when the source cannot be read.
        """
        name = make_name(source) if name is None else check_name(name)
        with progress.phase(f"read the header of {source.name}"):
            header = read_header(source)
            self._check_name_free(name, overwrite=overwrite, source=source)
        if source.is_dir():
            return self._add_directory(source, name, progress, overwrite=overwrite)
        check_space(self.root, header.size_bytes)
        with self.incoming() as part:
            with progress.phase(f"copy {render_size(header.size_bytes)}"):
                digest = _copy(source, part.file, progress)
            return self.commit(part, name, digest=digest, overwrite=overwrite)

    @contextlib.contextmanager
    def incoming(self) -> Iterator[Incoming]:
        """A private file to write a model into, for `commit`; it is gone after the block if it was not committed."""
        with ExitStack() as stack:
            with self._changing():
                part = stack.enter_context(self._private())
            yield part

    def commit(self, part: Incoming, name: str, *, digest: str | None = None, overwrite: bool = False) -> ModelRef:
        """Check the private file, make it content of the store and write its row. digest is known to whoever copied it."""
        _seal(part.file)
        header = read_header(part.path)
        if digest is None:
            digest = _hash(part.path)
        model = _make_ref(check_name(name), digest, header, path=f"sha256/{digest}")
        with self._changing():
            rows = self._rows_with(model, overwrite=overwrite)
            part.path.rename(self.root / model.path)
            _sync_directory(self.root / "sha256")
            self._write_index(rows)
        return replace(model, path=str(self.root / model.path))

    def remove(self, key: str) -> ModelRef:
        """Take a model out of the index, and its content off the disk when no other name stands for it."""
        with self._changing():
            gone = self.find(key)
            self._write_index([model for model in self._read_index() if model.name != gone.name])
        return gone

    def verify(self, model: ModelRef, *, progress: Progress) -> Verdict:
        """Read all of a model again and compare digests; the header is checked again too."""
        try:
            with progress.phase(f"verify {model.name}"):
                for path, digest in self._content(model):
                    found = _hash(path, progress)
                    if found != digest:
                        return Verdict(model=model, problem=f"{path}: content has digest {found}, expected {digest}")
                self.read_header(model)
        except (OSError, BedplateError) as error:
            return Verdict(model=model, problem=str(error))
        return Verdict(model=model, problem="")

    def _add_directory(self, source: Path, name: str, progress: Progress, *, overwrite: bool) -> ModelRef:
        wanted, left_out = _list_directory(source)
        for path in left_out:
            progress.note(f"left out: {path.name}")
        size = sum(path.stat().st_size for path in wanted)
        check_space(self.root, size)
        with ExitStack() as stack:
            parts: list[tuple[str, str, Incoming]] = []
            with progress.phase(f"copy {len(wanted)} files, {render_size(size)}"):
                for path in wanted:
                    part = stack.enter_context(self.incoming())
                    parts.append((path.name, _copy(path, part.file, progress), part))
                    _seal(part.file)
            listing = "".join(f"{digest}  {file_name}\n" for file_name, digest, _ in parts).encode()
            manifest = stack.enter_context(self.incoming())
            manifest.file.write(listing)
            _seal(manifest.file)
            digest = hashlib.sha256(listing).hexdigest()
            with self._changing():
                tree = self.root / "trees" / digest
                shutil.rmtree(tree, ignore_errors=True)  # of an add that was killed before its row was written
                tree.mkdir(parents=True)
                for file_name, file_digest, part in parts:
                    part.path.rename(self.root / "sha256" / file_digest)
                    (tree / file_name).hardlink_to(self.root / "sha256" / file_digest)
                manifest.path.rename(self.root / "sha256" / digest)
                header = read_header(tree)  # of the copy: the source may have changed meanwhile
                model = _make_ref(name, digest, header, path=f"trees/{digest}")
                rows = self._rows_with(model, overwrite=overwrite)
                for directory in (self.root / "sha256", tree, self.root / "trees"):
                    _sync_directory(directory)
                self._write_index(rows)
        return replace(model, path=str(self.root / model.path))

    def _check_name_free(self, name: str, *, overwrite: bool, source: Path) -> None:
        """Before anything is copied: a name that stands for a model of another size can only end in a refusal."""
        if overwrite or source.is_dir():
            return
        for model in self._read_index():
            if model.name == name and model.size_bytes != source.stat().st_size:
                raise _taken(model)

    def _rows_with(self, model: ModelRef, *, overwrite: bool) -> list[ModelRef]:
        rows = {row.name: row for row in self._read_index()}
        there = rows.get(model.name)
        if there is not None and there.sha256 != model.sha256 and not overwrite:
            raise _taken(there)
        rows[model.name] = model
        return [rows[name] for name in sorted(rows)]

    def _read_index(self) -> list[ModelRef]:
        path = self.root / "index.json"
        try:
            table = json.loads(path.read_bytes())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ReadError(f"{path}: cannot read: {error.strerror}") from error
        except ValueError as error:
            raise ReadError(f"{path}: is no index of models: {error}") from error
        if not isinstance(table, dict) or table.get("schema") != SCHEMA or not isinstance(table.get("models"), list):
            raise ReadError(
                f"{path}: is no index of models of schema {SCHEMA}", hint="A newer bedplate may have written it."
            )
        return [_parse_row(row, path) for row in table["models"]]

    def _write_index(self, models: list[ModelRef]) -> None:
        """All or nothing: written beside, synced, renamed. Only with the lock held."""
        text = json.dumps({"schema": SCHEMA, "models": [asdict(model) for model in models]}, indent=1) + "\n"
        beside = self.root / "index.json.new"
        with beside.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.rename(self.root / "index.json")
        _sync_directory(self.root)

    def _content(self, model: ModelRef) -> list[tuple[Path, str]]:
        """Paths of a model's content and the digests that they must have."""
        if model.path.rpartition("/")[0].endswith("trees"):
            manifest = self.root / "sha256" / model.sha256
            tree = self.root / "trees" / model.sha256
            lines = manifest.read_text().splitlines()
            return [(manifest, model.sha256), *((tree / line[66:], line[:64]) for line in lines)]
        return [(self.root / "sha256" / model.sha256, model.sha256)]

    def _sweep(self) -> None:
        """Remove what no row stands for. Only with the lock held: outside of it, all content has its row."""
        kept: set[str] = set()
        for model in self._read_index():
            with contextlib.suppress(OSError):  # its content was removed by hand; verify says so
                kept |= {digest for _, digest in self._content(model)}
            kept.add(model.sha256)
        for path in (self.root / "sha256").iterdir():
            if path.name.endswith(_PART):
                _remove_if_abandoned(path)
            elif path.name not in kept:
                path.unlink()
        for tree in (self.root / "trees").iterdir() if (self.root / "trees").is_dir() else ():
            if tree.name not in kept:
                shutil.rmtree(tree)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Hold the lock for a change, and leave nothing behind that has no row, whether the change succeeds or fails."""
        with self._locked():
            try:
                yield
            finally:
                self._sweep()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            (self.root / "sha256").mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise BedplateError(f"{self.root}: cannot write: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _private(self) -> Iterator[Incoming]:
        path = self.root / "sha256" / f".{secrets.token_hex(8)}{_PART}"
        with path.open("xb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # held until it is closed, however this process ends
            try:
                yield Incoming(path=path, file=file)
            finally:
                path.unlink(missing_ok=True)


def read_header(path: Path, *, form: Format | None = None) -> Header:
    """The header of a model file or directory, by its first bytes and not by its name. Raises ModelRefused, ReadError."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return read_safetensors_directory(path)
        if not stat.S_ISREG(mode):
            raise ModelRefused(f"{path}: not a regular file")
        with path.open("rb") as file:
            begin = file.read(9)
    except OSError as error:
        raise ReadError(f"{path}: cannot read: {error.strerror}") from error
    if begin.startswith(b"GGUF") or form is Format.GGUF:
        return read_gguf(path)
    if begin[8:9] == b"{" or form is Format.SAFETENSORS:
        return read_safetensors(path)
    if begin.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x04")):
        raise ModelRefused(
            f"{path}: a pickle file, which can run any code when loaded", hint="Get it as GGUF or safetensors."
        )
    raise ModelRefused(
        f"{path}: begins with {begin[:8]!r}: neither GGUF nor safetensors", hint="Models are GGUF or safetensors files."
    )


def check_space(root: Path, needed_bytes: int) -> None:
    """Raise ModelRefused, with the arithmetic, when the disk of the store cannot take so many bytes more."""
    there = next(path for path in (root, *root.parents) if path.exists())
    disk = os.statvfs(there)
    free = disk.f_bavail * disk.f_frsize
    if needed_bytes + RESERVE_BYTES > free:
        raise ModelRefused(
            f"{root}: {render_size(free)} free, needed: {render_size(needed_bytes)} for the model and "
            f"{render_size(RESERVE_BYTES)} that stay free; {render_size(needed_bytes + RESERVE_BYTES - free)} too little",
            hint="Remove a model (bedplate model rm), or move the store with BEDPLATE_STATE_DIR.",
        )


def make_name(source: Path) -> str:
    """A model's name from its file's: "Qwen 0.5B.Q4_0.gguf" -> "Qwen-0.5B.Q4_0"."""
    stem = source.absolute().name
    for ending in (".gguf", ".safetensors"):
        stem = stem.removesuffix(ending)
    return check_name(re.sub(r"[^A-Za-z0-9._-]+", "-", stem).lstrip("._-")[:100])


def check_name(name: str) -> str:
    """The name, if a model can be called so; it becomes part of units, paths and requests. Raises UsageError."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r}: not a name for a model: a letter or digit, then at most 99 more of them or '.', '_' and '-'",
            hint="Give one with --name.",
        )
    return name


def _taken(model: ModelRef) -> ModelRefused:
    return ModelRefused(
        f"{model.name}: already stands for another model ({model.sha256[:12]}, {render_size(model.size_bytes)})",
        hint="Give another --name, or --replace it.",
    )


def _make_ref(name: str, digest: str, header: Header, *, path: str) -> ModelRef:
    return ModelRef(
        name=name,
        sha256=digest,
        path=path,
        format=header.format,
        size_bytes=header.size_bytes,
        architecture=header.architecture,
        parameters=header.parameters,
        quantisation=header.quantisation,
        context_length=header.context_length,
        kv_bytes_per_token=header.kv_bytes_per_token,
    )


def _parse_row(row: Any, path: Path) -> ModelRef:
    types = {field.name: int if field.type == "int" else str for field in fields(ModelRef)}
    if not isinstance(row, dict) or {key: type(value) for key, value in row.items()} != types:
        raise ReadError(f"{path}: a row is not a model: {str(row)[:80]}", hint="Remove the row, and add the model again.")
    if not _NAME.fullmatch(row["name"]) or not re.fullmatch(r"[0-9a-f]{64}", row["sha256"]):
        raise ReadError(f"{path}: {row['name']!r}: bad name or digest")
    if row["path"] not in (f"sha256/{row['sha256']}", f"trees/{row['sha256']}") or row["format"] not in list(Format):
        raise ReadError(f"{path}: {row['name']}: bad path or format")
    return ModelRef(**{**row, "format": Format(row["format"])})


def _list_directory(source: Path) -> tuple[list[Path], list[Path]]:
    """Files to take, sorted by name, and those to leave out. Links are followed: caches keep their files behind them."""
    wanted: list[Path] = []
    left_out: list[Path] = []
    for path in sorted(source.iterdir()):
        take = path.is_file() and _WANTED.fullmatch(path.name) and path.name.isprintable() and not path.name.startswith(".")
        (wanted if take else left_out).append(path)
    if len(wanted) > MAX_FILES:
        raise ModelRefused(f"{source}: {len(wanted)} files, at most {MAX_FILES} are allowed")
    return wanted, left_out


def _copy(source: Path, target: BinaryIO, progress: Progress) -> str:
    """Copy all bytes in one pass; gives their SHA-256. Raises ModelRefused when the source changes or the disk is full."""
    digest = hashlib.sha256()
    done, started = 0, time.monotonic()
    try:
        with source.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            while chunk := file.read(CHUNK_BYTES):
                target.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                rate = done / max(time.monotonic() - started, 1e-6)
                progress.detail(f"{render_size(done)} of {render_size(size)}, {render_size(int(rate))}/s")
    except OSError as error:
        raise ModelRefused(f"{source}: copy stopped after {render_size(done)}: {error.strerror}") from error
    if done != size:
        raise ModelRefused(f"{source}: {done} bytes were read, it had {size}: it changes while it is copied")
    return digest.hexdigest()


def _hash(path: Path, progress: Progress | None = None) -> str:
    digest = hashlib.sha256()
    done = 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            done += len(chunk)
            if progress is not None:
                progress.detail(f"{render_size(done)} read")
    return digest.hexdigest()


def _seal(file: BinaryIO) -> None:
    """Read-only from now on, and on the disk."""
    file.flush()
    os.fchmod(file.fileno(), 0o444)
    os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_if_abandoned(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # another process is writing it
        path.unlink()
