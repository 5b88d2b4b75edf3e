"""The `bedplate` command: finds the verb, imports only its module, and is the outer door for errors.

A verb's module has HELP (one line), `add_arguments(parser)` and `main(arguments) -> int`. Help of the command itself comes
from the table below without importing any of them, so that it starts at once.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from bedplate import __version__
from bedplate.errors import BedplateError, CommandError, PreflightError

# verb: (module, what it does); grouped as the help prints them
VERBS: dict[str, dict[str, tuple[str, str]]] = {
    "the machine": {
        "up": ("up", "build the image if its inputs changed, boot it, and stream an answer from its model"),
        "down": ("down", "power the machine off and leave no process"),
        "status": ("status", "what runs here: machine, endpoint, models"),
        "logs": ("logs", "what the machine and its build wrote"),
        "shell": ("shell", "a debug console in the machine (development images)"),
        "ask": ("ask", "put a question to the model from the terminal"),
        "selftest": ("selftest", "ask the known-answer model all its facts and demand exact answers"),
    },
    "what it is made of": {
        "image": ("image", "build, list, show and remove operating system images"),
        "model": ("model", "add, list, show, verify, remove and make models"),
        "clean": ("clean", "remove what bedplate keeps in its cache and state directories"),
    },
    "any host": {
        "inspect": ("inspect", "the machine on one screen, with what is wrong marked where it is"),
        "doctor": ("doctor", "what stands between this machine and its accelerators, the fix and the undo"),
        "record": ("record", "record what this machine says of itself, without identifiers, to be read elsewhere"),
        "tune": ("tune", "plan, apply, verify and undo what protects the engines of this host"),
        "measure": ("measure", "how fast a disk really is; tune computes io.cost and the dirty limits from it"),
        "prove": ("prove", "measure what a change is worth here, beside a noisy neighbour"),
        "explain": ("explain", "what a knob or a finding is about, on what evidence, what to do and how to undo it"),
    },
    "on a serving host": {
        "serve": ("serve", "prepare the engines and the front door of this host"),
        "guard": ("guard", "move the neighbours' limits while engines wait for them"),
    },
}

_LEFT_OUT = ("bedplate.image", "bedplate.prove")  # rooms that the image is built without

EXAMPLES = """\
examples:
  bedplate up                       build, boot, serve; ends with a streamed answer
  bedplate ask "What is TTFT?"      chat with the model that runs
  bedplate image show               packages, hashes and sizes of the newest image
  bedplate doctor --html page.html  what is wrong with this machine, as a page to forward
  bedplate down                     power off
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
    """Run one command; returns its exit status."""
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
        _print_error(error)
        return error.exit_code
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith(_LEFT_OUT):
            raise
        _print_error(_left_out(verb))
        return PreflightError.exit_code


def _left_out(verb: str) -> PreflightError:
    return PreflightError(
        f"bedplate {verb} is not part of the operating system image",
        hint="Run it on a host where bedplate is installed from its repository.",
    )


def _print_error(error: BedplateError) -> None:
    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    red, dim, plain = ("\033[1;31m", "\033[2m", "\033[0m") if colour else ("", "", "")
    for line in error.message.splitlines():
        print(f"{red}error:{plain} {line}", file=sys.stderr)
    if isinstance(error, CommandError) and error.tail and error.tail not in error.message:
        for line in error.tail.splitlines():
            print(f"{dim}  | {line}{plain}", file=sys.stderr)
    if error.hint:
        print(f"hint: {error.hint}", file=sys.stderr)


def entry() -> None:
    """Console entry point: exit status, Ctrl-C (130) and a closed pipe."""
    try:
        status = main(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    sys.exit(status)


if __name__ == "__main__":
    entry()
