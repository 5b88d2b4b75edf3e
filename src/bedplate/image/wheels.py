"""The Python packages of a layer as wheels: exactly one file for each package, by its SHA-256, as uv resolved them.

uv lists every wheel of a release that the platform takes; which one is installed must not be left to the day. So one is
chosen here, by its tags, and the requirements that uv installs from hold the SHA-256 of that file alone. Where a wheel lies
(a directory of this host, an address) is no part of the lock. Sources: PEP 425, 600 and 656 (tags), PEP 751 (pylock.toml).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from bedplate.act.files import write_whole
from bedplate.errors import BuildError, DataError, ReadError
from bedplate.host.root.jsontext import parse_json
from bedplate.image.recipe import PythonPart

WHEELS = "BEDPLATE_WHEELS"
"""The variable that names directories with wheels that no registry has, separated by ":"."""
REGISTRY, LOCAL = "pypi", "local-wheels"
"""Sources of a wheel, by their ids in the catalogue of the stack."""
_RESOLVER = 1  # raised when wheels are chosen otherwise: a lock of an older one is resolved again
_NAME = re.compile(r"[-_.]+")
_OLD_PLATFORMS = {"manylinux1": 5, "manylinux2010": 12, "manylinux2014": 17}  # PEP 600: glibc 2.5, 2.12, 2.17


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """One package of a layer: the name is normalised (PEP 503), the version as the wheel's file name has it."""

    name: str
    version: str
    file: str
    sha256: str
    source: str
    """"pypi", or "local-wheels" for a file from a directory of the build host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelLock:
    """All Python packages of one layer, by name. request is the digest of what was asked for."""

    request: str
    wheels: tuple[Wheel, ...]

    @property
    def digest(self) -> str:
        """SHA-256, in hex, over the files: an input of the layer."""
        lines = sorted(f"{wheel.sha256} {wheel.name} {wheel.version}" for wheel in self.wheels)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @property
    def requirements(self) -> str:
        """A requirements file that admits these files and no other."""
        return "".join(f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n" for wheel in self.wheels)


def normalise(name: str) -> str:
    """The name of a Python package as registries compare it (PEP 503): "Jinja2" and "typing_extensions" differ from
    "jinja2" and "typing-extensions" in writing alone."""
    return _NAME.sub("-", name).lower()


def request_digest(part: PythonPart) -> str:
    """SHA-256, in hex, over what decides the wheels of a layer."""
    asked = (_RESOLVER, part.version, part.glibc, sorted(part.requirements), sorted(part.left_out))
    return hashlib.sha256(repr(asked).encode()).hexdigest()


def find_wheel_directories(environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Where the build host keeps wheels that no registry has: BEDPLATE_WHEELS, else UV_FIND_LINKS, else PIP_FIND_LINKS.

    The last two are uv's and pip's own, and may hold addresses as well. Directories are absolute: uv runs elsewhere.
    """
    env = os.environ if environment is None else environment
    for variable, separator in ((WHEELS, ":"), ("UV_FIND_LINKS", ","), ("PIP_FIND_LINKS", None)):
        found = tuple(place.strip() for place in env.get(variable, "").split(separator) if place.strip())
        if found:
            return tuple(place if "://" in place else os.fspath(Path(place).absolute()) for place in found)
    return ()


def require_local_wheels(layer: str, part: PythonPart, places: Iterable[str]) -> None:
    """Raise BuildError for the first requirement that only a wheel of the build host meets, where none of them does.

    That is a version with a local label, such as torch==2.13.0+cpu: registries take none (PEP 440).
    """
    places = tuple(places)
    files = [file.name for place in places if "://" not in place for file in Path(place).glob("*.whl")]
    for requirement in part.requirements:
        name, _, version = requirement.partition("==")
        if "+" not in version or any("://" in place for place in places):
            continue
        if not any(_identify(file) == (normalise(name), version) for file in files):
            looked = ", ".join(places) if places else f"no directory, since {WHEELS} is not set"
            raise BuildError(
                f"the layer {layer} needs {name} {version}, which no registry has, and no wheel of it is there: looked in "
                f"{looked}",
                hint=f"Put the wheel for Python {part.version} into a directory and name it: {WHEELS}=DIR.",
            )


