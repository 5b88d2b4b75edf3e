"""A subcommand of a verb (`bedplate image build`): its --help ends with examples, as the help of a verb does."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

Subcommands: TypeAlias = "argparse._SubParsersAction[Any]"
"""What add_subparsers of a verb's parser returns; at run time it takes no parameter."""


class AnyOrderParser(argparse.ArgumentParser):
    """A parser of a subcommand whose words and options may stand in any order.

    argparse gives an optional word its default as soon as an option follows the word before it: in `stack why kernel --lock
    LOCK wish.toml` the wish would be one word too many.
    """

    _takes_words = False

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        """As the base does, in any order: parse_known_intermixed_args calls this twice, for options and for words."""
        if self._takes_words:
            return super().parse_known_args(args, namespace)
        self._takes_words = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._takes_words = False


def add_subcommand(
    verbs: Subcommands,
    name: str,
    *,
    help: str,
    examples: Sequence[str],
    run: Callable[[argparse.Namespace], int] | None = None,
    json: str = "",
    parents: Sequence[argparse.ArgumentParser] = (),
) -> argparse.ArgumentParser:
    """The parser of the subcommand `name`, whose arguments the caller adds; `json` is the help of --json, "": without it.

    `help` is one phrase without a full stop: a line in the verb's help, and the first line of the subcommand's own. An
    example is a whole command line. `run` does the work, for `run_subcommand`; None: a subcommand below this one does.
    """
    lines = "".join(f"\n  {example}" for example in examples)
    parser: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=help,
        parents=list(parents),
        description=f"{help[:1].upper()}{help[1:]}.\n\nexamples:{lines}\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if json:
        parser.add_argument("--json", action="store_true", help=json)
    parser.set_defaults(run=run)
    return parser


def run_subcommand(arguments: argparse.Namespace) -> int:
    """Do the work of the subcommand that was given, and return its exit status."""
    return int(arguments.run(arguments))
