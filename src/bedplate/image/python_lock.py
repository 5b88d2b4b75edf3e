"""The Python packages of a layer, locked with hashes by uv, as a check of the whole stack and as what a layer is made of.

Kernel and driver are no Python packages, so the driver becomes an empty wheel in a directory, and the runtime packages of
CUDA get a dependency on it (dependency-metadata of uv). Then uv's answer covers everything above the driver from the
registry's own metadata: where it disagrees with the rows, one of them is wrong, and nothing must be installed. uv runs on
build hosts only.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from bedplate.act.run import Completed, find_program, run
from bedplate.errors import BuildError, CommandError, CommandTimeout, PreflightError
from bedplate.image.recipe import PythonPart
from bedplate.model.python_lock import PythonLayer, PythonLock

DRIVER = "bedplate-nvidia-driver"
"""Name of the empty wheel that stands for the driver; no registry has it."""
_NO_SOLUTION = 1
_PLATFORMS: tuple[int, ...] = (17, 28, *range(31, 41))  # `uv pip compile --help` of uv 0.13.9
_TIMEOUT_S = 900.0  # a cold cache fetches the metadata of two hundred packages
_INSTALL_S = 3600.0  # a cold cache fetches the wheels: half a gigabyte
_PASSED = ("SSL_CERT_FILE", "SSL_CERT_DIR", "UV_INDEX", "UV_DEFAULT_INDEX", "UV_NO_INDEX", "UV_CACHE_DIR", "UV_OFFLINE")
"""What of the caller's environment reaches uv: where packages come from. Not UV_NO_CONFIG, which would switch the rule of
the driver off without a word."""


def find_uv() -> Path:
    """The program uv, beside this Python or in the system's path. Raises PreflightError where there is none."""
    beside = Path(sys.executable).parent / "uv"
    if beside.is_file():
        return beside
    found = find_program("uv")
    if found is None:
        raise PreflightError(
            "the Python packages cannot be locked: the program uv is not installed",
            hint="Install it on this build host: pip install uv.",
        )
    return Path(found)


def make_python_lock(layer: PythonLayer, uv: Path, *, places: Sequence[str] = ()) -> PythonLock:
    """Ask uv for the layer's packages.

    places: directories and addresses with wheels that no registry has; an option of uv hides what its variable names.
    Raises PreflightError where the registry cannot be reached, CommandError when uv fails for another reason than a
    conflict, CommandTimeout after 15 minutes.
    """
    with tempfile.TemporaryDirectory(prefix="bedplate-uv-") as name:
        directory = Path(name)
        links = directory / "links"
        links.mkdir()
        if layer.driver is not None:
            _write_empty_wheel(links, DRIVER, _python_version(layer.driver))
        (directory / "uv.toml").write_text(_settings(layer.driver_floors))
        (directory / "layer.in").write_text("".join(f"{pin}\n" for pin in layer.pins))
        command = [*_compile(uv, layer.python, layer.glibc), "--no-header", "--generate-hashes"]
        command += [f"--config-file={directory / 'uv.toml'}", f"--find-links={links}"]
        command += [*(f"--find-links={place}" for place in places), "layer.in"]
        done = _ask(layer.name, command, directory, _environment())
    if done.status == _NO_SOLUTION:
        return PythonLock(layer=layer.name, text="", packages=0, conflict=done.errors.strip())
    return _without_driver(layer, done.output)


def compile_wheels(name: str, part: PythonPart, uv: Path, *, places: Sequence[str] = (), cache: Path | None = None) -> str:
    """What uv answers for the wheels of a layer, as a pylock.toml (PEP 751): each package with all wheels that fit.

    places: directories and addresses with wheels that no registry has. Raises BuildError with uv's words where the
    requirements contradict each other, PreflightError where the registry cannot be reached, CommandError otherwise.
    """
    with tempfile.TemporaryDirectory(prefix="bedplate-uv-") as work:
        directory = Path(work)
        (directory / "layer.in").write_text("".join(f"{requirement}\n" for requirement in part.requirements))
        # A marker that no system meets: uv takes the package out of the answer, and asks nobody for it.
        (directory / "left-out").write_text("".join(f"{left}; sys_platform == 'never'\n" for left in part.left_out))
        command = [*_compile(uv, part.version, part.glibc), "--no-config", "--format=pylock.toml", "--override=left-out"]
        command += [*(f"--find-links={place}" for place in places), "layer.in"]
        done = _ask(name, command, directory, _environment(cache))
    if done.status == _NO_SOLUTION:
        raise BuildError(
            f"the Python packages of the layer {name} contradict each other: {done.errors.strip()}",
            hint="Correct `requirements` in the recipe of the layer.",
        )
    return done.output


