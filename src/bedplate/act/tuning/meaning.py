"""When two texts of a file of the kernel mean the same: it reads back in its own form what was written in another.

A choice comes back in brackets, a list of CPUs shortened, a mask with zeros before it and commas in it, a triple with tabs,
a size as whole pages (admin-guide/cgroup-v2.rst, core-api/irq/irq-affinity.rst, networking/scaling.rst; queue_ra_store() in
block/blk-sysfs.c). What knobs ask of a value, at least, one of, how many CPUs, is model/knob_value.py; here it is whether
anything was changed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Hashable

from bedplate.errors import ReadError
from bedplate.host.root.cpu_lists import parse_cpu_list
from bedplate.model.knob_value import Parse, parse_value

_KEYED = ("io.cost.qos", "io.cost.model")
_LISTS = re.compile(r".*_affinity_list|.*_cpus_list|cpuset\.(cpus|mems)(\..*)?")
_MASKS = re.compile(r"(default_)?smp_affinity|(rps|xps)_(cpus|rxqs)|(tracing_)?cpumask")
_PAGED_BYTES = re.compile(r"memory\.(swap\.|zswap\.)?(min|low|high|max)")
_PAGED_KIB = "read_ahead_kb"


def is_keyed(path: str) -> bool:
    """Whether the file has a line for each device, of which a write changes one: io.cost.model and io.cost.qos."""
    return path.rpartition("/")[2] in _KEYED


def is_same(path: str, text: str, other: str, parse: Parse) -> bool:
    """Whether two texts of a file mean the same; a text that is not what the file's form says is only itself."""
    if text == other:
        return True
    try:
        return _meaning(path, text, parse) == _meaning(path, other, parse)
    except (ValueError, ReadError):
        return False


def holds_keyed(text: str, wanted: str) -> bool:
    """Whether a device's line says all that was written: "8:0 rpct=95.00 min=1" holds "8:0 rpct=95"."""
    has = _pairs(text)
    return all(has.get(key) == value for key, value in _pairs(wanted).items())


def _meaning(path: str, text: str, parse: Parse) -> Hashable:
    name = path.rpartition("/")[2]
    if name in _KEYED:
        return frozenset(_pairs(text).items())
    if _LISTS.fullmatch(name):
        return parse_cpu_list(text)
    if _MASKS.fullmatch(name):
        return int(text.replace(",", ""), 16)
    if name == "io.weight":
        text = text.removeprefix("default ")
    if parse in (Parse.WORDS, Parse.LAST_NUMBER, Parse.CPU_COUNT):
        return tuple(text.split())  # each word, in its place: also those that a knob does not look at
    value = parse_value(text, parse)
    if isinstance(value, float) and (name == _PAGED_KIB or _PAGED_BYTES.fullmatch(name)):
        page = os.sysconf("SC_PAGE_SIZE") // (1024 if name == _PAGED_KIB else 1)
        return value // page if value != float("inf") else value
    return value


def _pairs(line: str) -> dict[str, float | str]:
    found: dict[str, float | str] = {}
    for word in line.split():
        key, mark, value = word.partition("=")
        try:
            found[key] = float(value) if mark else ""
        except ValueError:
            found[key] = value
    return found
