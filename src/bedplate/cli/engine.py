"""Build, list and show engine layers: the signed disk images that engines run from.

examples:
  bedplate engine build vllm                   build the layer of vLLM if its inputs changed
  bedplate engine build vllm --update          build it with newer packages
  bedplate engine list                         list the layers, built or not
  bedplate engine list --accelerator b200      also say which of them are offered for this GPU, and why
  bedplate engine show vllm                    show the packages in a layer and the GPUs that it holds code for
"""

from __future__ import annotations

import argparse
from dataclasses import asdict

from bedplate.cli.result import print_result
from bedplate.cli.subcommand import add_subcommand, run_subcommand
from bedplate.report.layers import render_layer, render_layer_line, render_offer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs build, list and show of `bedplate engine`, each with its own options; argparse demands one."""
    verbs = parser.add_subparsers(dest="verb", metavar="build|list|show", required=True)
    build = add_subcommand(
        verbs,
        "build",
        run=_build,
        json="print name, version and path of the layer as JSON",
        help="build an engine layer if its inputs changed",
        examples=("bedplate engine build vllm", "bedplate engine build llamacpp-cuda --update"),
    )
    build.add_argument("name", help="name of the layer: a directory of image/engines")
    build.add_argument("--force", action="store_true", help="build even if nothing changed")
    build.add_argument("--update", action="store_true", help="use newer packages from the archive and the registry")
    build.add_argument(
        "--mirror", metavar="URL", help="Debian mirror to use (default: the one in the host's apt configuration)"
    )
    listing = add_subcommand(
        verbs,
        "list",
        run=_list,
        json="print one JSON object",
        help="list the engine layers, built or not",
        examples=("bedplate engine list", "bedplate engine list --accelerator mi300x --json"),
    )
    listing.add_argument("--accelerator", metavar="DEVICE", help="also say which layers are offered for this GPU, and why")
    show = add_subcommand(
        verbs,
        "show",
        run=_show,
        json="print the whole record",
        help="show packages, size and GPU code of a layer",
        examples=("bedplate engine show vllm", "bedplate engine show llamacpp-cuda --json"),
    )
    show.add_argument("name", help="name of the layer")


def main(arguments: argparse.Namespace) -> int:
    """Exit status 0 when the verb did its work.

    Raises UsageError for a layer that is not there, ReadError for one that is not whole. build raises BuildError when a step
    fails and BusyError beside another build; what was published before stays.
    """
    return run_subcommand(arguments)


def _build(arguments: argparse.Namespace) -> int:
    from bedplate.cli.terminal import terminal_progress
    from bedplate.flows.layers import build_layer
    from bedplate.flows.places import find_log

    with terminal_progress(find_log("engine")) as progress:
        layer = build_layer(
            progress, arguments.name, force=arguments.force, update=arguments.update, mirror=arguments.mirror
        )
    record = {"schema": 1, "name": layer.name, "version": layer.version, "engine": str(layer.path)}
    return print_result(arguments, record, f"{layer.name} {layer.version}  {layer.path}\n", indent=None)


def _list(arguments: argparse.Namespace) -> int:
    from bedplate.flows.layers import list_layers

    layers = list_layers(arguments.accelerator)
    text = ""
    for layer in layers:
        text += f"{render_layer_line(asdict(layer))}\n"
        text += f"{render_offer(layer.offer)}\n" if layer.offer is not None else ""
    return print_result(arguments, {"schema": 1, "layers": [asdict(layer) for layer in layers]}, text, indent=None)


def _show(arguments: argparse.Namespace) -> int:
    from bedplate.flows.layers import show_layer

    record = show_layer(arguments.name)
    return print_result(arguments, record, render_layer(record))
