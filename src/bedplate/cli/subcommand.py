"""A subcommand of a verb (`bedplate image build`): its --help ends with examples, as the help of a verb does."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def add_subcommand(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    *,
    help: str,
    examples: Sequence[str],
    parents: Sequence[argparse.ArgumentParser] = (),
) -> argparse.ArgumentParser:
    """The parser of the subcommand `name`, whose arguments the caller adds.

    `help` is one phrase without a full stop: a line in the verb's help, and the first line of the subcommand's own. An
    example is a whole command line.
    """
    lines = "".join(f"\n  {example}" for example in examples)
    return verbs.add_parser(
        name,
        help=help,
        parents=list(parents),
        description=f"{help[:1].upper()}{help[1:]}.\n\nexamples:{lines}\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
