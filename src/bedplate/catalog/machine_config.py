"""The strict reader of machine.toml: all problems of the file at once, each with its key and what was expected."""

from __future__ import annotations

import ipaddress
from typing import Any

from bedplate.catalog.strict import build_file, parse_table, schema_problems
from bedplate.config.kinds import check_config
from bedplate.errors import DataError
from bedplate.model.machine_config import MachineConfig

REFERENCE = "docs/reference/machine.md"


def parse_machine_config(text: str, *, name: str) -> MachineConfig:
    """The text of a machine.toml; `name` stands for the file in messages. Raises DataError with all problems of the file."""
    problems: list[str] = []
    whole: dict[str, Any] = {}
    for key, value in parse_table(text, name=name).items():
        try:  # each table by itself: an unknown key in one must not hide a wrong address in another
            build_file({key: value}, MachineConfig, name=name)
            whole[key] = value
        except DataError as error:
            problems += error.problems
    config = build_file(whole, MachineConfig, name=name)
    problems += [f"{name}:{problem}" for problem in [*schema_problems(config.schema), *check_config(config)]]
    if problems:
        raise DataError(problems, hint=f"Correct {name}; the keys are listed in {REFERENCE}.")
    return config


def is_loopback(address: str) -> bool:
    """Whether this IP address, as machine.toml writes it, is one that only the machine itself reaches; "*" is not."""
    return address != "*" and ipaddress.ip_address(address).is_loopback
