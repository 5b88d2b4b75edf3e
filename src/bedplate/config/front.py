"""[front]: where the front end listens, for whom, and how it proves who it is."""

from __future__ import annotations

import re

from bedplate.config.kind import PREPARE_FRONT, ConfigKind, check_length, check_range, shown
from bedplate.model.config_change import RenderedFile
from bedplate.model.machine_config import MACHINE_FILES, FrontConfig, LimitsConfig, MachineConfig, TlsConfig
from bedplate.model.network_names import is_dns_name, is_ip_address, is_origin

_PATH = re.compile(r"/[A-Za-z0-9._/@+-]{1,250}")
_MOST = 1_000_000
_PORTS = (1024, 65535)  # HAProxy has no capabilities, so that it cannot listen below


def render_machine_file(text: str, *, serving_changes: bool) -> RenderedFile:
    """The configuration itself, where `serve prepare` and all else read it.

    serving_changes: [front], or the engine of a model, is not as it was.
    """
    return RenderedFile(path=MACHINE_FILES[0], text=text, table="front", actions=(PREPARE_FRONT,) if serving_changes else ())


def _check(config: MachineConfig) -> list[str]:
    front = config.front
    problems = _check_front(front) + _check_tls(front.tls) + _check_limits(front.limits)
    if front.tls.client_ca and front.tls.client_port == front.port:
        problems.append(f"front.tls.client_port: got {front.port}, which front.port has, expected another port")
    if front.tls.client_ca and front.insecure:
        problems.append("front.tls.client_ca: is set, but front.insecure = true turns TLS off; expected one of them")
    return problems


def _check_front(front: FrontConfig) -> list[str]:
    problems = check_length("front.addresses", front.addresses) + check_length("front.cors_origins", front.cors_origins)
    for index, address in enumerate(front.addresses):
        if address != "*" and not is_ip_address(address):
            problems.append(f'front.addresses[{index}]: got {shown(address)}, expected an IP address or "*"')
    if len(set(front.addresses)) < len(front.addresses) or ("*" in front.addresses and len(front.addresses) > 1):
        problems.append('front.addresses: names an address twice; "*" already stands for all of them')
    problems += check_range("front.port", front.port, *_PORTS)
    for index, origin in enumerate(front.cors_origins):
        if origin != "*" and not is_origin(origin):
            problems.append(
                f"front.cors_origins[{index}]: got {shown(origin)}, expected http(s)://HOST or http(s)://HOST:PORT"
            )
    return problems


def _check_tls(tls: TlsConfig) -> list[str]:
    problems = check_length("front.tls.names", tls.names)
    for index, name in enumerate(tls.names):
        if not is_ip_address(name) and not is_dns_name(name.removeprefix("*.")):
            problems.append(f"front.tls.names[{index}]: got {shown(name)}, expected a DNS name or an IP address")
    for key, path in (("certificate", tls.certificate), ("private_key", tls.private_key), ("client_ca", tls.client_ca)):
        if (path or key != "client_ca") and (_PATH.fullmatch(path) is None or ".." in path.split("/")):
            problems.append(f"front.tls.{key}: got {shown(path)}, expected an absolute path of letters, digits and ._@+-")
    return problems + check_range("front.tls.client_port", tls.client_port, *_PORTS)


def _check_limits(limits: LimitsConfig) -> list[str]:
    return [
        *check_range("front.limits.requests_per_minute", limits.requests_per_minute, 0, _MOST),
        *check_range("front.limits.concurrency", limits.concurrency, 0, _MOST),
        *check_range("front.limits.max_tokens", limits.max_tokens, 0, _MOST),
        *check_range("front.limits.refusals_per_minute", limits.refusals_per_minute, 1, _MOST),
    ]


KIND = ConfigKind(table="front", check=_check, cuts_off=True)
