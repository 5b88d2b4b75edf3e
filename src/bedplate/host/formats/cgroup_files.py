"""cpu.stat of a control group, as people paste it: how often a quota has stopped it.

Source: Documentation/admin-guide/cgroup-v2.rst, "CPU Interface Files".
"""

from __future__ import annotations

import re
from dataclasses import replace

from bedplate.errors import ReadError
from bedplate.host.formats.section import Section
from bedplate.host.formats.unrecorded import empty_facts
from bedplate.host.kernel.cgroup import parse_counters
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import known

SOURCE = "cpu.stat"
BEGINS = re.compile(r"(?:usage_usec|nr_periods|nr_throttled) \d{1,20}\s{0,4}$")
CONTINUES = re.compile(r"[a-z_.]{2,40} \d{1,20}\s{0,4}$")


def parse_cpu_stat(section: Section) -> HostFacts:
    """The counters as those of the cgroup that was looked at. Raises ReadError without nr_periods: no quota is set."""
    counters = parse_counters(section.text)
    if "nr_periods" not in counters or "nr_throttled" not in counters:
        raise ReadError("cpu.stat has no nr_periods and nr_throttled")
    facts = empty_facts(section.file)
    throttled = counters.get("throttled_usec")
    return replace(
        facts,
        cgroup=replace(
            facts.cgroup,
            version=2 if throttled is not None else 1,
            periods=known(counters["nr_periods"], SOURCE),
            throttled_periods=known(counters["nr_throttled"], SOURCE),
            throttled_s=known(throttled / 1e6, SOURCE) if throttled is not None else facts.cgroup.throttled_s,
        ),
    )
