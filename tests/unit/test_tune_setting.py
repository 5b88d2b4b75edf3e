"""Settings as a person names them, and the plan of just one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.facts_factory import make_facts, make_kernel, make_os
from tests.unit.tune_machines import KNOBS, make_group, make_groups

from bedplate.errors import UsageError
from bedplate.model.facts.reading import Reading
from bedplate.model.knob import ChangeNeed
from bedplate.model.knob_value import Compare, Parse
from bedplate.model.tuning import UNIT_PROPERTIES, Means, Setting
from bedplate.plan.tune import parse_setting, plan_knob, plan_setting

NAMES = {
    "vm.swappiness": Setting(means=Means.FILE, name="/proc/sys/vm/swappiness"),
    "/proc/sys/vm/swappiness": Setting(means=Means.FILE, name="/proc/sys/vm/swappiness"),
    "net.ipv4.conf.eth0/100.rp_filter": Setting(means=Means.FILE, name="/proc/sys/net/ipv4/conf/eth0.100/rp_filter"),
    "net/ipv4/conf/eth0.100/rp_filter": Setting(means=Means.FILE, name="/proc/sys/net/ipv4/conf/eth0.100/rp_filter"),
    "/sys/block/vda/queue/scheduler": Setting(means=Means.FILE, name="/sys/block/vda/queue/scheduler"),
    "/proc/irq/24/smp_affinity_list": Setting(means=Means.FILE, name="/proc/irq/24/smp_affinity_list"),
    "neighbour.slice:CPUWeight": Setting(means=Means.UNIT, name="neighbour.slice", key="CPUWeight"),
    "bedplate-engine@chat.service:OOMScoreAdjust": Setting(
        means=Means.UNIT, name="bedplate-engine@chat.service", key="OOMScoreAdjust"
    ),
    "cmdline:isolcpus": Setting(means=Means.CMDLINE, name="isolcpus"),
    "cmdline:processor.max_cstate": Setting(means=Means.CMDLINE, name="processor.max_cstate"),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_a_setting(name: str) -> None:
    assert parse_setting(name) == NAMES[name]


@pytest.mark.parametrize("setting", dict.fromkeys(NAMES.values()))
def test_a_setting_names_itself(setting: Setting) -> None:
    if "eth0.100" not in setting.name:  # a dot in a name of /proc/sys cannot be told from a separator
        assert parse_setting(str(setting)) == setting


WRONG = {
    "": "is empty",
    "two words": "white space",
    "swappiness": "is not a sysctl",
    "/etc/passwd": "is not below /proc/sys, /sys or /proc/irq",
    "/proc/sysrq-trigger": "is not below",
    "/proc/sys/../../etc/passwd": "without '..'",
    "/sys//kernel": "without '..', '//'",
    "/sys/block/*/queue/scheduler": "wildcards",
    "/proc/sys/kernel/core_pattern": "start programs",
    "kernel.core_pattern": "start programs",
    "kernel.sysrq": "start programs",
    "/sys/power/state": "start programs, stop the machine",
    "/sys/bus/pci/devices/0000:01:00.0/remove": "remove devices",
    "/sys/devices/system/cpu/cpu1/online": "remove devices",
    "/sys/fs/cgroup/system.slice/cgroup.kill": "stop the machine",
    "neighbour.slice:ExecStart": "is not a resource control property",
    "cmdline:isolcpus=1": "without its value",
    "vm..swappiness": "without '..', '//'",
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_setting_or_a_dangerous_one_is_refused(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_setting(name)
    assert WRONG[name] in caught.value.message
    assert caught.value.hint


@given(st.text(max_size=60))
def test_any_text_is_a_setting_or_a_clear_error(text: str) -> None:
    try:
        setting = parse_setting(text)
    except UsageError:
        return
    assert ".." not in setting.name.split("/")
    assert setting.means is not Means.FILE or setting.name.startswith(("/proc/sys/", "/sys/", "/proc/irq/"))


def reading(path: str, text: str) -> Reading[str]:
    return Reading(value=text, source=path, text=text)


THP = "/sys/kernel/mm/transparent_hugepage/enabled"
FACTS = make_facts(
    knobs=(reading("/proc/sys/vm/swappiness", "60"), reading(THP, "always [madvise] never")),
    kernel=make_kernel(cmdline=("ro", "mitigations=off")),
)
GROUPS = make_groups(make_group("/neighbour.slice"))
PLANS = (
    ("vm.swappiness", "10", "60", Parse.NUMBER, "mem.swappiness", (ChangeNeed.ROOT,)),
    (THP, "always", "madvise", Parse.CHOICE, "mem.thp", (ChangeNeed.ROOT,)),
    ("vm.stat_interval", "10", None, Parse.NUMBER, "hk.watchdog", (ChangeNeed.ROOT,)),
    ("/sys/block/vda/queue/scheduler", "none", None, Parse.CHOICE, "/sys/block/vda/queue/scheduler", (ChangeNeed.ROOT,)),
    ("neighbour.slice:CPUWeight", "idle", "100", Parse.WORDS, "cpu.weight", (ChangeNeed.ROOT,)),
    ("neighbour.slice:MemoryHigh", "512M", "infinity", Parse.BYTES, "neighbour.slice:MemoryHigh", (ChangeNeed.ROOT,)),
    ("neighbour.slice:AllowedCPUs", "1", "", Parse.WORDS, "cpu.confine-neighbours", (ChangeNeed.ROOT,)),
    ("a.service:OOMScoreAdjust", "-900", None, Parse.WORDS, "mem.oomscore", (ChangeNeed.ROOT, ChangeNeed.ENGINE_RESTART)),
    ("cmdline:isolcpus", "1", None, Parse.WORDS, "cpu.isolcpus", (ChangeNeed.ROOT, ChangeNeed.REBOOT)),
    ("cmdline:mitigations", "", "off", Parse.WORDS, "sec.mitigations", (ChangeNeed.ROOT, ChangeNeed.REBOOT)),
)


@pytest.mark.parametrize(("name", "value", "old", "parse", "knob", "needs"), PLANS, ids=[plan[0] for plan in PLANS])
def test_one_setting_is_a_plan_of_one_change(
    name: str, value: str, old: str | None, parse: Parse, knob: str, needs: tuple[ChangeNeed, ...]
) -> None:
    made = plan_setting(parse_setting(name), value, FACTS, GROUPS, KNOBS)
    (change,) = made.changes
    assert (change.new, change.old, change.parse, change.needs) == (value, old, parse, needs)
    assert change.knob == knob or (change.setting.key in UNIT_PROPERTIES and change.knob)
    assert (change.compare is Compare.ABSENT) == (change.setting.means is Means.CMDLINE and not value)
    assert made.refusals == ()


def test_a_value_that_is_there_already_is_no_change() -> None:
    made = plan_setting(parse_setting("vm.swappiness"), "60", FACTS, GROUPS, KNOBS)
    assert made.changes == ()
    assert "holds already" in made.skips[0].reason


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("vm.swappiness", "", "no value is given"),
        ("vm.swappiness", "1\n2", "control characters"),
        ("vm.swappiness", "banana", "got 'banana', expected a number, which holds 60"),
        ("neighbour.slice:CPUWeight", "0", "a weight from 1 to 10000"),
        ("neighbour.slice:CPUWeight", "heavy", "expected a value such as 100"),
        ("neighbour.slice:MemoryHigh", "25%", "expected a value such as 536870912"),
    ],
)
def test_an_impossible_value_is_refused(name: str, value: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan_setting(parse_setting(name), value, FACTS, GROUPS, KNOBS)


def test_a_file_of_the_kernel_needs_neither_groups_nor_systemd_and_a_unit_does() -> None:
    facts = make_facts(os=make_os(systemd=False))
    old = make_groups(version=1, groups=())
    assert plan_setting(parse_setting("vm.swappiness"), "10", facts, old, KNOBS).refusals == ()
    assert len(plan_setting(parse_setting("a.slice:CPUWeight"), "10", facts, old, KNOBS).refusals) == 2


def test_a_row_is_tried_with_the_value_that_is_not_there_yet() -> None:
    knob = next(knob for knob in KNOBS if knob.id == "mem.thp")
    (change,) = plan_knob(knob, FACTS, GROUPS, KNOBS).changes
    assert (change.setting.name, change.new) == (THP, "always")
    with pytest.raises(UsageError, match="names no file to switch"):
        plan_knob(next(knob for knob in KNOBS if knob.id == "cpu.omp"), FACTS, GROUPS, KNOBS)