def make_wheel_lock(part: PythonPart, text: str) -> WheelLock:
    """The lock of a pylock.toml that uv wrote for this part.

    Raises BuildError naming a package without a wheel that the root takes, DataError where the text is no pylock.toml.
    """
    try:
        packages: list[dict[str, Any]] = tomllib.loads(text)["packages"]
        wheels = tuple(sorted((_choose(package, part) for package in packages), key=lambda wheel: wheel.name))
    except (tomllib.TOMLDecodeError, AttributeError, KeyError, TypeError) as error:
        raise DataError([f"pylock.toml: not what uv writes: {error}"]) from error
    return WheelLock(request=request_digest(part), wheels=wheels)


def read_wheel_lock(file: Path, part: PythonPart) -> WheelLock | None:
    """The lock in a file when it is of this request, else None; raises ReadError when the file is no lock."""
    if not file.is_file():
        return None
    try:
        record = parse_json(file.read_bytes(), "the file")
        lock = WheelLock(request=record["request"], wheels=tuple(Wheel(**wheel) for wheel in record["wheels"]))
    except (ReadError, KeyError, TypeError) as error:
        raise ReadError(f"{file}: not a lock of wheels: {error}", hint=f"Remove {file} and build again.") from error
    return lock if lock.request == request_digest(part) else None


def write_wheel_lock(file: Path, lock: WheelLock) -> None:
    """Write the lock as JSON, whole or not at all."""
    record = {"schema": 1, "request": lock.request, "wheels": [asdict(wheel) for wheel in lock.wheels]}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, json.dumps(record, indent=1) + "\n", sync=True)


def _choose(package: Mapping[str, Any], part: PythonPart) -> Wheel:
    ranked = []
    for wheel in package.get("wheels", ()):
        address = str(wheel.get("url") or wheel.get("path"))
        file = str(wheel.get("name") or unquote(address.rpartition("/")[2]))
        rank = rank_wheel(file, part)
        if rank is not None:
            ranked.append((rank, file, str(wheel["hashes"]["sha256"]), address))
    if not ranked:
        raise BuildError(
            f"{package['name']} {package['version']}: no wheel of it runs on Python {part.version} with glibc {part.glibc}",
            hint="Ask for another version in the recipe, or for another root.",
        )
    _, file, sha256, address = max(ranked)
    return Wheel(
        name=normalise(package["name"]),
        version=package["version"],
        file=file,
        sha256=sha256,
        source=REGISTRY if address.startswith(("http://", "https://")) else LOCAL,
    )


def rank_wheel(file: str, part: PythonPart) -> tuple[int, int, int] | None:
    """How well a wheel fits a root, the higher the better; None for one that it does not take.

    Machine code comes before pure Python, that of exactly this Python before the stable ABI, a newer glibc before an older.
    """
    parts = file.removesuffix(".whl").split("-")
    if len(parts) < 5 or not file.endswith(".whl"):
        return None
    pythons, abis, platforms = (tags.split(".") for tags in parts[-3:])
    found = [
        (platform, interpreter)
        for python in pythons
        for abi in abis
        if (interpreter := _rank_interpreter(python, abi, part.version)) is not None
        for name in platforms
        if (platform := _rank_platform(name, part.glibc)) is not None
    ]
    build = int(re.match(r"\d*", parts[2])[0] or 0) if len(parts) == 6 else 0  # type: ignore[index]
    return max(((int(platform > 0) * 1000 + interpreter, platform, build) for platform, interpreter in found), default=None)


def _rank_interpreter(python: str, abi: str, version: str) -> int | None:
    minor = int(version.split(".")[1])
    own = f"cp3{minor}"
    match = re.fullmatch(r"(cp|py)3(\d*)", python)
    if match is None or int(match[2] or 0) > minor:
        return None
    if python == own and abi == own:
        return 300
    if match[1] == "cp" and abi == "abi3":
        return 200 + int(match[2] or 0)
    if abi != "none" or (match[1] == "cp" and python != own):
        return None
    return 100 + int(match[2] or 0)


def _rank_platform(name: str, glibc: str) -> int | None:
    if name == "any":
        return 0
    old, _, machine = name.partition("_")
    if old in _OLD_PLATFORMS and machine == "x86_64":
        return _OLD_PLATFORMS[old]
    match = re.fullmatch(r"manylinux_2_(\d+)_x86_64", name)
    if match is not None:
        return int(match[1]) if int(match[1]) <= int(glibc.split(".")[1]) else None
    return 1 if name == "linux_x86_64" else None


def _identify(file: str) -> tuple[str, str]:
    name, _, rest = file.partition("-")
    return normalise(name), rest.partition("-")[0]
