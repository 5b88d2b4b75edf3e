"""Pull a model from a hub, an address or a path into the store, by the same door as a model that is added.

What can be refused is refused early: by the hub's list, then by the headers of the files, which are their first megabytes.
Only then the rest is fetched. A pull that ends early leaves its partial files, and the same pull goes on from them.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bedplate.act.download.address import check_address, origin_of, show_address
from bedplate.act.download.fetch import Downloads, open_downloads
from bedplate.act.layer_record import read_layer_record
from bedplate.act.paths import find_paths
from bedplate.engines import ENGINES
from bedplate.errors import BedplateError, BusyError, ModelRefused, UsageError
from bedplate.flows.model import AddRequest, add, check_storable, open_store
from bedplate.host.root.root import Root
from bedplate.host.system.booted import is_bedplate_system
from bedplate.model.download import Access, Digest, DigestKind, Patience, RemoteFile
from bedplate.model.launch import Format, ModelRef
from bedplate.model.origin import Origin
from bedplate.model.progress import Progress
from bedplate.model.pulling import AddressSource, HubSource, PathSource
from bedplate.model.units import render_size
from bedplate.model.wording import plural
from bedplate.weights.gguf_set import PART_NAME
from bedplate.weights.index import DIGEST, is_file_name
from bedplate.weights.pull.beginnings import need_beginning, write_sparse
from bedplate.weights.pull.choose import Choice, choose_files
from bedplate.weights.pull.hub import read_repository, remote_file
from bedplate.weights.pull.spec import parse_pull_source
from bedplate.weights.pull.token import HubSettings, read_hub_settings
from bedplate.weights.pull.tree import Unfinished, discard_unfinished, private_tree
from bedplate.weights.safetensors import read_config
from bedplate.weights.source import find_source
from bedplate.weights.store import Store, check_space

MOST_CONNECTIONS = 16
_INDEX = "model.safetensors.index.json"
_MOST_PARTS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class PullRequest:
    """What to pull, and how to call it."""

    source: str
    """hf:ORG/NAME[@REVISION], https://HOST/FILE, file:///PATH or a path."""
    pattern: str = ""
    """Of several models: a file, a part of its name ("Q4_K_M"), or a pattern ("*Q4_K_M*")."""
    projector: str = ""
    """File that makes images into what the model reads; "none": without the one that is there."""
    name: str | None = None
    overwrite: bool = False
    sha256: str = ""
    """What the file at an address must have."""
    token_file: Path | None = None
    plain_http: bool = False
    """Take http from other hosts than this one."""
    connections: int = 4
    any_format: bool = False
    """Pull a model that no engine on this host reads, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """The files of one model, and what the record will say of them."""

    files: tuple[RemoteFile, ...]
    """Their names are the ones that they get."""
    origin: Origin
    is_directory: bool
    """Whether the model is what the directory of the files holds; else it is the first of them, and what belongs to it."""


def pull(
    request: PullRequest,
    progress: Progress,
    *,
    environment: Mapping[str, str] | None = None,
    patience: Patience | None = None,
) -> ModelRef:
    """The model, now in the store.

    Raises UsageError and ModelRefused as `add` does, DownloadError for what a server or the network did, PreflightError for
    a full disk, BusyError while another process pulls the same file.
    """
    environment = os.environ if environment is None else environment
    source = parse_pull_source(request.source)
    _check_request(request, source)
    if isinstance(source, PathSource):
        return _pull_path(request, source, progress)
    settings = read_hub_settings(environment, token_file=request.token_file)
    access = _make_access(request, source, settings)
    store = open_store()
    if isinstance(source, HubSource):
        with progress.phase(f"ask {settings.endpoint} for {source}"):
            wanted, choice = _list_hub(request, source, settings, access, progress, patience)
        _check_format(choice, request, source)
        tree_name = f"models--{source.repository.replace('/', '--')}/snapshots/{source.repository.rpartition('/')[2]}"
    else:
        wanted, tree_name = _list_address(request, source), "files"
    with (
        private_tree(store.root / "pulls", tree_name) as tree,
        open_downloads(store.root / "pulls", access, progress, patience=patience) as downloads,
    ):
        try:
            return _Pull(
                request=request, wanted=wanted, store=store, tree=tree, downloads=downloads, progress=progress
            ).run()
        except KeyboardInterrupt:
            there = sum(downloads.partial(file).size_bytes for file in wanted.files if downloads.is_open(file))
            progress.note(f"{render_size(there)} of it are kept; give the same command again to go on")
            raise


def discard() -> Unfinished:
    """Remove what earlier pulls have left; pulls that are running keep theirs."""
    return discard_unfinished(open_store().root / "pulls")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pull:
    """One pull, whose files are known."""

    request: PullRequest
    wanted: _Wanted
    store: Store
    tree: Path
    """An empty directory in the store's file system."""
    downloads: Downloads
    progress: Progress

    def run(self) -> ModelRef:
        """Check, fetch, check again, and give the files to the store."""
        there = self._link_known()
        missing = [file for file in self.wanted.files if file.name not in there]
        self._check_space(missing)
        small = [file for file in missing if self.wanted.is_directory and not file.name.endswith((".gguf", ".safetensors"))]
        taken = dict(there)
        for file in small:
            taken[file.name] = self._fetch(file)
        listed = self._find_listed()
        missing = [
            file
            for file in missing
            if file not in small and (listed is None or not file.name.endswith(".safetensors") or file.name in listed)
        ]
        with self.progress.phase("read the headers"):
            sizes = self._read_beginnings(missing)
            with self._explained():
                self.store.check_source(
                    find_source(self._door),
                    name=self.request.name,
                    overwrite=self.request.overwrite,
                    check=lambda model, types: check_storable(model, types, self.progress),
                )
        self._check_space(missing, sizes)
        for number, file in enumerate(missing, 1):
            with self.progress.phase(f"fetch {file.name}, {render_size(sizes[file.name])} ({number} of {len(missing)})"):
                taken[file.name] = self._fetch(file)
        with self._explained():
            model = self.store.add(
                self._door,
                progress=self.progress,
                name=self.request.name,
                overwrite=self.request.overwrite,
                check=lambda model, types: None,  # was done, with the same headers
                origin=self.wanted.origin,
                taken=taken,
            )
        for file in self.wanted.files:  # a pull that was killed may have left one of content that the store has
            with contextlib.suppress(BusyError):
                self.downloads.discard(file)
        return model

    @property
    def _door(self) -> Path:
        return self.tree if self.wanted.is_directory else self.tree / self.wanted.files[0].name

    def _link_known(self) -> dict[str, str]:
        """name -> digest of the files whose content the store has already, which are now in the tree."""
        there: dict[str, str] = {}
        for file in self.wanted.files:
            if file.digest is not None and file.digest.kind is DigestKind.SHA256:
                content = self.store.find_content(file.digest.value)
                if content is not None and file.size_bytes in (None, content.stat().st_size):
                    (self.tree / file.name).hardlink_to(content)
                    there[file.name] = file.digest.value
                    self.progress.note(f"{file.name}: the store has this content already")
        return there

    def _check_space(self, files: list[RemoteFile], sizes: Mapping[str, int] | None = None) -> None:
        known = {file.name: file.size_bytes or 0 for file in files} if sizes is None else sizes
        needed = sum(max(0, known[file.name] - self.downloads.partial(file).size_bytes) for file in files)
        check_space(self.store.root, needed)

    def _find_listed(self) -> frozenset[str] | None:
        """Names of the safetensors that count, where an index says so; None where all do."""
        if not (self.tree / _INDEX).exists():
            return None
        with self._explained():
            table = read_config(self.tree / _INDEX).get("weight_map")
        return frozenset(map(str, table.values())) if isinstance(table, dict) else None

    def _read_beginnings(self, files: list[RemoteFile]) -> dict[str, int]:
        """name -> bytes of the whole file; the headers of all files are in the tree then."""
        sizes: dict[str, int] = {}
        for file in files:
            sizes[file.name] = self.downloads.fetch_beginning(file, 1)
            partial = self.downloads.partial(file).path

            def extend(count: int, file: RemoteFile = file) -> None:
                self.progress.detail(f"{file.name}: {render_size(count)}")
                self.downloads.fetch_beginning(file, count)

            need_beginning(partial, sizes[file.name], extend)
            write_sparse(self.tree / file.name, self.downloads.partial(file).path, sizes[file.name])
        return sizes

    def _fetch(self, file: RemoteFile) -> str:
        """The SHA-256 of a file that is now in the tree, whole."""
        done = self.downloads.fetch(file)
        Path(done.path).chmod(0o644)  # as the store's content: read by everybody
        (self.tree / file.name).unlink(missing_ok=True)
        (self.tree / file.name).hardlink_to(done.path)
        if not done.stated:
            self.progress.note(f"{file.name}: its source says no digest; it has the SHA-256 {done.sha256}")
        return done.sha256

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Errors of readers name files of the tree, which nobody knows: they shall name the source."""
        try:
            yield
        except BedplateError as error:
            source = self.wanted.origin.source

            def explain(text: str) -> str:
                return text.replace(f"{self.tree}/", f"{source}: ").replace(str(self.tree), source)

            error.message = explain(error.message)
            error.args = (error.message,)
            error.hint = explain(error.hint) if error.hint is not None else None
            raise


def _check_request(request: PullRequest, source: HubSource | AddressSource | PathSource) -> None:
    """Raise UsageError for options that do not go together or are out of their range."""
    if not 1 <= request.connections <= MOST_CONNECTIONS:
        raise UsageError(f"--connections {request.connections}: expected 1 to {MOST_CONNECTIONS}")
    if request.sha256 and not DIGEST.fullmatch(request.sha256):
        raise UsageError(f"--sha256 {request.sha256[:80]!r}: expected 64 hex digits in small letters")
    if request.sha256 and not isinstance(source, AddressSource):
        raise UsageError("--sha256: is for a file at an address; a hub says the digests of its files itself")
    if isinstance(source, AddressSource) and (request.pattern or request.projector):
        raise UsageError("--file and --mmproj choose among the files of a hub or a directory; an address is one file")


def _make_access(request: PullRequest, source: HubSource | AddressSource, settings: HubSettings) -> Access:
    """The token is for the hub; one in a file that was named, for an address, is for the host of the address."""
    if isinstance(source, AddressSource):
        check_address(source.url, plain_http=request.plain_http)
    else:
        check_address(settings.endpoint, plain_http=request.plain_http)
    named = isinstance(source, AddressSource) and request.token_file is not None
    origin = origin_of(source.url if named and isinstance(source, AddressSource) else settings.endpoint)
    return Access(token=settings.token, token_origin=origin, plain_http=request.plain_http, connections=request.connections)


def _list_hub(
    request: PullRequest,
    source: HubSource,
    settings: HubSettings,
    access: Access,
    progress: Progress,
    patience: Patience | None,
) -> tuple[_Wanted, Choice]:
    repository = read_repository(source, settings.endpoint, access, patience=patience)
    for path in repository.left_out[:5]:
        progress.note(f"left out, since it is not a plain name: {path}")
    choice = choose_files(repository, pattern=request.pattern, projector=request.projector)
    weights = [file for file in choice.files if file.name.endswith((".gguf", ".safetensors"))]
    origin = Origin(
        source=f"hf:{source.repository}",
        endpoint=settings.endpoint,
        revision=repository.commit,
        stated=all(file.digest is not None for file in weights),
    )
    progress.note(
        f"{source}: commit {repository.commit}, {plural(len(choice.files), 'file')}, {render_size(choice.size_bytes)}"
    )
    files = tuple(remote_file(repository, file) for file in choice.files)
    return _Wanted(files=files, origin=origin, is_directory=True), choice


def _list_address(request: PullRequest, source: AddressSource) -> _Wanted:
    """The file at an address; of a split model all parts, whose addresses differ in the number alone."""
    parts = urlsplit(source.url)
    name = unquote(parts.path.rpartition("/")[2])
    if not name or not is_file_name(name):
        raise UsageError(
            f"{show_address(source.url)}: its last part is no name of a file", hint="Give the address of the file itself."
        )
    digest = Digest(kind=DigestKind.SHA256, value=request.sha256) if request.sha256 else None
    found, urls = PART_NAME.fullmatch(name), {name: source.url}
    if found is not None and 1 < int(found[3]) <= _MOST_PARTS:
        if digest is not None:
            raise UsageError(f"--sha256: {name} is one of {int(found[3])} parts, which have a digest each")
        numbered = [f"{found[1]}-{number:05d}-of-{found[3]}.gguf" for number in range(1, int(found[3]) + 1)]
        tail = re.compile(rf"{found[2]}(?=-of-{found[3]}\.gguf$)")
        urls = {other: parts._replace(path=tail.sub(other[-18:-13], parts.path)).geturl() for other in numbered}
    files = tuple(RemoteFile(url=url, name=other, digest=digest) for other, url in urls.items())
    origin = Origin(source=show_address(source.url), stated=digest is not None)
    return _Wanted(files=files, origin=origin, is_directory=False)


def _check_format(choice: Choice, request: PullRequest, source: HubSource) -> None:
    """Raise ModelRefused for a format that no engine reads, before gigabytes of it are fetched."""
    if request.any_format or choice.format in _read_formats():
        return
    raise ModelRefused(
        f"{source}: has its weights as {Format(choice.format)} alone ({render_size(choice.size_bytes)}), which no engine on"
        f" this host reads",
        hint="Look for the same model as GGUF; or store it for an engine that reads it: --any-format.",
    )


def _read_formats() -> set[Format]:
    """Formats that the engines of this host read: llama.cpp, whose layer every build makes, and those whose layer is here.

    A booted system has its layers on disks, where its own plan looks for them: all engines count there.
    """
    paths, booted = find_paths(), is_bedplate_system(Root())
    here = [
        engine
        for engine in ENGINES.values()
        if booted or engine.name == "llamacpp" or read_layer_record(paths, engine.name) is not None
    ]
    return {format for engine in here for format in engine.formats}


def _pull_path(request: PullRequest, source: PathSource, progress: Progress) -> ModelRef:
    path = Path(source.path).absolute()
    return add(
        AddRequest(
            path=path,
            name=request.name,
            overwrite=request.overwrite,
            choice=request.pattern,
            projector=request.projector,
            origin=Origin(source=str(path)),
        ),
        progress,
    )
