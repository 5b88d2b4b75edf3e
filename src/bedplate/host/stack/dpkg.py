"""The packages of the stack that dpkg has, and what it has not finished. Sources: dpkg(1), deb-control(5), dpkg's
lib/dpkg/parse.c for the order of a stanza's first fields.

Only packages that have a part in the stack are kept, and those that are neither installed nor removed: a machine has
thousands of others, which are nobody's business.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from bedplate.host.root.root import Root
from bedplate.model.facts.reading import Reading, known
from bedplate.model.facts.stack import DPKG_STATUS, DpkgPackage

UPDATES = "/var/lib/dpkg/updates"
STATUS_LIMIT = 16 << 20  # bytes; dpkg's status of a desktop with 4000 packages is 5 MB
_STANZA = re.compile(
    r"^Package: (?P<name>\S{1,200})\n(?:(?:Essential|Protected|Important): \S{1,20}\n){0,3}"
    r"Status: (?P<want>\S{1,20}) (?P<flag>\S{1,20}) (?P<state>\S{1,20})$",
    re.MULTILINE,
)
_FIELD = re.compile(r"^(?P<name>Architecture|Version): (?P<value>\S{1,200})$", re.MULTILINE)
# Kernels, drivers, CUDA and ROCm, PyTorch and engines as Debian, Ubuntu, NVIDIA and AMD call them.
_OF_THE_STACK = re.compile(
    r"linux-(?:image|headers|modules|objects|signatures|generic|virtual|aws|azure|gcp|oracle)(?:-.*)?"
    r"|(?:lib)?nvidia-.*|firmware-(?:nvidia|amd|intel).*|libcuda1.*|libcudart.*|cuda(?:-.*)?|libxnvctrl0"
    r"|amdgpu(?:-.*)?|rocm(?:-.*)?|rock-dkms.*|libamdhip64.*|hip-runtime.*|intel-(?:opencl-icd|i915-dkms|gpu.*)|libze(?:1|-.*)"
    r"|python3-(?:torch|transformers|vllm)(?:-.*)?|libtorch.*|libggml.*|llama\.cpp.*|dkms"
)
_DONE = ("installed", "config-files", "not-installed")


def read_packages(root: Root) -> Reading[tuple[DpkgPackage, ...]]:
    """Packages of the stack and unfinished ones, by name and architecture; ABSENT on a system without dpkg."""
    status = root.read(DPKG_STATUS, limit=STATUS_LIMIT)
    if status.value is None:
        return Reading(value=None, source=status.source, unknown=status.unknown, text=status.text)
    found = tuple(sorted(parse_status(status.value), key=lambda package: (package.name, package.architecture)))
    return known(found, DPKG_STATUS, f"{len(found)} packages of the stack")


def read_interrupted(root: Root) -> tuple[str, ...]:
    """Journal files that dpkg leaves when it is stopped before it has written its status: paths, sorted."""
    return tuple(f"{UPDATES}/{name}" for name in root.listdir(UPDATES) if name.isdigit() and len(name) == 4)


def parse_status(text: str) -> Iterator[DpkgPackage]:
    """The packages of the stack of a status file, and those of any kind that dpkg has not finished."""
    return (package for package, _ in _stanzas(text))


def shorten_status(text: str) -> str:
    """The same stanzas with the fields that are read, so that `parse_status` answers the same of it."""
    return "".join(
        f"{head}\nArchitecture: {package.architecture}\nVersion: {package.version}\n\n" for package, head in _stanzas(text)
    )


def _stanzas(text: str) -> Iterator[tuple[DpkgPackage, str]]:
    """(package, the first lines of its stanza up to its status)."""
    for found in _STANZA.finditer(text):
        unfinished = found["state"] not in _DONE or found["flag"] != "ok"
        if not unfinished and _OF_THE_STACK.fullmatch(found["name"]) is None:
            continue
        end = text.find("\n\n", found.end())
        end = len(text) if end < 0 else end
        fields = {row["name"]: row["value"] for row in _FIELD.finditer(text, found.end(), end)}
        package = DpkgPackage(
            name=found["name"],
            architecture=fields.get("Architecture", ""),
            version=fields.get("Version", ""),
            want=found["want"],
            state=found["state"],
            needs_reinstall=found["flag"] == "reinstreq",
        )
        yield package, found[0]
