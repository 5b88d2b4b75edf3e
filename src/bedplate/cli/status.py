"""Show what runs: on a host, its virtual machine; inside the operating system image, the system itself.

examples:
  bedplate status            print a short summary
  bedplate status --json     print one JSON object

Exit status: 0 when the endpoint serves, 4 when no machine is running or the endpoint does not answer.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import time
from dataclasses import asdict
from typing import Any

from bedplate.errors import CommandError, NotRunningError
from bedplate.host.root.root import Root
from bedplate.host.system.system import is_bedplate_system, read_system
from bedplate.model.system import Unit
from bedplate.model.units import render_seconds, render_size

HELP = "show what runs: the machine, its endpoint and its models"
_INSIDE_PORT = 8080
_PROBE_S = 5.0
_UNITS_S = 20.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The one option of `bedplate status`: one JSON object instead of lines for people."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def main(arguments: argparse.Namespace) -> int:
    """Exit status 0 when the endpoint answers /health with 200, else 4: nothing runs, or it does not serve yet."""
    root = Root()
    record = _inside(root) if is_bedplate_system(root) else _outside()
    if arguments.json:
        print(json.dumps(record))
    elif record["where"] == "system":
        _print_inside(record)
    else:
        _print_outside(record)
    return 0 if record.get("health") == 200 else NotRunningError.exit_code


def probe_health(port: int) -> tuple[int | None, list[str]]:
    """(HTTP status of /health, models that are served); (None, []) when nothing answers."""
    status, _ = _get(port, "/health")
    if status is None:
        return None, []
    listed, body = _get(port, "/v1/models")
    try:
        return status, [str(row["id"]) for row in json.loads(body)["data"]] if listed == 200 else []
    except (ValueError, KeyError, TypeError):
        return status, []


def _get(port: int, path: str) -> tuple[int | None, str]:
    # A socket of our own: importing http.client takes longer than all else that status does.
    request = f"GET {path} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=_PROBE_S) as client:
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


def _inside(root: Root) -> dict[str, Any]:
    health, models = probe_health(_INSIDE_PORT)
    units = _read_units("bedplate-*", "--all")
    failed = _read_units("--state=failed")
    return {
        "schema": 1,
        "where": "system",
        **asdict(read_system(root)),
        "units": [asdict(unit) for unit in units],
        "failed": [unit.name for unit in failed],
        "endpoint": f"http://127.0.0.1:{_INSIDE_PORT}",
        "health": health,
        "models": models,
    }


def _read_units(*words: str) -> tuple[Unit, ...]:
    from bedplate.act import systemd

    try:
        return systemd.list_units(*words, timeout_s=_UNITS_S)
    except CommandError as error:
        print(f"units: unknown: {error.message}", file=sys.stderr)
        return ()


def _print_outside(record: dict[str, Any]) -> None:
    if not record["running"]:
        print("No machine is running. Start one: bedplate up")
        return
    memory = render_size(record["memory_bytes"])
    print(f"machine   up for {render_seconds(record['uptime_s'])}, process {record['pid']}")
    print(f"image     {record['image']}, {record['mode']} boot")
    print(f"hardware  {record['cpus']} CPUs, {memory}, {record['accel']}")
    _print_endpoint(record)


def _print_inside(record: dict[str, Any]) -> None:
    secure = {True: "on", False: "off", None: "not available (no UEFI)"}[record["secure_boot"]]
    used = record["memory_bytes"] - record["memory_available_bytes"]
    print(f"image     {record['version']} ({record['variant']}), kernel {record['kernel']}")
    print(f"root      {record['slot'] or 'not a partition'}, verity {'on' if record['verity'] else 'OFF'}")
    print(f"boot      Secure Boot {secure}, up for {render_seconds(record['uptime_s'])}")
    print(f"/var      {record['var']}")
    print(f"memory    {render_size(used)} of {render_size(record['memory_bytes'])} in use")
    for unit in record["units"]:
        print(f"unit      {unit['name']}: {unit['active']} ({unit['sub']})")
    if record["failed"]:
        print(f"FAILED    {', '.join(record['failed'])}")
    _print_endpoint(record)


def _print_endpoint(record: dict[str, Any]) -> None:
    health = record["health"]
    says = {200: "serving", None: "no answer", 503: "not ready yet"}.get(health, f"answers {health}")
    print(f"endpoint  {record['endpoint']}: {says}")
    print(f"models    {', '.join(record['models']) or 'none'}")
