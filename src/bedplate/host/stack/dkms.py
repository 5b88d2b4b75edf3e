"""What dkms built for which kernel, from its tree: the same answer as `dkms status`, without starting it.

A version is added where its directory has `source`; built where DIRECTORY/RELEASE/ARCHITECTURE/module has a module;
installed where kernel-RELEASE-ARCHITECTURE leads to it. A build that failed leaves build/make.log, and newer releases also
RELEASE/ARCHITECTURE/log/make.log without a module. Source: dkms(8) and the functions is_module_* of dkms 2.8 to 3.2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from bedplate.host.kernel.kernel import RELEASE
from bedplate.host.root.root import Root
from bedplate.model.facts.reading import Reading, Unknown, known, missing
from bedplate.model.facts.stack import DKMS_TREE, DkmsBuild, DkmsModule, DkmsState
from bedplate.model.lazy_pattern import LazyPattern
from bedplate.model.versions import version_key

_MODULES = 64  # in the tree; a machine has a few
_VERSIONS = 16
_RELEASES = 64
_LOG_LIMIT = 2 << 20  # bytes; with all its warnings that of NVIDIA's driver has some 300 KB
_ERROR_MOST = 200  # characters
_NAME = LazyPattern(r"[A-Za-z0-9][\w.+~-]{0,127}")
_IN_A_LOG = LazyPattern(r"for kernel (?P<release>[0-9][\w.+~-]{0,127}) \(")
# gcc, make and modpost; a warning that is about errors is none.
_ERROR = LazyPattern(
    r"^(?:[^\n ]{1,160} (?:fatal )?error: |ERROR: modpost: |Error! |make\[?\d{0,2}\]?: \*\*\* )[^\n]{0,400}", re.MULTILINE
)
_OWN = ("source", "build", "tarball", "original_module")


def read_dkms(root: Root) -> Reading[tuple[DkmsModule, ...]]:
    """Modules of dkms by name; ABSENT on a machine without its tree."""
    names = root.names(DKMS_TREE)
    if names.value is None:
        return missing(names.unknown or Unknown.ABSENT, DKMS_TREE, names.text)
    modules = [_read_module(root, name) for name in names.value[:_MODULES] if _NAME.fullmatch(name) and name != "mok"]
    found = tuple(module for module in modules if module is not None)
    return known(found, DKMS_TREE, f"{len(found)} modules")


def _read_module(root: Root, name: str) -> DkmsModule | None:
    top = f"{DKMS_TREE}/{name}"
    inside = root.listdir(top)
    linked = {entry: root.readlink(f"{top}/{entry}") or "" for entry in inside if entry.startswith("kernel-")}
    versions = [entry for entry in inside if _NAME.fullmatch(entry) and not entry.startswith(("kernel-", "original_module"))]
    builds: list[DkmsBuild] = []
    added: list[str] = []
    for version in versions[:_VERSIONS]:
        entries = root.listdir(f"{top}/{version}")
        if not entries:
            continue
        added.append(version)
        builds += _read_builds(root, name, version, entries, linked)
    if not added:
        return None
    builds.sort(key=lambda build: (version_key(build.version), version_key(build.release), build.state))
    return DkmsModule(name=name, versions=tuple(sorted(added, key=version_key)), builds=tuple(builds))


def _read_builds(
    root: Root, name: str, version: str, entries: tuple[str, ...], linked: dict[str, str]
) -> Iterator[DkmsBuild]:
    top = f"{DKMS_TREE}/{name}/{version}"
    for release in [entry for entry in entries if RELEASE.fullmatch(entry) and entry not in _OWN][:_RELEASES]:
        for architecture in root.listdir(f"{top}/{release}")[:4]:
            where = f"{top}/{release}/{architecture}"
            if any(".ko" in file for file in root.listdir(f"{where}/module")):
                link = linked.get(f"kernel-{release}-{architecture}", "").rstrip("/")
                installed = link.endswith(f"{version}/{release}/{architecture}")
                state = DkmsState.INSTALLED if installed else DkmsState.BUILT
                yield DkmsBuild(module=name, version=version, release=release, state=state, source=f"{where}/module")
            elif root.exists(f"{where}/log/make.log"):
                log = f"{where}/log/make.log"
                yield _failed(root, name, version, log, release=release)
    if "build" in entries and root.exists(f"{top}/build/make.log"):
        log = f"{top}/build/make.log"
        yield _failed(root, name, version, log)


def _failed(root: Root, name: str, version: str, log: str, *, release: str = "") -> DkmsBuild:
    text = (root.read_bytes(log, _LOG_LIMIT).value or b"").decode("utf-8", errors="replace")
    return DkmsBuild(
        module=name,
        version=version,
        release=release or parse_log_release(text),
        state=DkmsState.FAILED,
        source=log,
        error=parse_log_error(text),
    )


def shorten_log(text: str) -> str:
    """Of a make.log the lines that are read: the first one, and the first that names an error."""
    return "".join(f"{line}\n" for line in dict.fromkeys((text.split("\n", 1)[0], parse_log_error(text))) if line)


def parse_log_error(text: str) -> str:
    """The first line of a make.log that names an error: "nv-pci.c:237:9: error: too few arguments to function ..."."""
    found = _ERROR.search(text)
    return found[0].strip()[:_ERROR_MOST] if found is not None else ""


def parse_log_release(text: str) -> str:
    """The kernel that the head of make.log names: "DKMS make.log for nvidia-550.163.01 for kernel 6.12.118 (x86_64)"."""
    found = _IN_A_LOG.search(text)
    return found["release"] if found is not None else ""