def install_wheels(
    requirements: Path, site: Path, part: PythonPart, uv: Path, *, places: Sequence[str] = (), cache: Path | None = None
) -> None:
    """Unpack the wheels of a requirements file with hashes into `site`, without dependencies and without building anything.

    Files are copied, since what lies in uv's cache must not change when a library is stripped. The cache is tried first: a
    build whose wheels are in it needs no network. Raises CommandError.
    """
    command: list[str | Path] = [uv, "pip", "install", "--quiet", "--color=never", "--no-config", "--no-deps"]
    command += ["--require-hashes", "--no-build", "--link-mode=copy", "--no-python-downloads", f"--python={sys.executable}"]
    command += [*_target(part.version, part.glibc), *(f"--find-links={place}" for place in places)]
    command += [f"--target={site}", f"--requirements={requirements}"]
    env = _environment(cache)
    try:
        run([*command, "--offline"], timeout_s=_TIMEOUT_S, env=env, cwd=requirements.parent)
    except CommandTimeout:
        raise
    except CommandError:
        if site.exists():
            shutil.rmtree(site)
        run(command, timeout_s=_INSTALL_S, env=env, cwd=requirements.parent)


def _compile(uv: Path, python: str, glibc: str) -> list[str | Path]:
    return [uv, "pip", "compile", "--quiet", "--no-build", "--color=never", *_target(python, glibc)]


def _target(python: str, glibc: str) -> list[str]:
    return [f"--python-version={python}", f"--python-platform=x86_64-manylinux_2_{_newest_platform(glibc)}"]


def _environment(cache: Path | None = None) -> dict[str, str]:
    env = {key: os.environ[key] for key in _PASSED if key in os.environ}
    return env | {"UV_CACHE_DIR": os.fspath(cache)} if cache is not None else env


def _ask(name: str, command: Sequence[str | Path], directory: Path, env: Mapping[str, str]) -> Completed:
    """uv's answer to a question about the layer `name`; its status says whether there is one."""
    try:
        return run(command, timeout_s=_TIMEOUT_S, env=env, cwd=directory, split=True, ok=(0, _NO_SOLUTION))
    except CommandTimeout:
        raise
    except CommandError as error:
        if re.search(r"[Ff]ailed to fetch|error sending request|dns error|connect", error.tail):
            raise PreflightError(
                f"layer {name}: uv cannot reach the Python registry: {error.message}",
                hint="Check the network, or set UV_INDEX or UV_FIND_LINKS to a place that can be reached.",
            ) from error
        raise


def _newest_platform(glibc: str) -> int:
    """The minor version of the newest manylinux platform that uv knows and the root's glibc has: "2.41" gives 40."""
    minor = int(glibc.split(".")[1])
    return max([known for known in _PLATFORMS if known <= minor], default=_PLATFORMS[0])


def _without_driver(layer: PythonLayer, text: str) -> PythonLock:
    """The answer without the wheel that stands for the driver.

    A CUDA runtime in the answer without that wheel means that uv did not see the rule: such an answer is worth nothing.
    """
    blocks = re.split(r"(?m)^(?=[A-Za-z0-9])", text)
    names = [re.split(r"[=\s\[@]", block, maxsplit=1)[0] for block in blocks]
    if any(name in layer.driver_floors for name in names) and DRIVER not in names:
        raise CommandError(
            f"layer {layer.name}: uv did not apply the rule of the driver; its answer is not used",
            status=None,
            hint="Look for a configuration of uv that overrides dependency-metadata.",
        )
    kept = [block for name, block in zip(names, blocks, strict=True) if name != DRIVER]
    return PythonLock(layer=layer.name, text="".join(kept), packages=sum("==" in block for block in kept))


def _settings(driver_floors: Mapping[str, str]) -> str:
    """uv.toml that hangs the driver's lowest version on the runtime packages of CUDA."""
    return "".join(
        f'[[dependency-metadata]]\nname = "{name}"\nrequires-dist = ["{DRIVER}>={floor}"]\n'
        for name, floor in sorted(driver_floors.items())
    )


def _python_version(version: str) -> str:
    """535.274.02 -> 535.274.2, as PEP 440 writes it in the name of a wheel."""
    numbers: Sequence[str] = re.findall(r"\d+", re.split(r"[-+~]", version, maxsplit=1)[0])
    return ".".join(str(int(number)) for number in numbers)


def _write_empty_wheel(directory: Path, name: str, version: str) -> None:
    """A wheel with nothing but its metadata; its bytes depend on name and version alone."""
    stem = f"{name.replace('-', '_')}-{version}"
    files = {
        "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: bedplate\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }
    with zipfile.ZipFile(directory / f"{stem}-py3-none-any.whl", "w") as wheel:
        for file, text in files.items():
            wheel.writestr(zipfile.ZipInfo(f"{stem}.dist-info/{file}"), text)
