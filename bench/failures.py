"""python -m bench.failures: what clients see while an engine, its memory, a disk or the host fails, and how long it lasts.

One emulated guest with two models. A client of each model asks for one token twice a second, from outside, and notes what
each request ended with. A fault is planted for the first model; measured are

- told: from the fault to the end of the first request that was answered with an error of the front;
- back: from the fault to the end of the first good answer after the last error;
- errors by status, requests that ended without a status, and errors of the second model, which nothing should reach.

The guest's clock says when a fault began. In an emulated guest an engine takes some ten times as long to start as on a real
machine, so that "back" is mostly that. --soak-minutes adds a mixed load beside a busy loop in neighbour.slice: every engine
that is taken for stuck meanwhile is a false alarm.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from tests.serving.tiny_gguf import write_tiny_model

from bedplate.act.paths import Paths, find_paths
from bedplate.host.kernel.cpuinfo import read_cpuinfo
from bedplate.host.root.root import Root
from bedplate.host.system.port import find_free_port
from bedplate.image.console import ask_console
from bedplate.image.qemu import CONSOLE_SOCKET, QMP_SOCKET
from bedplate.image.qmp import connect_unix, send_qmp
from bedplate.model.units import MIB

VICTIM, OTHER = "victim", "bystander"
_UNIT = f"bedplate-engine@{VICTIM}"
_EVERY_S = 0.5
_LONGEST_S = 900.0
"""A fault whose end is not seen by then is published as that."""
_QUIET_S = 10.0
"""A fault is over when all requests were good for so long."""
_CROWD = 50
_SLOW_BYTES_S = 256 * 1024
_FAULTS = {
    "engine killed": f"systemctl kill --signal=KILL {_UNIT}",
    "engine stopped (SIGSTOP)": f"systemctl kill --kill-whom=all --signal=STOP {_UNIT}",
    "engine out of memory": f"echo 1M >/sys/fs/cgroup$(systemctl show -P ControlGroup {_UNIT})/memory.max",
    "engine killed, its disk at 256 KiB/s": f"systemctl kill --signal=KILL {_UNIT}",
}
_FULL_VAR, _AT_ONCE, _CANNOT_START = "/var full for a minute", f"{_CROWD} clients at once", "engine that ends at each start"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request as its client saw it."""

    ended_s: float
    """Wall clock of this host."""
    outcome: str
    """HTTP status, or the exception of a connection that ended without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One fault, once."""

    round: int
    fault: str
    told_s: float | None = None
    back_s: float | None = None
    outcomes: dict[str, int] = field(default_factory=dict)
    """Of the model that the fault is for, while it lasts."""
    bystander: dict[str, int] = field(default_factory=dict)
    note: str = ""


class Guest:
    """The machine that `bedplate up` has started, and its clients."""

    def __init__(self, paths: Paths, port: int) -> None:
        self.paths, self.port = paths, port

    def shell(self, command: str) -> str:
        with connect_unix(self.paths.machine, CONSOLE_SOCKET, timeout_s=10.0) as console:
            return ask_console(console, command, silence_s=_LONGEST_S, timeout_s=_LONGEST_S).output

    def clock_ahead_s(self) -> float:
        """How far the guest's clock is ahead of this host's: of five answers, that which came soonest."""
        looks = []
        for _ in range(5):
            before = time.time()
            said = float(self.shell("date +%s.%N"))
            looks.append((time.time() - before, said - (before + time.time()) / 2))
        return min(looks)[1]

    def plant(self, command: str, ahead_s: float) -> float:
        """Run the command; when it began, in this host's time."""
        return float(self.shell(f"date +%s.%N; {command}").split()[0]) - ahead_s

    def ask(self, model: str, tokens: int = 1, prompt: str = "a", *, stream: bool = False) -> Request:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_LONGEST_S)
        body = {"model": model, "prompt": prompt, "max_tokens": tokens, "stream": stream}
        try:
            connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            if not stream:
                json.loads(text)  # an error that is no JSON counts as one
            outcome = str(answer.status)
        except (OSError, http.client.HTTPException, ValueError) as error:
            outcome = repr(error)
        finally:
            connection.close()
        return Request(ended_s=time.time(), outcome=outcome)

    def engines(self) -> dict[str, Any]:
        """What the supervisor says of each engine."""
        text = self.shell("cat /run/bedplate/supervised.json")
        # The supervisor says on every console that it gives an engine up, on this one, too.
        found: dict[str, Any] = json.loads(text[text.index("{") : text.rindex("}") + 1])["engines"]
        return found

    @contextlib.contextmanager
    def clients(self) -> Iterator[dict[str, list[Request]]]:
        """A client for each model; the lists grow."""
        over = threading.Event()
        seen: dict[str, list[Request]] = {VICTIM: [], OTHER: []}

        def work(model: str) -> None:
            while not over.wait(_EVERY_S):
                seen[model].append(self.ask(model))

        threads = [threading.Thread(target=work, args=(model,)) for model in seen]
        for thread in threads:
            thread.start()
        try:
            yield seen
        finally:
            over.set()
            for thread in threads:
                thread.join()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.failures", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="of all faults (%(default)s)")
    parser.add_argument("--soak-minutes", type=float, default=0.0, metavar="N", help="mixed load beside a busy loop")
    parser.add_argument("--json", action="store_true", help="print every sample")
    arguments = parser.parse_args()
    samples: list[Sample] = []
    soak = ""
    with _running() as guest:
        for number in range(arguments.rounds):
            for sample in _round(guest, number):
                print(sample, file=sys.stderr, flush=True)
                samples.append(sample)
        if arguments.soak_minutes:
            soak = _soak(guest, arguments.soak_minutes)
    if arguments.json:
        print(json.dumps([asdict(sample) for sample in samples], indent=1))
    else:
        print("\n".join(render_failures(samples)))
        print(f"\n{soak}" if soak else "")
        print(f"`{' '.join(['python -m bench.failures', *sys.argv[1:]])}`, {time.strftime('%Y-%m-%d', time.gmtime())};")
        print(f"{read_cpuinfo(Root()).model_name.value}, {os.cpu_count()} CPUs, Python {platform.python_version()}, TCG,")
        print(f"load average {os.getloadavg()[0]:.1f}.")
    return 0


