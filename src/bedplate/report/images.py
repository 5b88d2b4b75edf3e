"""Images of the operating system as text: a line for each, and the manifest of one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bedplate.model.units import render_size


def render_image_line(image: Mapping[str, Any]) -> str:
    """Version, variant, kernel, number of packages and size of an image of `bedplate image list --json`; no line end."""
    return (
        f"{image['version']:<16} {image['variant']:<12} {image['kernel']:<28} {image['packages']:>4} packages "
        f"{render_size(image['disk_bytes']):>10}"
    )


def render_manifest(record: Mapping[str, Any], directory: str) -> str:
    """The manifest of an image that lies in a directory, as lines for people; ends with a line end."""
    lines = [
        f"{record['id']} {record['version']} ({record['variant']}), Debian {record['suite']}, kernel {record['kernel']}",
        f"in {directory}",
        "",
        *_files(record["files"]),
        "",
        f"expected PCR 11  {record['pcr11']}",
        f"kernel command line  {record['kernel_command_line']}",
        "",
        *(_partition(partition) for partition in record["partitions"]),
        "",
        "inputs  " + "  ".join(f"{name} {value[:16]}" for name, value in record["inputs"].items()),
        "",
        f"{len(record['packages'])} packages",
        *(f"  {package['name']:<40} {package['version']}" for package in record["packages"]),
    ]
    return "\n".join(lines) + "\n"


def _files(files: Mapping[str, Any]) -> Iterable[str]:
    for kind, file in files.items():
        size, used = render_size(file["size_bytes"]), render_size(file["disk_bytes"])
        yield f"  {kind:<8} {size:>10}  {used:>10} on disk  {file['name']}"


def _partition(partition: Mapping[str, Any]) -> str:
    size, digest = render_size(partition["size_bytes"]), partition["sha256"][:16]
    return f"  {partition['label']:<28} {size:>10}  {partition['uuid']}  sha256 {digest}"
