"""What texts of the kernel's files mean: a file reads back in the kernel's form what was written in another.

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
from bedplate.model.knob_value import Compare, Parse, holds, parse_value
from bedplate.model.tuning import Change

_LISTS = re.compile(r".*_affinity_list|.*_cpus_list|cpuset\.(cpus|mems)(\..*)?")
_MASKS = re.compile(r"(default_)?smp_affinity|(rps|xps)_(cpus|rxqs)|(tracing_)?cpumask")
_PAGED_BYTES = re.compile(r"memory\.(swap\.|zswap\.)?(min|low|high|max)")
_PAGED_KIB = "read_ahead_kb"


def is_same(path: str, text: str, other: str, parse: Parse) -> bool:
    """Whether two texts of a file mean the same; a text that is not what the file's form says is only itself."""
    if text == other:
        return True
    try:
        return _meaning(path, text, parse) == _meaning(path, other, parse)
    except (ValueError, ReadError):
        return False


def satisfies(change: Change, text: str, path: str) -> bool | None:
    """Whether a text of the file at this path is what the change wants; None when they cannot be compared."""
    try:
        if change.compare not in (Compare.ABSENT, Compare.NOT_CONTAINS) and is_same(path, text, change.new, change.parse):
            return True
        wanted, value = parse_value(change.new, change.parse), parse_value(text, change.parse)
        return holds(value, change.compare, (wanted,))
    except ValueError:
        return None


def _meaning(path: str, text: str, parse: Parse) -> Hashable:
    name = path.rpartition("/")[2]
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
