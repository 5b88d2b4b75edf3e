"""Watch the engines from beside: end one that is stuck, give one up that fails again and again, and say why.

Nothing of it is in the path of a token: the front passes requests on as it did before, whether this runs or not.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bedplate.act import systemd
from bedplate.act.consoles import write_consoles
from bedplate.act.files import write_whole
from bedplate.act.front_stats import read_front
from bedplate.errors import CommandError, PreflightError, ReadError
from bedplate.front.haproxy import STATS_SOCKET
from bedplate.front.routes import backend_name
from bedplate.host.root.root import Root
from bedplate.model.instance import ENGINE_DIRECTORY, unit_of
from bedplate.model.progress import Progress
from bedplate.model.supervision import EngineOrder, EngineReading, EngineRecord, EngineState, FrontCheck, UnitReading
from bedplate.plan.supervise import supervise

SUPERVISED = "/run/bedplate/supervised.json"
"""What the supervisor says of each engine."""
_INTERVAL_S = 2.0
_UNITS_EVERY = 10  # looks: the units are asked each time only while an engine does not serve
_PROPERTIES = ("ActiveState", "InvocationID", "NRestarts", "Result", "ExecMainStatus")
_LINES = 20
_GONE_S = 20.0

OnRemark = Callable[[str, str], None]
"""(instance of a model, what happened to its engine)."""


def watch(progress: Progress, on_remark: OnRemark, *, looks: int | None = None) -> None:
    """Look at the engines every two seconds, until interrupted or so many times. Raises PreflightError without systemd."""
    if not systemd.is_running():
        raise PreflightError("process 1 is not systemd", hint="Engines are units of it; run this inside the system image.")
    root = Root()
    records = _read_records(root, progress)
    units: dict[str, UnitReading] = {}
    number = 0
    while looks is None or number < looks:
        began = time.monotonic()
        instances = find_instances(root)
        settled = (EngineState.SERVING, EngineState.FAILED, EngineState.STOPPED)
        trouble = any(records.get(name, EngineRecord()).state not in settled for name in instances)
        fronts = read_front(root.at(STATS_SOCKET))
        serving = [name for name in instances if records.get(name, EngineRecord()).state is EngineState.SERVING]
        down = fronts is not None and not all(fronts[name].up for name in map(backend_name, serving) if name in fronts)
        if trouble or down or number % _UNITS_EVERY == 0:
            try:
                units = read_units(instances)
            except CommandError as error:
                progress.note(f"units: {error.message}")
        before = dict(records)
        for name in instances:
            if name in units:
                front = fronts.get(backend_name(name)) if fronts is not None else None
                records[name] = _look(name, records.get(name, EngineRecord()), units[name], front, on_remark, progress)
        records = {name: records[name] for name in instances if name in records}
        if records != before or number == 0:
            write_whole(root.at(SUPERVISED), render(records), sync=False)
        number += 1
        time.sleep(max(0.0, _INTERVAL_S - (time.monotonic() - began)))


def _look(
    name: str, record: EngineRecord, unit: UnitReading, front: FrontCheck | None, on_remark: OnRemark, progress: Progress
) -> EngineRecord:
    ended = unit.restarts > record.restarts or (unit.active == "failed" and record.counted != unit.invocation)
    words = read_last_words(unit_of(name), unit.invocation if unit.active == "active" else "") if ended else ()
    step = supervise(record, EngineReading(front=front, unit=unit, now_s=time.monotonic(), last_words=words))
    if step.remark:
        on_remark(name, step.remark)
    try:
        if step.order is EngineOrder.KILL:
            systemd.kill(unit_of(name), "KILL")
            wait_gone(unit_of(name), progress)
        elif step.order is EngineOrder.STOP:
            systemd.stop([unit_of(name)])
            write_consoles(Root(), f"bedplate: engine {name} failed: {step.record.because}")  # `bedplate up` reads it there
    except CommandError as error:
        progress.note(f"{unit_of(name)}: {error.message}")
        return record  # it is tried again at the next look
    return step.record


def find_instances(root: Root) -> tuple[str, ...]:
    """Instances that `serve prepare` has written, sorted."""
    return tuple(sorted(name.removesuffix(".env") for name in root.listdir(ENGINE_DIRECTORY) if name.endswith(".env")))


def read_units(instances: tuple[str, ...]) -> dict[str, UnitReading]:
    """The unit of each instance. Raises CommandError."""
    shown = systemd.show([unit_of(name) for name in instances], _PROPERTIES)
    return {name: _reading(shown[unit_of(name)]) for name in instances}


def _reading(properties: dict[str, str]) -> UnitReading:
    def number(key: str) -> int:
        text = properties.get(key, "")
        return int(text) if text.isdigit() else 0

    return UnitReading(
        active=properties.get("ActiveState", ""),
        invocation=properties.get("InvocationID", ""),
        restarts=number("NRestarts"),
        result=properties.get("Result", ""),
        status=number("ExecMainStatus"),
    )


def read_last_words(unit: str, running: str) -> tuple[str, ...]:
    """The last lines that the programs of a unit wrote before they ended, by the journal; () where it cannot be read.

    running: the invocation that runs now, whose lines are not meant; "" where none does.
    """
    from bedplate.act.run import run

    argv = ["journalctl", "--no-pager", "--quiet", "--output=json", f"--lines={_LINES}", f"_SYSTEMD_UNIT={unit}"]
    try:
        text = run(argv, timeout_s=systemd.ANSWER_S, split=True).output
    except CommandError:
        return ()
    return parse_journal(text, running)


def parse_journal(text: str, running: str) -> tuple[str, ...]:
    """The messages of the last invocation but `running` in lines of journalctl's JSON; what is no such line is left out."""
    rows: list[tuple[str, str]] = []
    for line in text.splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and isinstance(record.get("MESSAGE"), str):
            rows.append((str(record.get("_SYSTEMD_INVOCATION_ID", "")), record["MESSAGE"]))
    ended = [invocation for invocation, _ in rows if invocation != running]
    if not ended:
        return ()
    return tuple(
        "".join(character for character in message if character.isprintable())
        for invocation, message in rows
        if invocation == ended[-1] and message
    )


