"""The options of `bedplate model pull`, and the request that they make."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from bedplate.cli.subcommand import Subcommands, add_subcommand
from bedplate.errors import UsageError

if TYPE_CHECKING:
    from bedplate.flows.pull import PullRequest


def add_options_of_pull(verbs: Subcommands, run: Callable[[argparse.Namespace], int], *, json: str) -> None:
    """The subcommand, with all that it takes; `run` does its work, and `json` is the help of --json."""
    pull = add_subcommand(
        verbs,
        "pull",
        run=run,
        json=json,
        help="fetch a model from a hub, an address, a directory or a disk into the store",
        examples=(
            "bedplate model pull hf:ORG/NAME --file Q4_K_M",
            "bedplate model pull hf:ORG/NAME@COMMIT --file Q4_K_M --name org/name",
            "bedplate model pull https://HOST/MODEL.gguf --sha256 DIGEST",
            "bedplate model pull /media/usb/MODEL.gguf",
            "bedplate model pull --discard-unfinished",
        ),
    )
    pull.add_argument(
        "source",
        nargs="?",
        metavar="SOURCE",
        help="hf:ORG/NAME[@REVISION], https://HOST/FILE, file:///PATH or a path; the same command resumes a pull that ended",
    )
    pull.add_argument(
        "--file",
        default="",
        metavar="PATTERN",
        help="which model to fetch, if SOURCE has several: its file, part of the name (Q4_K_M), or a pattern (*Q4_K_M*)",
    )
    pull.add_argument(
        "--mmproj",
        default="",
        metavar="FILE",
        help="projector with which the model sees images (default: the only one there is; `none` omits it)",
    )
    pull.add_argument("--name", help="name that clients use for the model (default: the name of the file)")
    pull.add_argument("--replace", action="store_true", help="give this model the name even if another model has it")
    pull.add_argument("--sha256", default="", metavar="DIGEST", help="digest that the file at an address must have")
    pull.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="file with the token for SOURCE's host (default: the token that HF_TOKEN or the hub's own files name)",
    )
    pull.add_argument("--plain-http", action="store_true", help="allow http, without TLS, to other hosts than this one")
    pull.add_argument(
        "--connections", type=int, default=4, metavar="N", help="most connections at once, 1 to 16 (default: %(default)s)"
    )
    pull.add_argument(
        "--any-format", action="store_true", help="fetch a model even if no engine on this host reads its format"
    )
    pull.add_argument(
        "--discard-unfinished",
        action="store_true",
        help="remove the partial files of pulls that ended early, and do nothing else",
    )


def make_pull_request(arguments: argparse.Namespace) -> PullRequest:
    """What the command line asks for. Raises UsageError without a SOURCE."""
    from bedplate.flows.pull import PullRequest

    if arguments.source is None:
        raise UsageError(
            "model pull: SOURCE is missing: expected hf:ORG/NAME, https://HOST/FILE or a path",
            hint="See bedplate model pull --help.",
        )
    return PullRequest(
        source=arguments.source,
        pattern=arguments.file,
        projector=arguments.mmproj,
        name=arguments.name,
        overwrite=arguments.replace,
        sha256=arguments.sha256,
        token_file=arguments.token_file,
        plain_http=arguments.plain_http,
        connections=arguments.connections,
        any_format=arguments.any_format,
    )
