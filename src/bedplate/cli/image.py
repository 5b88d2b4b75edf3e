"""Build, list, show and remove operating system images, and build driver layers. A build also makes the engine layer.

examples:
  bedplate image build                        build from image/os/recipe.toml if the inputs changed
  bedplate image build --update               build with newer packages from the archive
  bedplate image build --variant production   build without a console; at boot, only signed extras are accepted
  bedplate image show                         show what the newest image contains
  bedplate image show --json                  print the whole manifest
  bedplate image rm 0.1~1a2b3c4d              remove one image
  bedplate image driver                       list the drivers that can be built, and what is known of each
  bedplate image driver tesla-535             build signed kernel modules of NVIDIA's driver for exactly one kernel

A driver layer is refused unless a row of the catalogue says that its modules build for its kernel; --unverified builds it
all the same, and the layer then says that it is unverified.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict

from bedplate.cli.image_driver import add_driver
from bedplate.cli.result import print_result
from bedplate.cli.subcommand import add_subcommand, run_subcommand
from bedplate.cli.talk import print_error
from bedplate.cli.terminal import terminal_progress
from bedplate.flows import image as images
from bedplate.flows.places import find_log
from bedplate.report.images import render_image_line, render_manifest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs build, list, show, rm and driver of `bedplate image`, each with its own options; argparse demands one."""
    verbs = parser.add_subparsers(dest="verb", metavar="build|list|show|rm|driver", required=True)
    build = add_subcommand(
        verbs,
        "build",
        run=_build,
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
    add_subcommand(
        verbs,
        "list",
        run=_list,
        json="print one JSON object",
        help="list the images, newest first",
        examples=("bedplate image list", "bedplate image list --json"),
    )
    show = add_subcommand(
        verbs,
        "show",
        run=_show,
        help="show packages, partitions, sizes and expected measurements of an image",
        examples=("bedplate image show", "bedplate image show 0.1~1a2b3c4d --json"),
    )
    show.add_argument("version", nargs="?", help="version of the image (default: the newest)")
    show.add_argument("--json", action="store_true", help="print the whole manifest")
    remove = add_subcommand(verbs, "rm", run=_remove, help="remove images", examples=("bedplate image rm 0.1~1a2b3c4d",))
    remove.add_argument("version", nargs="+", help="version of an image to remove")
    add_driver(verbs)


def main(arguments: argparse.Namespace) -> int:
    """Exit status 0 when the verb did its work.

    Raises UsageError for a version that is not there, ReadError for an image that is not whole. build raises BuildError when
    a step fails and BusyError beside another build; what was published before stays.
    """
    return run_subcommand(arguments)


def _build(arguments: argparse.Namespace) -> int:
    with terminal_progress(find_log("image")) as progress:
        built = images.build(
            progress, variant=arguments.variant, force=arguments.force, update=arguments.update, mirror=arguments.mirror
        )
    image, engine = built.image, built.engine
    record = {"schema": 1, "version": image.version, "manifest": str(image.manifest), "engine": str(engine.path)}
    text = f"{image.version}  {image.directory}\n{engine.name} {engine.version}  {engine.path}\n"
    return print_result(arguments, record, text, indent=None)


def _list(arguments: argparse.Namespace) -> int:
    found, broken = images.list_published()
    for error in broken:
        print_error(error)
    rows = [asdict(image) for image in found]
    text = "".join(f"{render_image_line(row)}\n" for row in rows)
    return print_result(arguments, {"schema": 1, "images": rows}, text, indent=None)


def _show(arguments: argparse.Namespace) -> int:
    shown = images.show(arguments.version, whole=not arguments.json)
    print(shown.text if arguments.json else render_manifest(shown.record, str(shown.image.directory)), end="")
    return 0


def _remove(arguments: argparse.Namespace) -> int:
    images.remove(arguments.version)
    return 0