def wait_gone(unit: str, progress: Progress) -> None:
    """Until the control group of a killed unit has given its memory back; what is left after 20 s is noted."""
    group = Path("/sys/fs/cgroup") / systemd.show([unit], ["ControlGroup"])[unit].get("ControlGroup", "").lstrip("/")
    deadline = time.monotonic() + _GONE_S
    while time.monotonic() < deadline:
        try:
            populated = "populated 1" in (group / "cgroup.events").read_text()
        except OSError:
            return
        if not populated:
            return
        time.sleep(0.1)
    progress.note(f"{unit}: processes are left {_GONE_S:.0f} s after they were killed; they wait for a device")


def render(records: dict[str, EngineRecord]) -> str:
    """The records as JSON, by instance."""
    return json.dumps({"schema": 1, "engines": {name: asdict(record) for name, record in sorted(records.items())}}) + "\n"


def _read_records(root: Root, progress: Progress) -> dict[str, EngineRecord]:
    """What the supervisor before this one remembered; {} where there was none, or its file cannot be read."""
    try:
        return {
            name: EngineRecord(
                **record
                | {
                    "state": EngineState(record["state"]),
                    "reasons": tuple(record["reasons"]),
                    "last_words": tuple(record["last_words"]),
                }
            )
            for name, record in read_supervised(root).items()
        }
    except (ReadError, ValueError, KeyError, TypeError) as error:
        progress.note(f"{SUPERVISED}: begins anew: {error}")
        return {}


def read_supervised(root: Root) -> dict[str, Any]:
    """What the supervisor last wrote, by instance; {} where none runs. Raises ReadError for a file that is none of its."""
    text = root.read_text(SUPERVISED)
    if text is None:
        return {}
    try:
        return dict(json.loads(text)["engines"])
    except (ValueError, KeyError, TypeError) as error:
        raise ReadError(f"{SUPERVISED}: cannot be read: {error}") from error
