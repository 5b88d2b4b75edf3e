"""The strict reader of machine.toml: all problems of the file at once, each with its key and what was expected."""

from __future__ import annotations

import ipaddress
import re

from bedplate.catalog.strict import parse_toml, schema_problems
from bedplate.errors import DataError
from bedplate.model.engine_names import ENGINE_NAMES
from bedplate.model.instance import is_model_name
from bedplate.model.machine_config import FrontConfig, LimitsConfig, MachineConfig, ModelConfig, TlsConfig
from bedplate.model.network_names import is_dns_name, is_ip_address, is_origin

REFERENCE = "docs/reference/machine.md"
_MOST_ENTRIES = 64
_PATH = re.compile(r"/[A-Za-z0-9._/@+-]{1,250}")
_MOST = 1_000_000
_PORTS = (1024, 65535)  # HAProxy has no capabilities, so that it cannot listen below


def parse_machine_config(text: str, *, name: str) -> MachineConfig:
    """The text of a machine.toml; `name` stands for the file in messages. Raises DataError with all problems of the file."""
    config = parse_toml(text, MachineConfig, name=name, reference=REFERENCE)
    problems = [f"{name}:{problem}" for problem in _check(config)]
    if problems:
        raise DataError(problems, hint=f"Correct {name}; the keys are listed in {REFERENCE}.")
    return config


def is_loopback(address: str) -> bool:
    """Whether this IP address, as machine.toml writes it, is one that only the machine itself reaches; "*" is not."""
    return address != "*" and ipaddress.ip_address(address).is_loopback


def _check(config: MachineConfig) -> list[str]:
    front = config.front
    problems = schema_problems(config.schema)
    problems += _check_front(front) + _check_tls(front.tls) + _check_limits(front.limits) + _check_models(config.model)
    if front.tls.client_ca and front.tls.client_port == front.port:
        problems.append(f"front.tls.client_port: got {front.port}, which front.port has, expected another port")
    if front.tls.client_ca and front.insecure:
        problems.append("front.tls.client_ca: is set, but front.insecure = true turns TLS off; expected one of them")
    return problems


def _check_models(rows: tuple[ModelConfig, ...]) -> list[str]:
    problems = _check_list("model", rows)
    for index, row in enumerate(rows):
        if not is_model_name(row.name):
            problems.append(f"model[{index}].name: got {_shown(row.name)}, expected the name of a model")
        if row.engine not in ENGINE_NAMES:
            problems.append(f"model[{index}].engine: got {_shown(row.engine)}, expected one of {', '.join(ENGINE_NAMES)}")
        if row.name in [other.name for other in rows[:index]]:
            problems.append(f"model[{index}].name: {_shown(row.name)} stands twice")
    return problems


def _check_front(front: FrontConfig) -> list[str]:
    problems = _check_list("front.addresses", front.addresses) + _check_list("front.cors_origins", front.cors_origins)
    for index, address in enumerate(front.addresses):
        if address != "*" and not is_ip_address(address):
            problems.append(f'front.addresses[{index}]: got {_shown(address)}, expected an IP address or "*"')
    if len(set(front.addresses)) < len(front.addresses) or ("*" in front.addresses and len(front.addresses) > 1):
        problems.append('front.addresses: names an address twice; "*" already stands for all of them')
    problems += _check_range("front.port", front.port, *_PORTS)
    for index, origin in enumerate(front.cors_origins):
        if origin != "*" and not is_origin(origin):
            problems.append(
                f"front.cors_origins[{index}]: got {_shown(origin)}, expected http(s)://HOST or http(s)://HOST:PORT"
            )
    return problems


def _check_tls(tls: TlsConfig) -> list[str]:
    problems = _check_list("front.tls.names", tls.names)
    for index, name in enumerate(tls.names):
        if not is_ip_address(name) and not is_dns_name(name.removeprefix("*.")):
            problems.append(f"front.tls.names[{index}]: got {_shown(name)}, expected a DNS name or an IP address")
    for key, path in (("certificate", tls.certificate), ("private_key", tls.private_key), ("client_ca", tls.client_ca)):
        if (path or key != "client_ca") and (_PATH.fullmatch(path) is None or ".." in path.split("/")):
            problems.append(f"front.tls.{key}: got {_shown(path)}, expected an absolute path of letters, digits and ._@+-")
    return problems + _check_range("front.tls.client_port", tls.client_port, *_PORTS)


def _check_limits(limits: LimitsConfig) -> list[str]:
    return [
        *_check_range("front.limits.requests_per_minute", limits.requests_per_minute, 0, _MOST),
        *_check_range("front.limits.concurrency", limits.concurrency, 0, _MOST),
        *_check_range("front.limits.max_tokens", limits.max_tokens, 0, _MOST),
        *_check_range("front.limits.refusals_per_minute", limits.refusals_per_minute, 1, _MOST),
    ]


def _check_range(key: str, value: int, least: int, most: int) -> list[str]:
    return [] if least <= value <= most else [f"{key}: got {value}, expected {least} to {most}"]


def _check_list(key: str, entries: tuple[object, ...]) -> list[str]:
    return [] if len(entries) <= _MOST_ENTRIES else [f"{key}: got {len(entries)} entries, expected at most {_MOST_ENTRIES}"]


def _shown(text: str) -> str:
    return repr(text) if len(text) <= 80 else repr(text[:80]) + "..."
