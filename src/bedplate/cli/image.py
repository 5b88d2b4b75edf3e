"""Build, list, show and remove operating system images, and build the engine's layer beside them.

examples:
  bedplate image build               build the recipe image/os/recipe.toml if its inputs changed
  bedplate image build --update      with newer packages from the archive
  bedplate image show                what the newest image is made of
  bedplate image show --json         the whole manifest
  bedplate image rm 0.1~1a2b3c4d     remove one
"""

from __future__ import annotations

import argparse
import json
import shutil

from bedplate.act.paths import find_paths
from bedplate.errors import ReadError, UsageError
from bedplate.model.units import render_size

HELP = "build, list, show and remove operating system images"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", metavar="build|list|show|rm", required=True)
    build = verbs.add_parser("build", help="build the image and the engine layer unless their inputs are unchanged")
    build.add_argument("--force", action="store_true", help="build even when nothing changed, without cached steps")
    build.add_argument("--update", action="store_true", help="take newer packages from the archive")
    build.add_argument("--mirror", metavar="URL", help="Debian archive (default: the host's apt configuration)")
    build.add_argument("--json", action="store_true", help="print the manifest's place as JSON")
    listing = verbs.add_parser("list", help="images, newest first")
    listing.add_argument("--json", action="store_true")
    show = verbs.add_parser("show", help="packages, partitions, sizes and expected measurements of an image")
    show.add_argument("version", nargs="?", help="default: the newest")
    show.add_argument("--json", action="store_true", help="the whole manifest")
    remove = verbs.add_parser("rm", help="remove images")
    remove.add_argument("version", nargs="+")


def main(arguments: argparse.Namespace) -> int:
    return {"build": _build, "list": _list, "show": _show, "rm": _remove}[arguments.verb](arguments)


def _build(arguments: argparse.Namespace) -> int:
    from bedplate.act.lock import hold_lock
    from bedplate.cli.signals import signals_interrupt
    from bedplate.cli.terminal import terminal_progress
    from bedplate.host.buildhost import find_mirror
    from bedplate.image.build import build_image
    from bedplate.image.engine import build_engine

    paths = find_paths()
    how = {"force": arguments.force, "update": arguments.update, "mirror": arguments.mirror or find_mirror()}
    with signals_interrupt(), hold_lock(paths, "image build"), terminal_progress(paths.logs / "image.log") as progress:
        image = build_image(paths, progress, **how)
        engine = build_engine(paths, progress, **how)
    if arguments.json:
        record = {"version": image.version, "manifest": str(image.manifest), "engine": str(engine.path)}
        print(json.dumps({"schema": 1} | record))
    else:
        print(f"{image.version}  {image.directory}")
        print(f"{engine.name} {engine.version}  {engine.path}")
    return 0


def _list(arguments: argparse.Namespace) -> int:
    from bedplate.image.build import list_images

    rows = []
    for image in list_images(find_paths()):
        record = json.loads(image.manifest.read_text())
        rows.append(
            {
                "version": image.version,
                "variant": record["variant"],
                "kernel": record["kernel"],
                "packages": len(record["packages"]),
                "disk_bytes": sum(file["disk_bytes"] for file in record["files"].values()),
            }
        )
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
    from bedplate.image.build import list_images

    images = list_images(find_paths())
    chosen = [image for image in images if arguments.version in (None, image.version)]
    if not chosen:
        raise ReadError(
            f"{arguments.version}: no such image" if arguments.version else "there is no image yet",
            hint="See bedplate image list." if images else "Build one: bedplate image build",
        )
    text = chosen[0].manifest.read_text()
    if arguments.json:
        print(text, end="")
        return 0
    record = json.loads(text)
    print(f"{record['id']} {record['version']} ({record['variant']}), Debian {record['suite']}, kernel {record['kernel']}")
    print(f"in {chosen[0].directory}\n")
    for kind, file in record["files"].items():
        size, used = render_size(file["size_bytes"]), render_size(file["disk_bytes"])
        print(f"  {kind:<8} {size:>10}  {used:>10} on disk  {file['name']}")
    print(f"\nexpected PCR 11  {record['pcr11']}\nkernel command line  {record['kernel_command_line']}\n")
    for one in record["partitions"]:
        print(f"  {one['label']:<28} {render_size(one['size_bytes']):>10}  {one['uuid']}  sha256 {one['sha256'][:16]}")
    print("\ninputs  " + "  ".join(f"{name} {value[:16]}" for name, value in record["inputs"].items()))
    print(f"\n{len(record['packages'])} packages")
    for one in record["packages"]:
        print(f"  {one['name']:<40} {one['version']}")
    return 0


def _remove(arguments: argparse.Namespace) -> int:
    from bedplate.act.lock import hold_lock
    from bedplate.image.build import list_images

    paths = find_paths()
    with hold_lock(paths, "image rm"):
        known = {image.version: image for image in list_images(paths)}
        for version in arguments.version:
            if version not in known:
                raise UsageError(f"{version}: no such image", hint="See bedplate image list.")
        for version in arguments.version:
            shutil.rmtree(known[version].directory)
    return 0
