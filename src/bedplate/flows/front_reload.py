"""Reload the running front end with what is written: where it takes no change without one, or an earlier reload failed."""

from __future__ import annotations

from collections.abc import Iterable

from bedplate.act.front_files import RELOAD, read_owed, settle_front
from bedplate.act.front_master import reload_front
from bedplate.act.front_stats import read_tokens
from bedplate.act.serving import write_front_tokens
from bedplate.errors import CommandError
from bedplate.flows.front import apply_front
from bedplate.front.haproxy import MASTER_SOCKET, NO_TOKENS, STATS_SOCKET, render_tokens
from bedplate.front.keys import FRONT_DIRECTORY
from bedplate.host.root.root import Root
from bedplate.model.instance import ENGINE_DIRECTORY, token_variable_of


def give_front(root: Root, changed: tuple[str, ...]) -> None:
    """Let the running HAProxy take these files and those that it is owed, by a reload where it does not otherwise or is owed
    one. The caller holds the lock of serving.

    Raises CommandError where it takes neither; what it is owed is then given by the next change.
    """
    directory = root.at(FRONT_DIRECTORY)
    owed = read_owed(directory)
    try:
        apply_front(root, [*changed, *(name for name in owed.difference(changed) if (directory / name).is_file())])
        if RELOAD not in owed:
            return
    except CommandError:
        pass  # a reload reads all files
    written = [file.removesuffix(".env") for file in root.listdir(ENGINE_DIRECTORY) if file.endswith(".env")]
    write_front_tokens(root, render_tokens(find_ready(root, written)))
    try:
        reload_front(root.at(MASTER_SOCKET))
    finally:  # a process that starts by itself later knows of no token
        write_front_tokens(root, NO_TOKENS)
    settle_front(directory)


def find_ready(root: Root, instances: Iterable[str]) -> list[str]:
    """Those of the instances, sorted, whose engine has made a token for the process of the front that runs."""
    variables = {token_variable_of(name): name for name in instances}
    return sorted(variables[variable] for variable in read_tokens(root.at(STATS_SOCKET), list(variables)))
