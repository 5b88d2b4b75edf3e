"""What holds for every fix of every finding: it leaves no service down, says what it interrupts, and fits the machine.

The rules read the fix as a person does, line by line: what begins with "#" is said, all else is run.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import known

# Commands after which programs that use a device, an engine or the whole machine do not go on as before.
_INTERRUPTS = re.compile(
    r"^reboot\b|\bsystemctl (?:stop|restart|isolate|kexec)\b|\bmodprobe -r\b|\brmmod\b|--gpu-?reset\b| -mig [01]\b"
    r"|--(?:compute|memory)-partition\b|\bupdatefw\b|\bkill(?:all)?\b|\b(?:docker|podman) (?:stop|restart|kill)\b"
    r"|/remove\b|\becho \S+ > \S*/(?:un)?bind\b"
)
# Words of a comment that say so, before the command.
_SAYS = re.compile(
    r"\binterrupts?\b|\b[Dd]rain\b|\bdrained\b|\b[Mm]ove the work\b|\b[Ss]top (?:all|the|what)\b|\bidle\b|\bends? \b"
    r"|\brestarts? the\b|\bwork (?:away|of this device)\b"
)
# What only somebody who can touch the machine can do.
_BY_HAND = re.compile(
    r"\b(?:re)?seat(?:s|ed|ing)?\b|\briser|\bcables?\b|\bBIOS\b|\bUEFI\b|\bslots?\b|\bDIMMs?\b|\bfans?\b|\bfilters?\b"
    r"|\bair ?flow\b|\bpower suppl|\binlet\b|\bcooling\b(?! and the power of the machine are the provider's)"
    r"|\b(?:the|its) firmware\b(?! (?:package|that it misses))|\bfirmware (?:setup|settings)\b|\bupdatefw\b|\bdmidecode\b"
    r"|\bipmitool\b|\b(?:switch|power)(?: the machine| it)? off\b|\breplace (?:it|the (?:card|GPU|device|disk))\b"
    r"|\bhave (?:it|the (?:GPU|device)) replaced\b|\bbaseboard\b"
)
_STOP = re.compile(r"\bsystemctl stop ((?:[\w@.-]+ ?)+)")
_START = re.compile(r"\bsystemctl (?:start|restart|enable --now) ((?:[\w@.-]+ ?)+)")


def fix_problems(fix: Sequence[str], *, is_virtual: bool) -> list[str]:
    """What is wrong with a fix, a sentence each; [] for one that is right."""
    return [*_left_down(fix), *_not_said(fix), *(_by_hand(fix) if is_virtual else [])]


def as_virtual(facts: HostFacts) -> HostFacts:
    """The same machine, had a hypervisor been seen under it."""
    return replace(facts, os=replace(facts.os, virtualisation=known("kvm", "/sys/class/dmi/id/sys_vendor")))


def interrupts(fix: Sequence[str]) -> bool:
    """Whether a command of the fix stops something that works."""
    return any(_INTERRUPTS.search(line) for line in fix if not line.startswith("#"))


def _left_down(fix: Sequence[str]) -> list[str]:
    down: dict[str, str] = {}
    for line in fix:
        command = "" if line.startswith("#") else line
        if command.startswith("reboot"):
            down.clear()
        if (found := _STOP.search(command)) is not None:
            down |= dict.fromkeys(found[1].split(), line)
        if (found := _START.search(command)) is not None:
            for unit in found[1].split():
                down.pop(unit, None)
    return [f"{unit} is stopped and never started: {line}" for unit, line in down.items()]


def _not_said(fix: Sequence[str]) -> list[str]:
    said = False
    for line in fix:
        if line.startswith("#"):
            said = said or _SAYS.search(line) is not None
        elif _INTERRUPTS.search(line) and not said:
            return [f"nothing says what is interrupted by: {line}"]
    return []


def _by_hand(fix: Sequence[str]) -> list[str]:
    return [f"nobody can do this in a virtual machine: {line}" for line in fix if _BY_HAND.search(line) is not None]
