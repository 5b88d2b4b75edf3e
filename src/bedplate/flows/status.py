"""What runs here: on a host its virtual machine, inside the operating system image the system itself."""

from __future__ import annotations

import socket
import time
from dataclasses import asdict
from typing import Any

from bedplate.engines.served import parse_served
from bedplate.errors import CommandError, ReadError
from bedplate.front.tls import LOCAL_SOCKET
from bedplate.host.root.root import Root
from bedplate.host.system.booted import is_bedplate_system
from bedplate.host.system.front_record import read_front_record
from bedplate.host.system.system import read_system
from bedplate.model.machine_config import DEFAULT_PORT
from bedplate.model.progress import Progress
from bedplate.model.system import Unit

_PROBE_S = 5.0
_UNITS_S = 20.0


def read_status(progress: Progress) -> dict[str, Any]:
    """One JSON object: "where" is "host" or "system"; "health" the HTTP status of /health, None where nothing answers.

    What cannot be read is a note to progress, and missing in the object.
    """
    root = Root()
    return _inside(root, progress) if is_bedplate_system(root) else _outside()


def probe_health(front: int | str) -> tuple[int | None, list[str]]:
    """(HTTP status of /health, models that are served) of a port of 127.0.0.1 or a Unix socket; (None, []) when nothing
    answers."""
    status, _ = _get(front, "/health")
    if status is None:
        return None, []
    listed, body = _get(front, "/v1/models")
    try:
        return status, [model.id for model in parse_served(body)] if listed == 200 else []
    except ValueError:
        return status, []


def _connect(front: int | str) -> socket.socket:
    if isinstance(front, int):
        return socket.create_connection(("127.0.0.1", front), timeout=_PROBE_S)
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(_PROBE_S)
    client.connect(front)
    return client


def _get(front: int | str, path: str) -> tuple[int | None, str]:
    # A socket of our own: importing http.client takes longer than all else that status does.
    request = f"GET {path} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    try:
        with _connect(front) as client:
            client.sendall(request.encode())
            answer = b""
            while chunk := client.recv(65536):
                answer += chunk
    except OSError:
        return None, ""
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(None, 2)
    return (int(words[1]), body.decode(errors="replace")) if len(words) > 1 and words[1].isdigit() else (None, "")


def _outside() -> dict[str, Any]:
    from bedplate.act.paths import find_paths
    from bedplate.image.machine import read_machine

    machine = read_machine(find_paths())
    if machine is None:
        return {"schema": 1, "where": "host", "running": False}
    if machine.tls:  # its models are listed for holders of a key alone
        from bedplate.image.machine import read_health

        health, models = read_health(machine.port, tls=True, timeout_s=_PROBE_S), list(machine.models)
    else:
        health, models = probe_health(machine.port)
    return {
        "schema": 1,
        "where": "host",
        "running": True,
        "image": machine.version,
        "mode": machine.mode,
        "accel": machine.accel,
        "memory_bytes": machine.memory_bytes,
        "cpus": machine.cpus,
        "uptime_s": round(time.time() - machine.since, 1),
        "pid": machine.qemu.pid if machine.qemu is not None else None,
        "endpoint": machine.endpoint,
        "health": health,
        "models": models,
        "directory": str(machine.directory),
    }


def _inside(root: Root, progress: Progress) -> dict[str, Any]:
    health, models = probe_health(LOCAL_SOCKET)
    front = _read_front(root, progress)
    units = _read_units(progress, "bedplate-*", "--all")
    failed = _read_units(progress, "--state=failed")
    return {
        "schema": 1,
        "where": "system",
        **asdict(read_system(root)),
        "units": [asdict(unit) for unit in units],
        "failed": [unit.name for unit in failed],
        "endpoint": f"{'https' if front.get('tls') else 'http'}://127.0.0.1:{front.get('port', DEFAULT_PORT)}",
        "front": front,
        "config": _read_config(root, progress),
        "health": health,
        "models": models,
        "engines": _read_engines(root, progress),
    }


def _read_front(root: Root, progress: Progress) -> dict[str, Any]:
    try:
        return read_front_record(root)
    except ReadError as error:
        progress.note(error.message)
        return {}


def _read_config(root: Root, progress: Progress) -> dict[str, Any]:
    """Which configuration is in force, and whether it waits to be confirmed; {} where none was ever applied."""
    from bedplate.act.configuration.place import ConfigPlace
    from bedplate.act.configuration.records import read_in_force

    try:
        record = read_in_force(ConfigPlace(top=root.at("/")))
    except ReadError as error:
        progress.note(error.message)
        return {}
    return {**asdict(record.identity), "waits": record.waits} if record is not None else {}


def _read_engines(root: Root, progress: Progress) -> dict[str, Any]:
    from bedplate.flows.supervise import read_supervised

    try:
        return read_supervised(root)
    except ReadError as error:
        progress.note(error.message)
        return {}


def _read_units(progress: Progress, *words: str) -> tuple[Unit, ...]:
    from bedplate.act import systemd

    try:
        return systemd.list_units(*words, timeout_s=_UNITS_S)
    except CommandError as error:
        progress.note(f"units: unknown: {error.message}")
        return ()
