"""A recording of a machine: exactly what the readers asked of it, without what identifies it or its people.

A `Recorder` stands between the readers and the machine and remembers each answer: text, absence, denial. What it holds goes
through trim.py and redact.py into an archive that host/root/recording.py opens again: MANIFEST.json and the tree root/,
which lstopo reads too (HWLOC_FSROOT). The same machine text gives the same bytes.
"""

from __future__ import annotations

import gzip
import io
import json
import lzma
import re
import tarfile
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from bedplate.errors import ReadError
from bedplate.host.accel import record_vendor
from bedplate.host.facts import read_host
from bedplate.host.kernel.kernel_log import RECORDED as KERNEL_LOG
from bedplate.host.record.kernel_log import record_kernel_log
from bedplate.host.record.redact import Redactor, make_redactor
from bedplate.host.record.trim import is_kept_process, trim, trim_link
from bedplate.host.root.ranges import FileRanges
from bedplate.host.root.recording import CONTENT_LIMIT, MANIFEST, SCHEMA, TREE
from bedplate.host.root.root import TEXT_LIMIT, Root
from bedplate.host.root.zstd import pack_zstd
from bedplate.host.stack.installed import StackDepth, record_stack
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import Reading, Unknown, known, missing
from bedplate.model.kernel_log_row import KernelLogRow

SUFFIXES = (".tar.zst", ".tar.xz", ".tar.gz", ".tar")
_TOTAL_LIMIT = CONTENT_LIMIT * 3 // 4  # bytes of all files as they are read, so that the recording can be opened
# Links of /proc that mean "whoever asks": kept as directories, so that a recording does not hold the recorder's number.
_SELF = ("/proc/self", "/proc/thread-self")


