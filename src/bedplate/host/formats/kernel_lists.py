"""What the kernel is and has loaded, from `uname -a` and `lsmod`."""

from __future__ import annotations

import re
from dataclasses import replace

from bedplate.errors import ReadError
from bedplate.host.formats.section import Section
from bedplate.host.formats.unrecorded import empty_facts
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import known

UNAME_BEGINS = re.compile(r"Linux \S{1,80} \d{1,3}\.\d{1,3}\S{0,80} #\d")
LSMOD_BEGINS = re.compile(r"Module {2,40}Size {1,8}Used by")
LSMOD_CONTINUES = re.compile(r"[A-Za-z0-9_]{2,60} {1,40}\d{1,10} {1,8}-?\d")
NOTHING_MORE = re.compile(r"(?!)")
"""Of a format of one line."""
_UNAME = re.compile(
    r"Linux \S{1,80} (\d{1,3}\.\d{1,3}\S{0,80}) #.{0,300}? (x86_64|aarch64|ppc64le|riscv64|s390x)\b", re.ASCII
)
_MODULE = re.compile(r"([A-Za-z0-9_]{2,60}) {1,40}\d{1,10} {1,8}-?\d.{0,2000}", re.ASCII)
_MODULES_MOST = 4096


def parse_uname(section: Section) -> HostFacts:
    """Release and architecture; the host's name is left out. Raises ReadError for a line without them."""
    match = _UNAME.search(section.text)
    if match is None:
        raise ReadError("the line of uname -a has no release or no architecture")
    facts = empty_facts(section.file)
    return replace(
        facts,
        kernel=replace(facts.kernel, release=known(match[1], "uname -a")),
        cpu=replace(facts.cpu, architecture=match[2]),
    )


def parse_lsmod(section: Section) -> HostFacts:
    """Modules by name. Raises ReadError for a table without any."""
    found = {match[1] for line in section.text.split("\n") if (match := _MODULE.fullmatch(line.rstrip())) is not None}
    if not found:
        raise ReadError("the table of lsmod has no module")
    facts = empty_facts(section.file)
    modules = tuple((name, "") for name in sorted(found)[:_MODULES_MOST])
    return replace(facts, kernel=replace(facts.kernel, modules=modules, modules_source="lsmod"))
