"""The host as `docker info` describes it: kernel, distribution, memory, container runtimes."""

from __future__ import annotations

import re
from dataclasses import replace

from bedplate.errors import ReadError
from bedplate.host.formats.section import Section
from bedplate.host.formats.unrecorded import empty_facts
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import known
from bedplate.model.units import parse_size

SOURCE = "docker info"
BEGINS = re.compile(
    r" {0,2}(?:Server Version: \d|Storage Driver: \w|Cgroup Driver: (?:systemd|cgroupfs)|Kernel Version: \d|Runtimes: \S)"
)
CONTINUES = re.compile(r" {0,6}[A-Z][\w /()-]{1,40}:|Client:|Server:| {1,8}[a-z][\w.-]{1,40}: \S")
_LINE = re.compile(r"\s{0,8}([A-Z][\w /()-]{1,40}): (\S.{0,400})")
_SIZE = re.compile(r"\d{1,9}(?:\.\d{1,4})?[KMGT]iB", re.ASCII)


def parse_docker_info(section: Section) -> HostFacts:
    """Raises ReadError where none of its keys is there. CPUs are a number only, so no CPU is listed."""
    values: dict[str, str] = {}
    for line in section.text.split("\n"):
        match = _LINE.fullmatch(line.rstrip())
        if match is not None:
            values.setdefault(match[1], match[2])
    if not values:
        raise ReadError("the text of docker info has no key that is read")
    facts = empty_facts(section.file)
    release, system, size = values.get("Kernel Version"), values.get("Operating System", ""), values.get("Total Memory", "")
    lower = system.lower()
    return replace(
        facts,
        kernel=replace(
            facts.kernel, release=known(release, f"{SOURCE}: Kernel Version") if release else facts.kernel.release
        ),
        os=replace(
            facts.os,
            pretty_name=system,
            id=next((name for name in ("ubuntu", "debian", "fedora", "rocky", "almalinux") if name in lower), ""),
            runtimes=tuple(sorted({"docker", *values.get("Runtimes", "").split()})),
        ),
        cpu=replace(facts.cpu, architecture=values.get("Architecture", "")),
        memory=replace(facts.memory, total_bytes=parse_size(size) if _SIZE.fullmatch(size) else 0),
    )
