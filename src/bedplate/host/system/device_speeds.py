"""Records of measured disks (`bedplate measure`), one JSON file a disk in /var/lib/bedplate/disks."""

from __future__ import annotations

import dataclasses
import json

from bedplate.errors import ReadError
from bedplate.host.root.jsontext import parse_json
from bedplate.host.root.root import Root
from bedplate.model.device_speed import DeviceSpeed

DIRECTORY = "/var/lib/bedplate/disks"
_SCHEMA = 2
_AGAIN = "Remove it and measure again: bedplate measure DIRECTORY"
_LIMIT = 64  # records that are read; a storage server has some 30 disks


def read_device_speeds(root: Root) -> tuple[DeviceSpeed, ...]:
    """Records of the disks that are here, by name; () without any.

    Left out is the record of a device that is gone or has another model or number now. Raises ReadError for a file that is
    no record.
    """
    found: list[DeviceSpeed] = []
    for name in root.listdir(DIRECTORY)[:_LIMIT]:
        if name.endswith(".json") and not name.startswith("."):
            where = f"{DIRECTORY}/{name}"
            speed = parse_device_speed(root.read(where).value or "", where)
            model = (root.read(f"/sys/block/{speed.device}/device/model").value or "").strip()
            if root.read(f"/sys/block/{speed.device}/dev").value == speed.number and model == speed.model:
                found.append(speed)
    return tuple(sorted(found, key=lambda speed: speed.device))


def render_device_speed(speed: DeviceSpeed) -> str:
    """The record as JSON text."""
    return json.dumps({"schema": _SCHEMA, **dataclasses.asdict(speed)}, indent=2) + "\n"


def parse_device_speed(text: str, where: str) -> DeviceSpeed:
    """The record of a JSON text. Raises ReadError naming the file and what is wrong."""
    fields = {field.name: field.type for field in dataclasses.fields(DeviceSpeed)}
    try:
        record = parse_json(text, f"{where}:")
    except ReadError as error:
        raise ReadError(error.message, hint=_AGAIN) from error
    wrong = _problem(record, fields)
    if wrong:
        raise ReadError(f"{where}: {wrong}", hint=_AGAIN)
    return DeviceSpeed(**{name: record[name] for name in fields})


def _problem(record: object, fields: dict[str, object]) -> str:
    if not isinstance(record, dict) or record.get("schema") != _SCHEMA:
        return f"expected an object with schema {_SCHEMA}"
    for name, kind in fields.items():
        if name not in record:
            return f"{name}: is missing"
        value = record[name]
        if kind == "int" and (type(value) is not int or value < 0):
            return f"{name}: expected a number from 0 on, got {value!r}"
        if kind == "int | None" and value is not None and (type(value) is not int or value < 0):
            return f"{name}: expected a number from 0 on or null, got {value!r}"
        if kind == "str" and not isinstance(value, str):
            return f"{name}: expected text, got {value!r}"
    if not str(record["number"]).replace(":", "").isdigit() or "/" in str(record["device"]):
        return f"device {record['device']!r} {record['number']!r}: expected a name and a number such as 259:0"
    return ""
