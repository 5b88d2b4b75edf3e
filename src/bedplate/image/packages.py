"""Packages of a build: resolved once against the archive, locked by SHA-256, kept, and served to the build offline.

apt resolves and downloads (its signatures are checked by apt in the tools tree); what it chose becomes a lock. From then
on a build sees only a flat repository of exactly the locked files, so that it can be made again when the archive has
moved on.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bedplate.act.files import digest_file, write_whole
from bedplate.act.paths import Paths
from bedplate.act.run import Completed, run
from bedplate.errors import BuildError, CommandError, ReadError
from bedplate.host.root.jsontext import parse_json
from bedplate.host.system.buildhost import find_mirror_timeout
from bedplate.image.mirror import HINT as MIRROR_HINT
from bedplate.image.mirror import check_mirror, find_reason
from bedplate.image.tools import ACQUIRE, Tools, read_mirrors, render_archives, tools_command
from bedplate.model.progress import Progress

_RESOLVER = 3  # raised when `_resolve` chooses otherwise: a lock of an older one is resolved again
_NO_ARCHIVES = "no-archives"
"""apt's own directory of packages, always empty: `--print-uris` leaves out what lies there, and so would the lock."""
_UPDATE_S = 900.0  # for 10 MB of lists: a mirror that drips them is given up


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One .deb of a lock, as the archive's index describes it; its file must have this size and SHA-256."""

    name: str
    version: str
    architecture: str
    sha256: str
    size_bytes: int
    file: str
    """Name of the .deb in the pool."""
    stanza: str
    """The archive's own description of it, as apt will read it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """The packages of one build. request is the digest of what was asked for, so that an old lock is not taken for new."""

    request: str
    suite: str
    packages: tuple[Package, ...]

    @property
    def digest(self) -> str:
        """SHA-256, in hex, over hashes and names of all files, whatever their order: an input of images and layers."""
        lines = sorted(f"{package.sha256} {package.file}" for package in self.packages)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to resolve. kernel names a metapackage of the backports ("linux-image-cloud-amd64") or is None."""

    suite: str
    packages: tuple[str, ...]
    kernel: str | None
    accept_expired_release: bool
    architecture: str
    components: tuple[str, ...] = ("main",)
    """Of the archive: "main", and "contrib" and "non-free" for what is not free."""
    closure: bool = True
    """Whether dependencies and what every Debian root needs come too; a layer names all of its packages itself."""

    @property
    def digest(self) -> str:
        """SHA-256, in hex, over what decides the packages. Whether an expired Release file is accepted does not."""
        asked = (_RESOLVER, self.suite, sorted(self.packages), self.kernel, self.architecture, self.closure)
        more = () if self.components == ("main",) else (self.components,)  # locks of main are older than this field
        return hashlib.sha256(repr((*asked, *more)).encode()).hexdigest()

    @property
    def home(self) -> str:
        """Name of apt's directory for it in the pool: its lists hold exactly these components."""
        return "-".join((f"apt-{self.suite}", *self.components[1:]))


def ensure_packages(
    paths: Paths, tools: Tools, request: Request, lock_file: Path, progress: Progress, *, update: bool = False
) -> Lock:
    """The lock of the request with every file of it in the pool, each checked against its SHA-256.

    An existing lock is kept unless the request changed or update asks for newer versions. Raises BuildError when the
    archive cannot be reached, its Release file is too old, or a file is not what the lock says.
    """
    lock = None if update else read_lock(lock_file, request)
    resolve = lock is None
    if lock is None:
        progress.detail(f"resolving {len(request.packages)} packages of Debian {request.suite}")
        lock = _resolve(paths, tools, request, progress)
        _write_lock(lock_file, lock)
    _fetch_missing(paths, tools, request, lock, progress, ask=not resolve)
    return lock


def pool(paths: Paths) -> Path:
    """Where the .deb files of all locks are kept, each once, under their own names; it need not be there."""
    return paths.packages / "pool"


def write_repository(paths: Paths, lock: Lock, directory: Path) -> None:
    """Make `directory` a flat apt repository of exactly the locked packages: hard links and a Packages file."""
    directory.mkdir(parents=True)
    for package in lock.packages:
        os.link(pool(paths) / package.file, directory / package.file)
    (directory / "Packages").write_text("".join(package.stanza + "\n\n" for package in lock.packages))


