"""`bedplate image driver`: build a driver layer, or list what can be built."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from bedplate.cli.result import print_result
from bedplate.cli.subcommand import Subcommands, add_subcommand
from bedplate.errors import UsageError


def add_driver(verbs: Subcommands) -> None:
    """The subcommand `driver` of `bedplate image`."""
    driver = add_subcommand(
        verbs,
        "driver",
        run=_run,
        json="print one JSON object",
        help="build the layer of a driver: signed kernel modules, firmware and user space for exactly one kernel",
        examples=(
            "bedplate image driver",
            "bedplate image driver tesla-535",
            "bedplate image driver --lock stack.lock",
            "bedplate image driver own --from NVIDIA-Linux-x86_64-580.126.09.run --kernel 6.12.118+deb13-amd64 --unverified",
        ),
    )
    driver.add_argument("name", nargs="?", default="", help="driver to build (default: list the drivers that can be built)")
    driver.add_argument("--lock", metavar="LOCK", type=Path, help="build the driver that this lock of a stack names")
    driver.add_argument(
        "--from",
        dest="source",
        metavar="PATH",
        type=Path,
        help="your own source, for the driver `own`: a .run, a .deb, an apt repository in a directory, a tree of modules",
    )
    driver.add_argument(
        "--kernel", default="", metavar="RELEASE", help="build for this kernel (default: that of the recipe)"
    )
    driver.add_argument(
        "--driver-version", default="", metavar="VERSION", help="version of your own source, where it does not state it"
    )
    driver.add_argument(
        "--unverified",
        action="store_true",
        help="build also a driver and a kernel that no row of the catalogue has a yes for, and label the layer",
    )
    driver.add_argument("--force", action="store_true", help="build even if nothing changed")
    driver.add_argument("--update", action="store_true", help="use newer packages from the archive")
    driver.add_argument(
        "--mirror", metavar="URL", help="Debian mirror to use (default: the one in the host's apt configuration)"
    )


def _run(arguments: argparse.Namespace) -> int:
    """Exit status 0 when the layer is there, or the list was printed. Raises what `build_driver_layer` raises."""
    if not arguments.name and arguments.lock is None:
        return _list(arguments)
    from bedplate.cli.terminal import terminal_progress
    from bedplate.flows.driver import DriverRequest, build_driver_layer
    from bedplate.flows.places import find_log
    from bedplate.report.drivers import render_driver

    request = DriverRequest(
        name=arguments.name,
        lock=arguments.lock,
        source=arguments.source,
        kernel=arguments.kernel,
        version=arguments.driver_version,
        unverified=arguments.unverified,
        force=arguments.force,
        update=arguments.update,
        mirror=arguments.mirror,
    )
    with terminal_progress(find_log("driver")) as progress:
        layer = build_driver_layer(request, progress)
    record = {"schema": 1} | asdict(layer) | {"path": str(layer.path)}
    return print_result(arguments, record, render_driver(asdict(layer)), indent=None)


def _list(arguments: argparse.Namespace) -> int:
    from bedplate.flows.driver import list_drivers
    from bedplate.report.drivers import driver_object, render_drivers

    given = [
        name for name in ("source", "kernel", "driver_version", "unverified", "force", "update") if getattr(arguments, name)
    ]
    if given:
        option = {"source": "from"}.get(given[0], given[0].replace("_", "-"))
        raise UsageError(f"--{option}: no driver is named", hint="Name one: bedplate image driver NAME.")
    rows = [driver_object(asdict(listed.recipe), asdict(listed.verdict)) for listed in list_drivers()]
    return print_result(arguments, {"schema": 1, "drivers": rows}, render_drivers(rows), indent=None)