def render_failures(samples: list[Sample]) -> list[str]:
    """The table: medians with the least and the most over the rounds; requests are counted over all rounds."""
    rows = ["| fault | told, s | back, s | requests of this model | of the other model |", "|---|---|---|---|---|"]
    for fault in dict.fromkeys(sample.fault for sample in samples):
        ours = [sample for sample in samples if sample.fault == fault]
        notes = "; ".join(dict.fromkeys(sample.note for sample in ours if sample.note))
        told, back = (_spread([getattr(sample, name) for sample in ours]) for name in ("told_s", "back_s"))
        counted = (_count([getattr(sample, name) for sample in ours]) for name in ("outcomes", "bystander"))
        rows.append(f"| {fault}{f' ({notes})' if notes else ''} | {told} | {back} | {' | '.join(counted)} |")
    return rows


def _spread(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return ""
    return f"{median(known):.1f} ({min(known):.1f} to {max(known):.1f})"


def _count(outcomes: list[dict[str, int]]) -> str:
    together = sum((Counter(counted) for counted in outcomes), Counter[str]())
    return ", ".join(f"{count} x {outcome}" for outcome, count in sorted(together.items()))


@contextlib.contextmanager
def _running() -> Iterator[Guest]:
    with tempfile.TemporaryDirectory(prefix="bp") as state:
        paths, port = Paths(cache=find_paths().cache, state=Path(state)), find_free_port()
        environment = os.environ | {"BEDPLATE_STATE_DIR": state}
        command = (sys.executable, "-m", "bedplate.cli.main")
        try:
            for name, word in ((VICTIM, "alpha"), (OTHER, "beta")):
                file = Path(state) / f"{name}.gguf"
                # 20 MB: enough that a slow disk is felt.
                write_tiny_model(file, embedding=512 if name == VICTIM else 64, layers=2, context=2048, says=word)
                subprocess.run([*command, "model", "add", str(file), "--name", name], env=environment, check=True)
            models = [f"--model={name}" for name in (VICTIM, OTHER)]
            up = [*command, "up", "--no-ask", "--port", str(port), "--json", *models]
            subprocess.run(up, env=environment, check=True, stdout=subprocess.DEVNULL)
            guest = Guest(paths, port)
            guest.shell("until systemctl is-active -q multi-user.target; do sleep 1; done")
            guest.shell("until test -s /run/bedplate/supervised.json; do sleep 1; done")  # it starts after the first token
            yield guest
        finally:
            subprocess.run([*command, "down"], env=environment, check=False)


def _round(guest: Guest, number: int) -> Iterator[Sample]:
    ahead_s = guest.clock_ahead_s()
    for fault, command in _FAULTS.items():
        slow = "disk" in fault
        if slow:
            guest.shell("echo 3 >/proc/sys/vm/drop_caches")
            _throttle(guest, _SLOW_BYTES_S)
        with guest.clients() as seen:
            began_s = guest.plant(command, ahead_s)
            _wait_back(seen[VICTIM], began_s)
            if slow:
                _throttle(guest, 0)
        yield _judge(number, fault, seen, began_s)
    yield _cannot_start(guest, number, ahead_s)
    yield _full_var(guest, number, ahead_s)
    yield _crowd(guest, number)


def _throttle(guest: Guest, bytes_s: int) -> None:
    """Limit the models' disk; 0 takes the limit away."""
    limits = dict.fromkeys(("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"), 0) | {"bps": bytes_s}
    send_qmp(guest.paths.machine, QMP_SOCKET, "block_set_io_throttle", {"device": "models"} | limits)


def _wait_back(requests: list[Request], began_s: float) -> None:
    """Until an error was seen and all requests were good for some seconds after the last one; or for the longest time."""
    while time.time() - began_s < _LONGEST_S:
        errors = [request for request in requests if request.outcome != "200" and request.ended_s > began_s]
        good = [request for request in requests if errors and request.ended_s > errors[-1].ended_s]
        if good and good[-1].ended_s - good[0].ended_s > _QUIET_S:
            return
        if not errors and time.time() - began_s > 6 * _QUIET_S:
            return  # nobody noticed
        time.sleep(0.2)


def _judge(number: int, fault: str, seen: dict[str, list[Request]], began_s: float, note: str = "") -> Sample:
    after = {model: [request for request in requests if request.ended_s > began_s] for model, requests in seen.items()}
    errors = [request for request in after[VICTIM] if request.outcome != "200"]
    good = [request for request in after[VICTIM] if errors and request.ended_s > errors[-1].ended_s]
    return Sample(
        round=number,
        fault=fault,
        told_s=errors[0].ended_s - began_s if errors else None,
        back_s=good[0].ended_s - began_s if good else None,
        outcomes=dict(Counter(request.outcome for request in after[VICTIM])),
        bystander=dict(Counter(request.outcome for request in after[OTHER])),
        note=note,
    )


def _cannot_start(guest: Guest, number: int, ahead_s: float) -> Sample:
    """Its file is no model any more; "told" is until the supervisor gives it up, "back" from the repair on."""
    link = f"/run/bedplate/engine/{VICTIM}.model"
    with guest.clients() as seen:
        began_s = guest.plant(f"ln -sfn /etc/os-release {link}; systemctl restart --no-block {_UNIT}", ahead_s)
        while guest.engines().get(VICTIM, {}).get("state") != "failed" and time.time() - began_s < _LONGEST_S:
            time.sleep(1)
        told_s = time.time() - began_s
        repaired_s = guest.plant("bedplate serve prepare >/dev/null", ahead_s)
        _wait_back(seen[VICTIM], repaired_s)
    judged = _judge(number, _CANNOT_START, seen, began_s, "told: until it is given up; back: from `serve prepare` on")
    good = [request for request in seen[VICTIM] if request.outcome == "200" and request.ended_s > repaired_s]
    return Sample(**asdict(judged) | {"told_s": told_s, "back_s": good[0].ended_s - repaired_s if good else None})


def _full_var(guest: Guest, number: int, ahead_s: float) -> Sample:
    with guest.clients() as seen:
        fill = "fallocate -l $(($(stat -f -c '%a*%S' /var))) /var/fill; dd if=/dev/zero of=/var/fill2 bs=64k"
        began_s = guest.plant(f"({fill}) 2>/dev/null; true", ahead_s)
        left = guest.shell("stat -f -c %a /var").strip()
        time.sleep(60)
        guest.shell("rm -f /var/fill /var/fill2")
    return _judge(number, _FULL_VAR, seen, began_s, f"{left} blocks free")


def _crowd(guest: Guest, number: int) -> Sample:
    """All at once, eight tokens each."""
    with ThreadPoolExecutor(max_workers=_CROWD) as pool, guest.clients() as seen:
        began_s = time.time()
        outcomes = Counter(request.outcome for request in pool.map(lambda _: guest.ask(VICTIM, 8), range(_CROWD)))
    memory = guest.shell("systemctl show -P MemoryPeak haproxy").strip()
    note = f"front's memory at its peak {int(memory) // MIB} MiB" if memory.isdigit() else ""
    judged = _judge(number, _AT_ONCE, seen, began_s, note)
    return Sample(**asdict(judged) | {"outcomes": dict(outcomes), "told_s": None, "back_s": None})


def _soak(guest: Guest, minutes: float) -> str:
    before = {name: engine["stuck"] for name, engine in guest.engines().items()}
    guest.shell("systemd-run --quiet --unit=hog --slice=neighbour.slice sh -c 'while :; do :; done'")
    until = time.monotonic() + 60 * minutes
    outcomes: Counter[str] = Counter()
    mixed = ((1, "a", False), (64, "a", True), (8, "a " * 1500, False), (32, "a " * 200, True))

    def work(first: int) -> Counter[str]:
        found: Counter[str] = Counter()
        number = first
        while time.monotonic() < until:
            tokens, prompt, stream = mixed[number % len(mixed)]
            found[guest.ask((VICTIM, OTHER)[number % 3 == 0], tokens, prompt, stream=stream).outcome] += 1
            number += 1
        return found

    with ThreadPoolExecutor(max_workers=4) as pool:
        for found in pool.map(work, range(4)):
            outcomes += found
    guest.shell("systemctl stop hog")
    alarms = sum(engine["stuck"] - before.get(name, 0) for name, engine in guest.engines().items())
    return (
        f"{minutes:.0f} minutes of mixed load (prompts of 1 to 1,500 tokens, answers of 1 to 64, half of them streamed, four"
        f" clients) beside a busy loop in neighbour.slice: {_count([dict(outcomes)])}; **{alarms} false alarms**."
    )


if __name__ == "__main__":
    sys.exit(main())