def _apt(
    paths: Paths,
    tools: Tools,
    request: Request,
    argv: Sequence[str],
    *,
    timeout_s: float = 1800,
    directory: Path | None = None,
) -> Completed:
    home = paths.packages / request.home
    for name in ("lists/partial", "archives", f"{_NO_ARCHIVES}/partial"):
        (home / name).mkdir(parents=True, exist_ok=True)
    main, security = read_mirrors(tools.root)
    source = home / "sources.list"
    lines = render_archives(request.suite, main, security, backports=True, components=request.components)
    write_whole(source, "\n".join(lines) + "\n", sync=False)
    options = {
        "Dir::State::Lists": home / "lists",
        "Dir::Cache::Archives": home / _NO_ARCHIVES,
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "Dir::Etc::SourceList": source,
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::status": "/dev/null",
        "APT::Architecture": request.architecture,
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        **ACQUIRE,
        "Acquire::Check-Valid-Until": "false" if request.accept_expired_release else "true",
    }
    words = [argv[0], *(f"-o{key}={value}" for key, value in options.items()), *argv[1:]]
    if directory is not None:
        words = ["sh", "-euc", 'cd "$0" && exec "$@"', os.fspath(directory), *words]
    command = tools_command(paths, words, network=True, root=tools.root)
    return run(command, timeout_s=timeout_s, log=None, split=True, env={"DEBIAN_FRONTEND": "noninteractive"})


def _resolve(paths: Paths, tools: Tools, request: Request, progress: Progress) -> Lock:
    archive, _ = read_mirrors(tools.root)
    check_mirror(archive, request.suite, progress, timeout_s=find_mirror_timeout())
    progress.detail(f"lists of {archive}")
    try:
        _apt(paths, tools, request, ["apt-get", "-q", "-oAPT::Update::Error-Mode=any", "update"], timeout_s=_UPDATE_S)
    except CommandError as error:
        raise _explain(error, request, archive) from error
    wanted = [*request.packages]
    if request.kernel is not None:
        wanted += _newest_kernel(paths, tools, request)
    try:
        if (
            request.closure
        ):  # what mkosi's Debian installer installs: apt itself, which apt takes for essential, is not in it
            argv = ["apt-get", "-qq", "-y", "-opkgCacheGen::ForceEssential=,", "--print-uris", "install"]
            argv += ["?essential", "base-files", *wanted]
        else:
            argv = ["apt-get", "-qq", "--print-uris", "download", *wanted]
        chosen = _apt(paths, tools, request, argv).output
        names = [match[1] for match in re.finditer(r"^'[^']*' (\S+) ", chosen, re.MULTILINE)]
        exact = [f"{name}={version.replace('%3a', ':')}" for name, version, _ in (file.split("_", 2) for file in names)]
        stanzas = _apt(paths, tools, request, ["apt-cache", "show", *exact]).output
    except CommandError as error:
        raise _explain(error, request, archive) from error
    by_key = {}
    for text in stanzas.strip().split("\n\n"):
        fields = dict(re.findall(r"^(\S+): (.*)$", text, re.MULTILINE))
        by_key[(fields["Package"], fields["Version"])] = (fields, text)
    packages = []
    for file in names:
        name, version, _ = file.split("_", 2)
        fields, text = by_key[(name, version.replace("%3a", ":"))]
        packages.append(
            Package(
                name=name,
                version=fields["Version"],
                architecture=fields["Architecture"],
                sha256=fields["SHA256"],
                size_bytes=int(fields["Size"]),
                file=file,
                stanza=re.sub(r"^Filename: .*$", f"Filename: ./{file}", text, flags=re.MULTILINE),
            )
        )
    progress.detail(f"{len(packages)} packages, {sum(package.size_bytes for package in packages) / 1e6:.0f} MB")
    return Lock(
        request=request.digest, suite=request.suite, packages=tuple(sorted(packages, key=lambda package: package.name))
    )


