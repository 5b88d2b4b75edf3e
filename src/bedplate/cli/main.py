"""The `bedplate` command: finds the verb, imports only its module, and is the outer door for errors.

A verb's module has `add_arguments(parser)` and `main(arguments) -> int`. Help of the command itself comes
from the table below without importing any of them, so that it starts at once.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from bedplate import __version__
from bedplate.cli.output import guard_streams
from bedplate.cli.talk import Talk, print_error
from bedplate.errors import BedplateError, OutputError, PreflightError
from bedplate.interrupts import signals_interrupt

# verb: (module, what it does); grouped as the help prints them
VERBS: dict[str, dict[str, tuple[str, str]]] = {
    "the machine": {
        "up": ("up", "build the image if its inputs changed, boot it, and stream an answer from its model"),
        "down": ("down", "power the machine off and leave no process behind"),
        "status": ("status", "show what runs: the machine, its endpoint and its models"),
        "logs": ("logs", "print the logs of the machine and of the build"),
        "shell": ("shell", "open a root shell in the machine (development images only)"),
        "ask": ("ask", "ask the model a question from the terminal"),
        "selftest": ("selftest", "check that the known-answer model gives every answer exactly"),
    },
    "images, models and files": {
        "image": ("image", "build, list, show and remove operating system images"),
        "engine": ("engine", "build, list and show engine layers"),
        "model": ("model", "pull, add, list, show, verify, remove and make models"),
        "stack": ("stack", "resolve kernel, driver, framework and engine into one lock, and explain it"),
        "catalog": ("catalog", "import signed bundles of rows that `stack` and `fit` use, and sign them"),
        "clean": ("clean", "remove what bedplate keeps in its cache and state directories"),
    },
    "any host": {
        "inspect": ("inspect", "show the hardware on one screen, with each problem marked where it is"),
        "doctor": ("doctor", "find what keeps accelerators from full speed, with the fix and the undo"),
        "fit": ("fit", "say whether a model fits: accelerators, engines, context, requests, ceilings of speed"),
        "record": ("record", "record the machine's facts, without identifiers, to analyse them elsewhere"),
        "tune": ("tune", "plan, apply, verify and undo settings that protect the engines of this host"),
        "measure": ("measure", "measure how fast a disk is; `tune` computes io.cost and dirty limits from it"),
        "prove": ("prove", "measure what a change gains on this host beside a noisy neighbour"),
        "explain": ("explain", "explain a knob, a finding or a kernel message: the reason, the evidence, the fix"),
    },
    "on a serving host": {
        "config": ("config", "check, show, sign, apply and take back the configuration of a machine"),
        "serve": ("serve", "configure and start the engines and the HTTP front end of this host"),
        "key": ("key", "add, list, revoke and rotate the keys of the front end's clients"),
        "ca": ("ca", "show or fetch the front end's certificate authority, and renew its certificate"),
        "guard": ("guard", "lower the neighbours' limits while engines wait because of them"),
        "var": ("var", "manage the recovery key of the encrypted /var, and report why /var does not open"),
    },
}

_LEFT_OUT = ("bedplate.image", "bedplate.prove.lab")  # rooms that the image is built without

EXAMPLES = """\
examples:
  bedplate up                       build, boot and serve, then stream an answer
  bedplate ask "What is TTFT?"      ask the model that is running
  bedplate image show               packages, hashes and sizes of the newest image
  bedplate doctor --html page.html  list this machine's problems, also as an HTML page
  bedplate down                     power the machine off
"""


def _help_text() -> str:
    lines = ["usage: bedplate VERB [arguments]   (bedplate VERB --help for one verb)", ""]
    lines += ["Bedplate: a Linux distribution built for AI inference, and the toolkit that builds and runs it.", ""]
    for group, verbs in VERBS.items():
        lines.append(f"{group}:")
        lines += [f"  {verb:<10} {text}" for verb, (_, text) in verbs.items()]
        lines.append("")
    return "\n".join(lines) + "\n" + EXAMPLES


def main(argv: Sequence[str]) -> int:
    """Run one command, its words without the program's name, and return its exit status. Signals are `entry`'s work.

    Errors that the user can act on are printed with their hint; a bug, argparse's SystemExit and a closed pipe go through.
    """
    table = {verb: module for verbs in VERBS.values() for verb, (module, _) in verbs.items()}
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_help_text(), end="")
        return 0
    if argv[0] in ("-V", "--version", "version"):
        print(f"bedplate {__version__}")
        return 0
    verb, *rest = argv
    if verb not in table:
        import difflib

        near = difflib.get_close_matches(verb, table, 1)
        print(f"error: {verb!r} is not a verb of bedplate", file=sys.stderr)
        print(f"hint: {f'Did you mean {near[0]!r}?' if near else 'See bedplate --help.'}", file=sys.stderr)
        return 2
    try:
        module = importlib.import_module(f"bedplate.cli.{table[verb]}")
        parser = argparse.ArgumentParser(
            prog=f"bedplate {verb}", description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.add_arguments(parser)
        return int(module.main(parser.parse_args(rest)))
    except BedplateError as error:
        print_error(error)
        return error.exit_code
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith(_LEFT_OUT):
            raise
        hint = "Run it on a host where bedplate is installed from its repository."
        print_error(PreflightError(f"bedplate {verb} is not part of the operating system image", hint=hint))
        return PreflightError.exit_code
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        from bedplate.flows.places import explain_failure

        explained = explain_failure(error)
        if explained is None:
            raise
        print_error(explained)
        return explained.exit_code


def entry() -> None:
    """Entry point: exit status, SIGINT, SIGTERM, SIGHUP (130), a closed pipe (141), output that cannot be written."""
    guard_streams()
    try:
        with signals_interrupt(Talk().note):
            try:
                status = main(sys.argv[1:])
            except SystemExit as end:  # of argparse
                status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
            sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    except BrokenPipeError:
        status = 141
    except OutputError as error:
        print_error(error)
        status = error.exit_code
    sys.exit(status)


if __name__ == "__main__":
    entry()
