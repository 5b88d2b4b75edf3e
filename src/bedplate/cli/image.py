"""Build, list, show and remove operating system images. A build also makes the engine layer.

examples:
  bedplate image build                        build from image/os/recipe.toml if the inputs changed
  bedplate image build --update               build with newer packages from the archive
  bedplate image build --variant production   build without a console; at boot, only signed extras are accepted
  bedplate image show                         show what the newest image contains
  bedplate image show --json                  print the whole manifest
  bedplate image rm 0.1~1a2b3c4d              remove one image
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys

from bedplate.act.paths import check_paths, find_paths
from bedplate.cli.subcommand import add_subcommand
from bedplate.errors import UsageError
from bedplate.model.units import render_size

HELP = "build, list, show and remove operating system images"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs build, list, show and rm of `bedplate image`, each with its own options; argparse demands one."""
    verbs = parser.add_subparsers(dest="verb", metavar="build|list|show|rm", required=True)
    build = add_subcommand(
        verbs,
        "build",
        help="build the image and the engine layer if their inputs changed",
        examples=("bedplate image build", "bedplate image build --variant production --update"),
    )
    build.add_argument("--force", action="store_true", help="build even if nothing changed, without using cached steps")
    build.add_argument("--update", action="store_true", help="use newer packages from the archive, also for the build tools")
    build.add_argument(
        "--variant", choices=["development", "production"], help="variant to build (default: the one in the recipe)"
    )
    build.add_argument(
        "--mirror", metavar="URL", help="Debian mirror to use (default: the one in the host's apt configuration)"
    )
    build.add_argument(
        "--json", action="store_true", help="print the version and the paths of manifest and engine layer as JSON"
    )
    listing = add_subcommand(
        verbs, "list", help="list the images, newest first", examples=("bedplate image list", "bedplate image list --json")
    )
    listing.add_argument("--json", action="store_true", help="print one JSON object")
    show = add_subcommand(
        verbs,
        "show",
        help="show packages, partitions, sizes and expected measurements of an image",
        examples=("bedplate image show", "bedplate image show 0.1~1a2b3c4d --json"),
    )
    show.add_argument("version", nargs="?", help="version of the image (default: the newest)")
    show.add_argument("--json", action="store_true", help="print the whole manifest")
    remove = add_subcommand(verbs, "rm", help="remove images", examples=("bedplate image rm 0.1~1a2b3c4d",))
    remove.add_argument("version", nargs="+", help="version of an image to remove")


def main(arguments: argparse.Namespace) -> int:
    """Exit status 0 when the verb did its work.

    Raises UsageError for a version that is not there, ReadError for an image that is not whole. build raises BuildError when
    a step fails and BusyError beside another build; what was published before stays.
    """
    check_paths(find_paths())
    return {"build": _build, "list": _list, "show": _show, "rm": _remove}[arguments.verb](arguments)


def _build(arguments: argparse.Namespace) -> int:
    from bedplate.act.lock import hold_lock
    from bedplate.cli.terminal import terminal_progress
    from bedplate.host.system.buildhost import find_mirror
    from bedplate.image.build import build_image
    from bedplate.image.engine import build_engine
    from bedplate.image.recipe import Variant

    paths = find_paths()
    variant = Variant(arguments.variant) if arguments.variant else None
    how = {"force": arguments.force, "update": arguments.update, "mirror": arguments.mirror or find_mirror()}
    with hold_lock(paths, "image build"), terminal_progress(paths.logs / "image.log") as progress:
        image = build_image(paths, progress, variant=variant, **how)
        engine = build_engine(paths, progress, **how)
    if arguments.json:
        record = {"version": image.version, "manifest": str(image.manifest), "engine": str(engine.path)}
        print(json.dumps({"schema": 1} | record))
    else:
        print(f"{image.version}  {image.directory}")
        print(f"{engine.name} {engine.version}  {engine.path}")
    return 0


def _list(arguments: argparse.Namespace) -> int:
    from bedplate.image.manifest import read_record, require_keys
    from bedplate.image.published import list_images

    rows = []
    images, broken = list_images(find_paths())
    for image in images:
        record = read_record(image.manifest)
        require_keys(record, "kernel", "packages", "files.*.disk_bytes")
        rows.append(
            {
                "version": image.version,
                "variant": record["variant"],
                "kernel": record["kernel"],
                "packages": len(record["packages"]),
                "disk_bytes": sum(file["disk_bytes"] for file in record["files"].values()),
            }
        )
    for error in broken:
        print(f"{error.message}\n{error.hint}", file=sys.stderr)
    if arguments.json:
        print(json.dumps({"schema": 1, "images": rows}))
        return 0
    for row in rows:
        print(
            f"{row['version']:<16} {row['variant']:<12} {row['kernel']:<28} {row['packages']:>4} packages "
            f"{render_size(row['disk_bytes']):>10}"
        )
    return 0


def _show(arguments: argparse.Namespace) -> int:
    from bedplate.image.manifest import read_record, require_keys
    from bedplate.image.published import find_image

    image = find_image(find_paths(), arguments.version)
    if arguments.json:
        print(image.manifest.read_text(), end="")
        return 0
    record = read_record(image.manifest)
    require_keys(record, "id", "suite", "kernel", "pcr11", "inputs", "files.*.disk_bytes")
    require_keys(record, *(f"packages.*.{key}" for key in ("name", "version")))
    require_keys(record, *(f"partitions.*.{key}" for key in ("label", "uuid", "sha256", "size_bytes")))
    print(f"{record['id']} {record['version']} ({record['variant']}), Debian {record['suite']}, kernel {record['kernel']}")
    print(f"in {image.directory}\n")
    for kind, file in record["files"].items():
        size, used = render_size(file["size_bytes"]), render_size(file["disk_bytes"])
        print(f"  {kind:<8} {size:>10}  {used:>10} on disk  {file['name']}")
    print(f"\nexpected PCR 11  {record['pcr11']}\nkernel command line  {record['kernel_command_line']}\n")
    for partition in record["partitions"]:
        size, digest = render_size(partition["size_bytes"]), partition["sha256"][:16]
        print(f"  {partition['label']:<28} {size:>10}  {partition['uuid']}  sha256 {digest}")
    print("\ninputs  " + "  ".join(f"{name} {value[:16]}" for name, value in record["inputs"].items()))
    print(f"\n{len(record['packages'])} packages")
    for package in record["packages"]:
        print(f"  {package['name']:<40} {package['version']}")
    return 0


def _remove(arguments: argparse.Namespace) -> int:
    from bedplate.act.lock import hold_lock

    paths = find_paths()
    with hold_lock(paths, "image rm"):
        known = {directory.name: directory for directory in paths.images.glob("[!.]*")}  # also those that are not whole
        for version in arguments.version:
            if version not in known:
                raise UsageError(f"{version}: no such image", hint="See bedplate image list.")
        for version in dict.fromkeys(arguments.version):
            shutil.rmtree(known[version])
    return 0