def _newest_kernel(paths: Paths, tools: Tools, request: Request) -> list[str]:
    """Binary and module packages of the newest kernel behind the metapackage.

    Since 7.x Debian splits linux-image: taking its parts avoids initramfs-tools, which linux-image itself depends on.
    """
    text = _apt(paths, tools, request, ["apt-cache", "show", str(request.kernel)]).output
    release = re.search(r"^Depends:.*\blinux-image-(\d\S*)", text, re.MULTILINE)  # newest version comes first
    if release is None:
        raise BuildError(f"{request.kernel}: the archive has no such kernel", hint="Check `kernel` in the recipe.")
    return [f"linux-binary-{release[1]}", f"linux-modules-{release[1]}"]


def _fetch_missing(paths: Paths, tools: Tools, request: Request, lock: Lock, progress: Progress, *, ask: bool) -> None:
    pool(paths).mkdir(parents=True, exist_ok=True)
    missing = [package for package in lock.packages if not _is_whole(pool(paths) / package.file, package)]
    if not missing:
        return
    size = sum(package.size_bytes for package in missing)
    archive, _ = read_mirrors(tools.root)
    if ask:
        check_mirror(archive, request.suite, progress, timeout_s=find_mirror_timeout())
    progress.detail(f"downloading {len(missing)} packages, {size / 1e6:.0f} MB, from {archive}")
    archives = paths.packages / request.home / "archives"
    for package in missing:  # what an earlier run left there may be damaged; apt would take it by its name and size
        if not _is_whole(archives / package.file, package):
            (archives / package.file).unlink(missing_ok=True)
    exact = [f"{package.name}={package.version}" for package in missing]
    try:
        for attempt in (1, 2):
            try:
                _apt(paths, tools, request, ["apt-get", "-qq", "download", *exact], directory=archives)
                break
            except CommandError:
                if attempt == 2:
                    raise
                _apt(paths, tools, request, ["apt-get", "-q", "-oAPT::Update::Error-Mode=any", "update"])
    except CommandError as error:
        raise _explain(error, request, archive) from error
    for package in missing:
        source = archives / package.file
        if not source.is_file():
            raise BuildError(
                f"{package.file}: the archive no longer has this version",
                hint="Use newer versions: bedplate image build --update",
            )
        got = digest_file(source)
        if got != package.sha256:
            source.unlink()
            raise BuildError(
                f"{package.file}: got SHA-256 {got}, expected {package.sha256}",
                hint="The file was removed; run the build again. If it happens again, the mirror serves a changed file.",
            )
        source.rename(pool(paths) / package.file)


def _is_whole(file: Path, package: Package) -> bool:
    return file.is_file() and file.stat().st_size == package.size_bytes and digest_file(file) == package.sha256


def _explain(error: CommandError, request: Request, archive: str) -> BuildError:
    """apt's words, told as what happened to this build and what to do."""
    text = error.tail
    if "is expired" in text or "is not valid yet" in text or "no longer valid" in text:
        return BuildError(
            f"Debian {request.suite}: the archive's Release file is past its Valid-Until date, so apt refuses it",
            hint="The mirror is out of date. Use another mirror (BEDPLATE_MIRROR), or accept it in the recipe: "
            "accept_expired_release = true.",
        )
    reason = find_reason(text)
    if reason or error.status is None:
        return BuildError(
            f"Debian {request.suite}: the mirror {archive} cannot be used: {reason or error.message}", hint=MIRROR_HINT
        )
    if "Unable to locate package" in text or "has no installation candidate" in text:
        return BuildError(f"Debian {request.suite}: {text.splitlines()[-1]}", hint="Check `packages` in the recipe.")
    return BuildError(f"Debian {request.suite}: apt failed with {archive}: {text or error.message}")


def read_lock(file: Path, request: Request) -> Lock | None:
    """The lock in a file when it is of this request, else None; raises ReadError when the file is no lock."""
    if not file.is_file():
        return None
    try:
        record = parse_json(file.read_bytes(), "the file")
        lock = Lock(
            request=record["request"],
            suite=record["suite"],
            packages=tuple(Package(**package) for package in record["packages"]),
        )
    except (ReadError, KeyError, TypeError) as error:
        raise ReadError(f"{file}: not a package lock: {error}", hint=f"Remove {file} and build again.") from error
    return lock if lock.request == request.digest else None


def _write_lock(file: Path, lock: Lock) -> None:
    record = {
        "schema": 1,
        "request": lock.request,
        "suite": lock.suite,
        "packages": [{key: getattr(package, key) for key in Package.__slots__} for package in lock.packages],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, json.dumps(record, indent=1) + "\n", sync=True)
