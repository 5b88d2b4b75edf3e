"""Configure and start the engines and the HTTP front end of this host.

`prepare` finds models and engine layers, computes how to serve each model, writes the configuration to /run/bedplate and
starts the units. It runs at each boot (bedplate-serve.service); run it again after you add or remove a model. Engines whose
model did not change keep running, and no request to them is lost. A model that left gets no new requests; those that run may
finish (--drain), and then its engine ends. `show` prints the same configuration and changes nothing. A model that cannot be
served is reported and left out; the others are served. `supervise` watches the engines beside the front end: it restarts an
engine that makes no progress, and gives up an engine that keeps ending for the same reason. It runs as
bedplate-supervise.service; requests do not pass through it.

examples:
  bedplate serve show                   show which models would be served, with which limits, and which would not
  bedplate serve show --json            print the same as JSON
  bedplate serve prepare                write the configuration and start the units
  bedplate serve supervise              watch the engines until you press Ctrl-C
  bedplate serve prepare --root tree    write the configuration below a directory and start nothing
"""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path

from bedplate.cli.argument_types import directory, whole_number
from bedplate.cli.result import print_result
from bedplate.cli.talk import Talk, print_error
from bedplate.flows import serve
from bedplate.report.escape import escape_line
from bedplate.report.serving import render_serving


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `bedplate serve`. With another --root than / files are written below it, and no unit is started."""
    parser.add_argument(
        "what",
        choices=("prepare", "show", "supervise"),
        help="`prepare` configures and starts; `show` only prints; `supervise` watches the engines",
    )
    parser.add_argument(
        "--root",
        type=directory,
        default=Path("/"),
        help="read and write below this directory, and start nothing (default: /)",
    )
    parser.add_argument(
        "--port",
        type=whole_number(1, 65535),
        metavar="N",
        help="port on which the front end listens (default: that of machine.toml)",
    )
    parser.add_argument(
        "--drain",
        type=whole_number(0, 86_400),
        metavar="SECONDS",
        default=round(serve.DRAIN_S),
        help="time that running requests get before the engine of a removed or replaced model ends (default: %(default)s)",
    )
    parser.add_argument(
        "--replan",
        action="store_true",
        help="plan running engines anew as well; an engine whose limits change restarts after its requests",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def main(arguments: argparse.Namespace) -> int:
    """Exit status 0 when everything found can be served, 1 when something cannot; the output names what, and the rest is
    served.

    Raises CommandError when the service manager refuses to start the units.
    """
    if arguments.what == "supervise":
        from bedplate.flows import supervise  # a boot waits for `prepare`

        with contextlib.suppress(KeyboardInterrupt):  # the usual end of it, by SIGTERM too
            supervise.watch(Talk(), lambda name, remark: print(f"{name}: {escape_line(remark)}", flush=True))
        return 0
    if arguments.what == "prepare":
        serving = serve.prepare(
            arguments.root, Talk(), port=arguments.port, drain_s=arguments.drain, replan=arguments.replan
        )
    else:
        serving = serve.show(arguments.root, port=arguments.port)
    record = serving.make_record()
    print_result(arguments, record, render_serving(record), indent=2)
    for problem in serving.problems if not arguments.json else ():
        print_error(problem)
    return 1 if serving.problems else 0
