"""A unit's control group and limits from `systemctl show UNIT` (org.freedesktop.systemd1(5))."""

from __future__ import annotations

import re
from dataclasses import replace

from bedplate.errors import ReadError
from bedplate.host.formats.section import Section
from bedplate.host.formats.unrecorded import empty_facts
from bedplate.host.root.cpu_lists import CpuSets
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import Reading, Unknown, known, missing

SOURCE = "systemctl show"
BEGINS = re.compile(
    r"(?:Type=(?:simple|exec|notify|forking|oneshot|idle|dbus)\s{0,4}$|CPUQuotaPerSecUSec=|MemoryMax=|MemoryCurrent=|ControlGroup=/"
    r"|AllowedCPUs=|EffectiveCPUs=|LimitNOFILE(?:Soft)?=|CPUWeight=|Slice=[\w-]{1,60}\.slice)"
)
CONTINUES = re.compile(r"[A-Z][A-Za-z0-9]{1,60}=")
_LINE = re.compile(r"([A-Z][A-Za-z0-9]{1,60})=(.{0,400})")
_SPAN = re.compile(r"(?:(\d{1,6})min ?)?(?:(\d{1,6}(?:\.\d{1,6})?)s)? ?(?:(\d{1,6}(?:\.\d{1,3})?)ms)?", re.ASCII)
_NONE = ("infinity", "[not set]", "", "18446744073709551615")


def parse_systemctl_show(section: Section) -> HostFacts:
    """Quota, memory and processors of the unit as those of the cgroup that was looked at. Raises ReadError without any."""
    values: dict[str, str] = {}
    for line in section.text.split("\n"):
        match = _LINE.fullmatch(line.rstrip())
        if match is not None:
            values.setdefault(match[1], match[2])
    if not values.keys() & {
        "CPUQuotaPerSecUSec",
        "MemoryMax",
        "MemoryCurrent",
        "ControlGroup",
        "EffectiveCPUs",
        "LimitNOFILESoft",
    }:
        raise ReadError("the text of systemctl show has no property of a control group")
    facts = empty_facts(section.file)
    files = values.get("LimitNOFILESoft", "")
    return replace(
        facts,
        cgroup=replace(
            facts.cgroup,
            version=2,
            path=values.get("ControlGroup", ""),
            quota_cpus=_quota(values.get("CPUQuotaPerSecUSec")),
            memory_max_bytes=_bytes(values, "MemoryMax"),
            memory_current_bytes=_bytes(values, "MemoryCurrent"),
            cpu_weight=_bytes(values, "CPUWeight"),
            cpus=_cpus(values),
        ),
        limits=(("nofile", int(files)),) if files.isdecimal() and len(files) < 19 else (),
    )


def _quota(text: str | None) -> Reading[float]:
    """CPUs of "4s" a second, of "500ms"; ABSENT for infinity."""
    where = f"{SOURCE}: CPUQuotaPerSecUSec"
    if text is None:
        return missing(Unknown.NOT_RECORDED, where)
    if text in _NONE:
        return missing(Unknown.ABSENT, where, text)
    span = _SPAN.fullmatch(text)
    if span is None:
        return missing(Unknown.MALFORMED, where, text[:80])
    return known(int(span[1] or 0) * 60 + float(span[2] or 0) + float(span[3] or 0) / 1000, where, text)


def _bytes(values: dict[str, str], name: str) -> Reading[int]:
    where, text = f"{SOURCE}: {name}", values.get(name)
    if text is None:
        return missing(Unknown.NOT_RECORDED, where)
    if text in _NONE:
        return missing(Unknown.ABSENT, where, text)
    return known(int(text), where) if text.isdecimal() and len(text) < 20 else missing(Unknown.MALFORMED, where, text[:80])


def _cpus(values: dict[str, str]) -> Reading[tuple[int, ...]]:
    where, text = f"{SOURCE}: EffectiveCPUs", values.get("EffectiveCPUs", "")
    if not text:
        return missing(Unknown.NOT_RECORDED, where)
    try:
        return known(CpuSets().parse_list(text.replace(" ", ",")), where, text)
    except ReadError:
        return missing(Unknown.MALFORMED, where, text[:80])