@dataclass(frozen=True, slots=True, eq=False)
class Recorder(Root):
    """Answers as `inner` does, the first answer again when it is asked twice, and remembers all."""

    inner: Root = field(default_factory=Root)
    vendor: dict[str, bytes] = field(default_factory=dict)
    """Answers of vendors' libraries, and the kernel's log, by the path under which a recording holds them."""
    files: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    """Content and the limit under which it was read, by path without links."""
    whys: dict[str, tuple[Unknown, str]] = field(default_factory=dict)
    listings: dict[str, Reading[tuple[str, ...]]] = field(default_factory=dict)
    links: dict[str, str | None] = field(default_factory=dict)
    present: set[str] = field(default_factory=set)
    """Paths of which only was asked whether they are there."""

    @property
    def is_live(self) -> bool:
        """Never: `vendor` holds what the vendors' libraries answered, and a second question could get another answer."""
        return False

    def read_bytes(self, where: str, limit: int = TEXT_LIMIT) -> Reading[bytes]:
        path = self._find(where)
        if path in self.vendor:
            return known(self.vendor[path][:limit], where, "bytes")
        if path in self.whys:
            return missing(self.whys[path][0], where, self.whys[path][1])
        if path in self.files:
            data, read_with = self.files[path]
            if limit <= read_with or len(data) < read_with:
                return known(data[:limit], where, "bytes")
        reading = self.inner.read_bytes(where, limit)
        if reading.value is not None:
            self.files[path] = (reading.value, limit)
        elif reading.unknown is not None:
            self.whys[path] = (reading.unknown, reading.text)
        return reading

    def open_ranges(self, where: str) -> Reading[FileRanges]:
        """Asked of the machine each time and not kept: what was found in the file stands in a document of `vendor`."""
        return self.inner.open_ranges(where)

    def names(self, where: str) -> Reading[tuple[str, ...]]:
        path = self._find(where)
        if path not in self.listings:
            self.listings[path] = self.inner.names(where)
        reading = self.listings[path]
        return Reading(value=reading.value, source=where, unknown=reading.unknown, text=reading.text)

    def readlink(self, where: str) -> str | None:
        parent, _, name = where.rstrip("/").rpartition("/")
        return self._link_of(f"{self._find(parent or '/').rstrip('/')}/{name}")

    def resolve(self, where: str) -> str | None:
        path = self._find(where)
        if path in self.vendor:
            return path
        if path in self.present or path in self.files:
            return path
        if path in self.whys and self.whys[path][0] is Unknown.ABSENT:
            return None
        if self.inner.resolve(where) is None:
            # What was read as denied or malformed keeps that reason.
            self.whys.setdefault(path, (self.inner.absent, ""))
            return None
        self.present.add(path)
        return path

    def _find(self, where: str) -> str:
        try:
            return self.follow(where)
        except OSError:
            return where

    def _link_of(self, where: str) -> str | None:
        if where in _SELF:
            return None
        if where not in self.links:
            self.links[where] = self.inner.readlink(where)
        return self.links[where]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What a recording holds, redacted; paths are absolute, by their order."""

    files: dict[str, bytes]
    links: dict[str, str]
    directories: tuple[str, ...]
    """That are there and of which nothing else is held."""
    manifest: dict[str, object]
    facts: HostFacts
    """As they were read, with identifiers; not in the archive."""
    redactor: Redactor


def record_host(
    root: Root,
    knob_paths: Iterable[str] = (),
    *,
    config_options: Collection[str] = (),
    kernel_rows: Sequence[KernelLogRow] = (),
    bedplate: str,
    recorded: str,
) -> Recorded:
    """Read all facts of a machine and keep what was asked. bedplate is the version, recorded the date, as they shall stand.

    kernel_rows say which messages of the kernel's log are kept besides the newest; without them the log is not recorded.
    Raises ReadError when the answers are past any size that a machine has.
    """
    redactor = make_redactor(root)
    recorder = Recorder(path=root.path, absent=root.absent, inner=root, vendor=record_vendor(root) | record_stack(root))
    if kernel_rows:
        log = record_kernel_log(root, kernel_rows)
        if log.value is not None:
            recorder.vendor[KERNEL_LOG] = log.value
        elif log.unknown is not None:
            recorder.whys[KERNEL_LOG] = (log.unknown, log.text)
    facts = read_host(
        recorder,
        knob_paths,
        origin="live",
        config_options=config_options,
        kernel_rows=kernel_rows,
        stack=StackDepth.DEEP,
    )
    total = sum(len(data) for data, _ in recorder.files.values())
    if total > _TOTAL_LIMIT:
        raise ReadError(f"the machine's answers take {total} bytes, at most {_TOTAL_LIMIT} are recorded")
    return _make_recorded(recorder, redactor, facts, bedplate=bedplate, recorded=recorded)


def render_archive(recorded: Recorded, suffix: str) -> bytes:
    """The archive's bytes: ".tar.zst", ".tar.xz", ".tar.gz" or ".tar". The same recording gives the same bytes.

    Raises ReadError when this Python has no zstd.
    """
    tar = _render_tar(recorded)
    if suffix == ".tar.gz":
        return gzip.compress(tar, 9, mtime=0)
    if suffix == ".tar.xz":
        return lzma.compress(tar, preset=6)
    if suffix == ".tar":
        return tar
    packed = pack_zstd(tar)
    if packed is None:
        raise ReadError(
            "this Python cannot write zstd", hint="Name the output .tar.xz or .tar.gz, or install the package zstandard."
        )
    return packed


def _make_recorded(recorder: Recorder, redactor: Redactor, facts: HostFacts, *, bedplate: str, recorded: str) -> Recorded:
    others = _other_processes(recorder)

    def kept(path: str) -> bool:
        found = re.match(r"/proc/([0-9]+)(/|$)", path)
        return found is None or found[1] not in others

    # In the order of the paths: placeholders are numbered by it.
    files = {
        redactor.path(path): trim(path, data, redactor)
        for path, data in sorted([*((path, data) for path, (data, _) in recorder.files.items()), *recorder.vendor.items()])
        if kept(path)
    }
    links = {
        redactor.path(path): trim_link(path, target, redactor)
        for path, target in sorted((path, target) for path, target in recorder.links.items() if target is not None)
        if kept(path)
    }
    absent, denied, malformed, not_recorded = [], [], {}, []
    for path, (why, text) in sorted(recorder.whys.items()):
        if not kept(path):
            continue
        if why is Unknown.ABSENT:
            absent.append(redactor.path(path))
        elif why is Unknown.DENIED:
            denied.append(redactor.path(path))
        elif why is Unknown.MALFORMED:
            malformed[redactor.path(path)] = redactor.text(text)
        else:
            not_recorded.append(redactor.path(path))
    names: dict[str, list[str]] = {}
    denied_names: list[str] = []
    for path, reading in sorted(recorder.listings.items()):
        if not kept(path):
            continue
        if reading.value is not None:
            inside = (name for name in reading.value if path != "/proc" or name not in others)
            names[redactor.path(path)] = sorted(_in_directory(redactor, path, name) for name in inside)
        elif reading.unknown is Unknown.ABSENT:
            absent.append(redactor.path(path))
        elif reading.unknown is Unknown.DENIED:
            denied_names.append(redactor.path(path))
        elif reading.unknown is Unknown.MALFORMED:
            malformed[redactor.path(path)] = redactor.text(reading.text)
        else:
            not_recorded.append(redactor.path(path))
    present = {redactor.path(path) for path in recorder.present if kept(path)} - files.keys() - links.keys()
    manifest: dict[str, object] = {
        "schema": SCHEMA,
        "kind": "bedplate-recording",
        "bedplate": bedplate,
        "recorded": recorded,
        "redacted": redactor.counts(),
        "lacking": str(recorder.inner.absent),
        "absent": sorted(set(absent)),
        "denied": denied,
        "denied_names": denied_names,
        "malformed": malformed,
        "not_recorded": sorted(set(not_recorded)),
        "names": names,
    }
    return Recorded(
        files=files,
        links=links,
        directories=tuple(sorted(present | names.keys())),
        manifest=manifest,
        facts=facts,
        redactor=redactor,
    )


def _in_directory(redactor: Redactor, directory: str, name: str) -> str:
    """A name as its path shows it: a home directory is told from others by where it is."""
    return redactor.path(f"{directory.rstrip('/')}/{name}").rpartition("/")[2]


def _other_processes(recorder: Recorder) -> set[str]:
    """Processes of which readers say nothing: that they run is nobody's business."""
    others: set[str] = set()
    for name in recorder.names("/proc").value or ():
        if not name.isdigit() or name in ("1", "2"):
            continue
        comm = recorder.files.get(f"/proc/{name}/comm", (b"", 0))[0].decode("utf-8", errors="replace")
        if not is_kept_process(comm, recorder.files.get(f"/proc/{name}/cmdline", (b"", 0))[0]):
            others.add(name)
    return others


def _render_tar(recorded: Recorded) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        manifest = json.dumps(recorded.manifest, indent=1, sort_keys=True, ensure_ascii=True).encode() + b"\n"
        _add(archive, MANIFEST, tarfile.REGTYPE, data=manifest)
        rows: list[tuple[str, bytes, bytes, str]] = [
            (path, tarfile.REGTYPE, data, "") for path, data in recorded.files.items()
        ]
        rows += [(path, tarfile.SYMTYPE, b"", target) for path, target in recorded.links.items()]
        rows += [(path, tarfile.DIRTYPE, b"", "") for path in recorded.directories if path not in recorded.files]
        _add(archive, TREE, tarfile.DIRTYPE)
        for path, kind, data, target in sorted(rows):
            _add(archive, TREE + path, kind, data=data, target=target)
    return out.getvalue()


def _add(archive: tarfile.TarFile, name: str, kind: bytes, *, data: bytes = b"", target: str = "") -> None:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, len(data), target
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    archive.addfile(info, io.BytesIO(data))
