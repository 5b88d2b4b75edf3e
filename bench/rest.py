"""Memory used and processes at rest: 60 s after multi-user.target, without engine and model, read inside the guest.

Used is MemTotal - MemAvailable of /proc/meminfo. Everything is read by the shell itself, so that asking starts no program;
that shell (bash on hvc0) is one of the processes in both arms.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from bedplate.host.kernel.memory import parse_meminfo
from bedplate.model.machine import BootMode
from bedplate.model.progress import Progress
from bench.arms import Arm, Bench, Seasoned, ask, powered_on, season

SETTLE_S = 60
_QUESTION = f"""
until systemctl is-active -q multi-user.target; do sleep 1; done
sleep {SETTLE_S}
while read -r line; do text="$text$line
"; done </proc/meminfo
all=0 user=0 names=
for d in /proc/[0-9]*; do
    all=$((all + 1))
    if IFS= read -r -d '' x <$d/cmdline; then user=$((user + 1)); read -r x <$d/comm; names="$names $x"; fi
done 2>/dev/null
echo "$text"
echo "bench: $all $user$names"
echo "failed: $(systemctl --failed --no-legend --plain | cut -d' ' -f1 | tr '\\n' ' ')"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    round: int
    arm: str
    total_bytes: int
    used_bytes: int
    user_processes: int
    all_processes: int
    names: tuple[str, ...]
    failed_units: tuple[str, ...]


def measure_rest(bench: Bench, number: int, seasoned: Seasoned, progress: Progress) -> list[Rest]:
    """Both arms once, at the same time: memory does not depend on who else computes."""
    for arm in bench.arms:
        if _key(arm) not in seasoned:
            with (
                progress.phase(f"first boot of {arm.name}"),
                powered_on(bench, arm, BootMode.DIRECT, progress, seasoned=None) as machine,
            ):
                seasoned[_key(arm)] = season(bench, arm, BootMode.DIRECT, machine, progress)
    with (
        progress.phase(f"round {number}: memory at rest"),
        ThreadPoolExecutor(max_workers=1) as executor,
        powered_on(bench, bench.ours, BootMode.DIRECT, progress, seasoned=seasoned[_key(bench.ours)], idle=True) as ours,
        powered_on(bench, bench.stock, BootMode.DIRECT, progress, seasoned=seasoned[_key(bench.stock)], idle=True) as stock,
    ):
        progress.detail(f"both arms boot, and {SETTLE_S} s after that")
        waiting = executor.submit(ask, stock, _QUESTION)
        ours_text, stock_text = ask(ours, _QUESTION), waiting.result()
    return [
        parse_rest(ours_text, arm=bench.ours.name, number=number),
        parse_rest(stock_text, arm=bench.stock.name, number=number),
    ]


def parse_rest(text: str, *, arm: str, number: int) -> Rest:
    """What the question's answer says."""
    values = parse_meminfo(text)
    lines = dict(line.split(": ", 1) for line in text.splitlines() if line.startswith(("bench: ", "failed: ")))
    counted, user, *names = lines["bench"].split()
    return Rest(
        round=number,
        arm=arm,
        total_bytes=values["MemTotal"],
        used_bytes=values["MemTotal"] - values["MemAvailable"],
        user_processes=int(user),
        all_processes=int(counted),
        names=tuple(sorted(names)),
        failed_units=tuple(lines["failed"].split()),
    )


def _key(arm: Arm) -> tuple[str, BootMode]:
    return (arm.name, BootMode.DIRECT)
