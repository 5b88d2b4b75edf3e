"""What runs, in a few lines: the virtual machine of a host, or the operating system itself."""

from __future__ import annotations

from typing import Any

from bedplate.model.units import render_seconds, render_size
from bedplate.model.wording import plural


def render_status(record: dict[str, Any]) -> str:
    """The JSON object of `bedplate status` as lines for people."""
    lines = _system(record) if record["where"] == "system" else _host(record)
    return "\n".join(lines) + "\n"


def _host(record: dict[str, Any]) -> list[str]:
    if not record["running"]:
        return ["No machine is running. Start one: bedplate up"]
    memory = render_size(record["memory_bytes"])
    return [
        f"machine   up for {render_seconds(record['uptime_s'])}, process {record['pid']}",
        f"image     {record['image']}, {record['mode']} boot",
        f"hardware  {record['cpus']} CPUs, {memory}, {record['accel']}",
        *_endpoint(record),
    ]


def _system(record: dict[str, Any]) -> list[str]:
    secure = {True: "on", False: "off", None: "not available (no UEFI)"}[record["secure_boot"]]
    used = record["memory_bytes"] - record["memory_available_bytes"]
    return [
        f"image     {record['version']} ({record['variant']}), kernel {record['kernel']}",
        f"root      {record['slot'] or 'not a partition'}, verity {'on' if record['verity'] else 'OFF'}",
        f"boot      Secure Boot {secure}, up for {render_seconds(record['uptime_s'])}",
        f"/var      {record['var']}",
        f"memory    {render_size(used)} of {render_size(record['memory_bytes'])} in use",
        *(f"unit      {unit['name']}: {unit['active']} ({unit['sub']})" for unit in record["units"]),
        *([f"FAILED    {', '.join(record['failed'])}"] if record["failed"] else []),
        *(_engine(name, engine) for name, engine in record.get("engines", {}).items()),
        *_config(record.get("config", {})),
        *_front(record.get("front", {})),
        *_endpoint(record),
    ]


def _config(config: dict[str, Any]) -> list[str]:
    """Which machine.toml is in force, and that it comes back by itself where nobody confirms it."""
    if not config:
        return []
    said = f"config    number {config['number']}, sequence {config['sequence']}, sha256 {config['sha256'][:12]}"
    lines = [f"{said}, applied at {config['at']} by {config['who']}"]
    return [*lines, *(["CONFIRM   it is taken back unless you run: bedplate config confirm"] if config["waits"] else [])]


def _front(front: dict[str, Any]) -> list[str]:
    """Who is answered, and everything that a person should know: what is open, and what is damaged."""
    if not front:
        return []
    if front["problems"]:
        return [f"CLOSED    {problem.splitlines()[0]}" for problem in front["problems"]]
    certificate = front["certificate"] or {}
    kinds = {
        "own-ca": "certificate of the machine's own CA",
        "files": "certificate from files",
        "ephemeral": "self-signed certificate",
        "temporary": "temporary certificate until /var is open",
    }
    tls = f"TLS with a {kinds.get(str(certificate.get('kind')), 'certificate')}" if front["tls"] else "plain HTTP"
    keys = f"{plural(front['keys'], 'key')}{'' if front['keys_complete'] else ', more once /var is open'}"
    lines = [f"front     {tls}; {keys if front['require_key'] else 'no key is needed'}"]
    return [*lines, *(f"OPEN      {opening}" for opening in front["openings"])]


def _engine(name: str, engine: dict[str, Any]) -> str:
    counts = [f"{plural(engine['stuck'], 'time')} stuck"] if engine["stuck"] else []
    counts += [f"ended by itself {plural(engine['ended'], 'time')}"] if engine["ended"] else []
    told = "; ".join([*([engine["because"]] if engine["because"] else []), *counts])
    return f"engine    {name}: {engine['state']}{f' ({told})' if told else ''}"


def _endpoint(record: dict[str, Any]) -> list[str]:
    health = record["health"]
    says = {200: "serving", None: "no answer", 503: "not ready yet"}.get(health, f"answers {health}")
    return [f"endpoint  {record['endpoint']}: {says}", f"models    {', '.join(record['models']) or 'none'}"]
