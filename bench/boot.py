"""Power-on to first token: from the start of QEMU until a client on the host has read a 200 with a token in it.

The client first knocks at /health, where every answer counts, also a 503; from the first one on it asks for a chat
completion of one token, a quarter of a second after each refusal. Knocking gives up after a second and a half: a connection
to a guest that has no address yet hangs in QEMU's network, and the next one comes through as soon as there is one.

Wall time is from the start of the QEMU process as the kernel has it (10 ms). Beside it stand the CPU seconds that QEMU had
used when the token came: on a machine that others use too they say more.
"""

from __future__ import annotations

import http.client
import json
import os
import time
from dataclasses import dataclass

from bedplate.act.process import ProcessIdentity, is_alive
from bedplate.engines.client import Endpoint, fetch
from bedplate.errors import BootError
from bedplate.image.machine import Machine, read_tail
from bedplate.image.qemu import SERIAL_LOG
from bedplate.model.machine import BootMode
from bedplate.model.progress import Progress
from bench.arms import MODEL, Arm, Bench, Seasoned, cpu_seconds, powered_on, season

FIRST, LATER = "first", "later"
_KNOCK_S, _TOKEN_S, _PAUSE_S = 1.5, 60.0, 0.25
_LIMIT_S = 420.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    round: int
    arm: str
    mode: str
    boot: str
    """first: a new disk, on which bedplate makes its encrypted /var; later: a disk that was booted and shut down before."""
    wall_s: float
    cpu_s: float
    answer_s: float
    """Wall seconds until anything answered on the port."""
    load: float
    """Load average of the host over the last minute when it was measured."""


def measure_round(
    bench: Bench, number: int, modes: tuple[BootMode, ...], seasoned: Seasoned, progress: Progress
) -> list[Sample]:
    """Every arm, mode and boot once, the arms next to each other. seasoned is filled by the first round."""
    samples = []
    for mode in modes:
        # Firmware takes the same time in both; a first boot with it is measured once, which the later ones need anyway.
        for boot in (FIRST, LATER) if mode is BootMode.DIRECT or number == 1 else (LATER,):
            for arm in bench.arms:
                with progress.phase(f"round {number}: {mode}, {boot} boot, {arm.name}"):
                    samples.append(_measure(bench, arm, mode, boot, number, seasoned, progress))
                    progress.note(f"  {samples[-1].wall_s:.1f} s, {samples[-1].cpu_s:.1f} CPU s")
    return samples


def _measure(
    bench: Bench,
    arm: Arm,
    mode: BootMode,
    boot: str,
    number: int,
    seasoned: Seasoned,
    progress: Progress,
) -> Sample:
    disk = seasoned[(arm.name, mode)] if boot == LATER else None
    with powered_on(bench, arm, mode, progress, seasoned=disk) as machine:
        process = machine.qemu
        if process is None:
            raise BootError(f"{arm.name}: QEMU did not start")
        answer_s = _await_answer(machine, process)
        wall_s, cpu_s = await_token(machine, process)
        sample = Sample(
            round=number,
            arm=arm.name,
            mode=str(mode),
            boot=boot,
            wall_s=round(wall_s, 2),
            cpu_s=round(cpu_s, 2),
            answer_s=round(answer_s, 2),
            load=round(os.getloadavg()[0], 2),
        )
        if boot == FIRST and (arm.name, mode) not in seasoned:
            progress.detail("the rest of the boot, and the shutdown, for the later boots")
            seasoned[(arm.name, mode)] = season(bench, arm, mode, machine, progress)
    return sample


def _await_answer(machine: Machine, process: ProcessIdentity) -> float:
    while True:
        if _request(machine.port, "/health", None, timeout_s=_KNOCK_S) is not None:
            return since_start(process)
        _check(machine, process)
        time.sleep(_PAUSE_S)


def await_token(machine: Machine, process: ProcessIdentity) -> tuple[float, float]:
    """(wall seconds, CPU seconds of QEMU) from its start until a client had a token. Raises BootError after 7 minutes."""
    body = json.dumps({"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": "What is bedplate?"}]})
    while True:
        answer = _request(machine.port, "/v1/chat/completions", body, timeout_s=_TOKEN_S)
        wall_s, cpu_s = since_start(process), cpu_seconds(process.pid)
        if answer is not None and answer[0] == 200 and json.loads(answer[1])["usage"]["completion_tokens"] == 1:
            return wall_s, cpu_s
        _check(machine, process)
        time.sleep(_PAUSE_S)


def since_start(process: ProcessIdentity) -> float:
    """Seconds since the process was started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - process.start_ticks / os.sysconf("SC_CLK_TCK")


def _check(machine: Machine, process: ProcessIdentity) -> None:
    if not is_alive(process) or since_start(process) > _LIMIT_S:
        tail = "\n".join(read_tail(machine.directory / SERIAL_LOG).splitlines()[-12:])
        raise BootError(f"no token after {since_start(process):.0f} s; the machine's last lines:\n{tail}")


def _request(port: int, path: str, body: str | None, *, timeout_s: float) -> tuple[int, bytes] | None:
    try:
        reply = fetch(Endpoint(host="127.0.0.1", port=port), path, body=body.encode() if body else None, timeout_s=timeout_s)
        return reply.status, reply.body
    except (OSError, http.client.HTTPException):
        return None
