"""What a person gives to be added: a file, a part of a split model, a directory, a snapshot of a hub, a model of Ollama.

All of it is input from strangers. Links are followed into the directory itself and into the blobs of its own cache alone:
the copies in the store can be read by everybody, and the engine reads them, so a link to a file of the machine (LICENSE ->
/etc/shadow, unpacked from a stranger's archive) would give it away.
"""

from __future__ import annotations

import re
import shlex
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bedplate.errors import ModelRefused, ReadError, UsageError
from bedplate.host.root.regular import open_regular
from bedplate.model.launch import Format, ModelRef
from bedplate.model.modelfile import FileRole, Header
from bedplate.weights import ollama
from bedplate.weights.gguf import read_gguf, read_gguf_file
from bedplate.weights.gguf_set import NO_FILE, GgufSet, find_gguf_set, list_adapters, siblings_of
from bedplate.weights.index import is_file_name
from bedplate.weights.safetensors import counted_shards, read_safetensors, read_safetensors_directory

MAX_FILES = 4096  # of a directory
# What an engine reads from a directory; code (.py) and pickles (.bin, .pt) can run anything and stay out.
_WANTED = re.compile(r".+\.(safetensors|json|jinja|txt|model|md)|LICENSE.*|NOTICE.*", re.IGNORECASE)
_KINDER = (
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself", "Fetch the file: git lfs pull."),
    (b"<", "a page in HTML or XML, such as a download gives that was refused", "Fetch the file again, with access to it."),
    (b"PK\x03\x04", "a pickle file, which can run any code when loaded", "Get it as GGUF or safetensors."),
    (b"\x80\x02", "a pickle file, which can run any code when loaded", "Get it as GGUF or safetensors."),
    (b"\x80\x04", "a pickle file, which can run any code when loaded", "Get it as GGUF or safetensors."),
    (b"lmgg", "a model in ggml's format of before GGUF", "Get it as GGUF or safetensors."),
    (b"tjgg", "a model in ggml's format of before GGUF", "Get it as GGUF or safetensors."),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One file to be copied."""

    path: Path
    name: str
    """In the store's directory of the model."""
    sha256: str = ""
    """What its content must have, where the source says so; "" where it does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """A model as it lies somewhere: which files it is made of, and which of them an engine is given."""

    name: str
    """What it would be called; not checked."""
    header: Header
    files: tuple[SourceFile, ...]
    main: str = ""
    """As of ModelRef; "" for a single file and for a directory of safetensors."""
    projector: str = ""
    adapters: tuple[str, ...] = ()
    left_out: tuple[Path, ...] = ()
    links: tuple[tuple[Path, str], ...] = ()
    """(link among the files, its target as it is written)."""
    within: tuple[Path, ...] = ()
    """Real directories that the files lie in; () where a single file was named, which may be a link to anywhere."""

    @property
    def is_single(self) -> bool:
        """Whether one file is all of it: then it is content by itself, and no directory."""
        return len(self.files) == 1 and not self.main


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDirectory:
    """What `list_directory` found: the files that go into the store and those that do not, sorted by name."""

    wanted: tuple[Path, ...]
    left_out: tuple[Path, ...]
    links: tuple[tuple[Path, str], ...]
    """(link among the wanted, its target as it is written)."""
    within: tuple[Path, ...]
    """Real directories that the files lie in."""


def find_source(path: Path, *, choice: str = "", projector: str = "", adapters: Sequence[Path] = ()) -> ModelSource:
    """The model at a path. choice, projector: as of find_gguf_set; choice also names a model of an Ollama store.

    Raises ModelRefused, ReadError, and UsageError for a choice that is none.
    """
    try:
        path = path.absolute()
        return _find(path, choice=choice, projector=projector, adapters=[adapter.absolute() for adapter in adapters])
    except OSError as error:
        raise ReadError(f"{str(path)[:200]}: cannot read: {error.strerror}") from error


def _find(path: Path, *, choice: str, projector: str, adapters: Sequence[Path]) -> ModelSource:
    store = ollama.find_store(path)
    if store is not None:
        return _ollama_source(path, store, choice=choice, projector=projector, adapters=adapters)
    if path.is_dir():
        gguf = _list_gguf(path)
        is_other = (path / "config.json").exists() and any(path.glob("*.safetensors"))
        if gguf and (choice or projector or adapters or not is_other or _has_model(gguf)):
            return _gguf_source(path, gguf, choice=choice, projector=projector, adapters=adapters)
        if choice or projector or adapters:
            raise UsageError(f"{path}: has no GGUF files; --file, --mmproj and --lora choose among them")
        return _safetensors_source(path)
    if _read_format(path) is Format.SAFETENSORS:
        if choice or projector or adapters:
            raise UsageError(f"{path}: is no GGUF file; --file, --mmproj and --lora are for those")
        return ModelSource(name=path.name, header=read_safetensors(path), files=(SourceFile(path=path, name=path.name),))
    parts = siblings_of(path)
    if len(parts) == 1 and not projector and not adapters:
        return ModelSource(name=path.name, header=read_gguf(path), files=(SourceFile(path=path, name=path.name),))
    beside = [Path(projector).absolute()] if projector not in ("", NO_FILE) else []
    for file in beside:
        _check_projector(file)
    wanted = str(beside[0]) if beside else projector
    found = find_gguf_set((*parts, *beside), str(path), choice=path.name, projector=wanted, adapters=adapters)
    return _of_set(path.name, found)


def _check_projector(path: Path) -> None:
    """Raise ModelRefused or ReadError, saying what it is, for a file that was named and is no projector."""
    if (role := read_gguf_file(path).role) is not FileRole.PROJECTOR:
        raise ModelRefused(f"{path}: is a {role}, and no projector (mmproj)", hint="Give the projector with --mmproj.")


def read_stored(path: Path) -> ModelSource:
    """The model of the store's content at a path, a file or a directory, in which every adapter is meant to be applied.

    Raises as find_source does.
    """
    return find_source(path, adapters=list_adapters(_list_gguf(path)) if path.is_dir() else ())


def make_ref(name: str, digest: str, header: Header, *, path: str, source: ModelSource | None = None) -> ModelRef:
    """The model of a header, as the store records it; digest and path are "" before it is there."""
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
        task=header.task,
        main=source.main if source is not None else "",
        projector=source.projector if source is not None else "",
        adapters=source.adapters if source is not None else (),
    )


def list_directory(source: Path, *, shards: frozenset[str] | None = None) -> ModelDirectory:
    """Files of a directory of safetensors; shards: those that count, None for all.

    Raises ModelRefused, naming the link, for one that leads out of the directory and of its own cache.
    """
    within = real_directories(source)
    wanted: list[Path] = []
    left_out: list[Path] = []
    links: list[tuple[Path, str]] = []
    try:
        for path in sorted(source.iterdir()):
            name = path.name
            counts = shards is None or not name.endswith(".safetensors") or name in shards
            if not (counts and path.is_file() and _WANTED.fullmatch(name) and name.isprintable() and name[0] != "."):
                left_out.append(path)
                continue
            open_regular(path, within=within).close()
            wanted.append(path)
            if path.is_symlink():
                links.append((path, str(path.readlink())))
    except OSError as error:
        raise ReadError(f"{source}: cannot read: {error.strerror}") from error
    if len(wanted) > MAX_FILES:
        raise ModelRefused(f"{source}: {len(wanted)} files, at most {MAX_FILES} are allowed")
    return ModelDirectory(wanted=tuple(wanted), left_out=tuple(left_out), links=tuple(links), within=within)


def real_directories(source: Path) -> tuple[Path, ...]:
    """Where the files of a directory may lie: in it, and of a snapshot of Hugging Face in the blobs of its cache.

    Raises ModelRefused for blobs that are a link out of the cache.
    """
    real = source.resolve()
    within = [real]
    if real.parent.name == "snapshots" and (real.parents[1] / "blobs").is_dir():  # models--ORG--NAME/
        within.append((real.parents[1] / "blobs").resolve())
        if within[1].parent != real.parents[1]:
            raise ModelRefused(f"{real.parents[1] / 'blobs'}: is a link out of the cache, to {within[1]}")
    return tuple(within)


def _read_format(path: Path) -> Format:
    """Of one file, by its first bytes. Raises ReadError, and ModelRefused that says what it is instead."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ModelRefused(f"{path}: not a regular file")
        with path.open("rb") as file:
            begin = file.read(24)
    except OSError as error:
        raise ReadError(f"{path}: cannot read: {error.strerror}") from error
    if begin.startswith(b"GGUF"):
        return Format.GGUF
    if begin[8:9] == b"{":
        return Format.SAFETENSORS
    for mark, what, hint in _KINDER:
        if begin.startswith(mark):
            raise ModelRefused(f"{path}: {what}", hint=hint)
    if not begin:
        raise ModelRefused(f"{path}: an empty file", hint="Fetch the file again.")
    raise ModelRefused(
        f"{path}: begins with {begin[:8]!r}: neither GGUF nor safetensors", hint="Models are GGUF or safetensors files."
    )


def _list_gguf(directory: Path) -> list[Path]:
    try:
        found = [path for path in sorted(directory.iterdir()) if path.name.lower().endswith(".gguf") and path.is_file()]
    except OSError as error:
        raise ReadError(f"{directory}: cannot read: {error.strerror}") from error
    if len(found) > MAX_FILES:
        raise ModelRefused(f"{directory}: {len(found)} GGUF files, at most {MAX_FILES} are allowed")
    return [path for path in found if not path.name.startswith(".") and path.name.isprintable()]


def _has_model(files: Sequence[Path]) -> bool:
    """Whether there is a GGUF model beside config.json, and not only an importance matrix."""
    try:
        find_gguf_set(files, "")
    except UsageError:
        return False
    except ModelRefused as error:
        return error.hint is not None and "--file" in error.hint
    return True


def _gguf_source(path: Path, files: Sequence[Path], *, choice: str, projector: str, adapters: Sequence[Path]) -> ModelSource:
    within = real_directories(path)
    elsewhere = "/" in projector and Path(projector).absolute() not in files
    if elsewhere:
        projector = str(Path(projector).absolute())
        _check_projector(Path(projector))
        within = (*within, Path(projector).resolve().parent)
        files = [*files, Path(projector)]
    elif "/" in projector:
        projector = Path(projector).name
    found = find_gguf_set(files, str(path), within=within, choice=choice, projector=projector, adapters=adapters)
    source = _of_set(found.parts[0].name, found)
    left_out = tuple(sorted(set(path.iterdir()) - set(found.files)))
    links = tuple((file, str(file.readlink())) for file in found.files if file.is_symlink())
    return ModelSource(
        name=source.name,
        header=source.header,
        files=source.files,
        main=source.main,
        projector=source.projector,
        adapters=source.adapters,
        left_out=left_out,
        links=links,
        within=(*within, *(adapter.resolve().parent for adapter in found.adapters)),
    )


def _of_set(
    name: str, found: GgufSet, *, names: Sequence[str] = (), digests: Sequence[str] = (), within: tuple[Path, ...] = ()
) -> ModelSource:
    """names: in the store, where they are not the files' own; digests: what each must have, where that is known.

    Raises ModelRefused where two files have one name, and for a name that a record cannot hold.
    """
    stored = list(names) or [path.name for path in found.files]
    if len(set(stored)) != len(stored):
        raise ModelRefused(f"{', '.join(stored)}: two files of one name", hint="Give one of them another name.")
    for own in stored if len(stored) > 1 else ():
        if not is_file_name(own):
            raise ModelRefused(
                f"{own!r}: is not a name that the store can keep: expected at most 200 printable characters, no leading dot",
                hint="Give the file another name.",
            )
    single = len(found.files) == 1
    after = len(found.parts) + (found.projector is not None)
    return ModelSource(
        name=re.sub(r"-\d{5}-of-\d{5}(?=\.gguf$)", "", name),
        header=found.header,
        files=tuple(
            SourceFile(path=path, name=own, sha256=digest)
            for path, own, digest in zip(found.files, stored, digests or [""] * len(stored), strict=True)
        ),
        within=within,
        main="" if single else stored[0],
        projector=stored[len(found.parts)] if found.projector is not None else "",
        adapters=tuple(stored[after:]),
    )


def _safetensors_source(path: Path) -> ModelSource:
    list_directory(path)  # no link is followed before it is known where it leads
    header = read_safetensors_directory(path)
    found = list_directory(path, shards=counted_shards(path))
    return ModelSource(
        name=_name_of(path),
        header=header,
        files=tuple(SourceFile(path=file, name=file.name) for file in found.wanted),
        left_out=found.left_out,
        links=found.links,
        within=found.within,
    )


def _name_of(path: Path) -> str:
    """A directory's name; of a snapshot, which is called by a hash, that of its repository: "ORG/NAME"."""
    repository = path.parents[1].name if path.parent.name == "snapshots" else ""
    return repository.removeprefix("models--").replace("--", "/") if repository.startswith("models--") else path.name


def _ollama_source(path: Path, store: Path, *, choice: str, projector: str, adapters: Sequence[Path]) -> ModelSource:
    manifest = path
    if path == store:
        there = ollama.list_manifests(store)
        name = choice if choice in there else f"{choice}:latest"
        if name not in there:
            shown = ", ".join(there) or "none"
            raise UsageError(
                f"{path}: is a store of Ollama; its models are: {shown}",
                hint=f"Choose one: bedplate model add {shlex.quote(str(path))} --file=NAME:TAG",
            )
        manifest = there[name]
    elif choice:
        raise UsageError(f"--file {choice}: {path} is the manifest of one model")
    if projector not in ("", NO_FILE):
        raise UsageError(f"--mmproj {projector}: a model of Ollama has its own; --mmproj {NO_FILE} leaves it out")
    model = ollama.read_manifest(manifest, store)
    seeing = () if projector == NO_FILE else model.projectors
    for file in seeing:
        _check_projector(file)
    within = (model.blobs.resolve(), *(adapter.resolve().parent for adapter in adapters))
    beside = [*model.adapters, *adapters]
    found = find_gguf_set((model.model, *seeing), str(manifest), within=within, adapters=beside)
    names = ["model.gguf", *(["projector.gguf"] if found.projector is not None else [])]
    names += [f"adapter-{number}.gguf" for number in range(1, len(found.adapters) + 1)]
    digests = [file.name.removeprefix("sha256-") if file.parent == model.blobs else "" for file in found.files]
    return _of_set(model.name, found, names=names, digests=digests, within=within)
