"""A plan on a terminal: one change of many devices is one line that counts them."""

from __future__ import annotations

import dataclasses

from tests.unit.tune_machines import VLLM, make_group, make_groups, plan, serving

from bedplate.model.tuning import Change, Means, Setting
from bedplate.report.plan import group_changes

POLICY = "/sys/devices/system/cpu/cpufreq/policy{}/scaling_governor"


def change(name: str, *, old: str = "powersave", means: Means = Means.FILE) -> Change:
    some = plan(serving(), make_groups(make_group(VLLM))).changes[0]
    return dataclasses.replace(some, setting=Setting(means=means, name=name), old=old, new="performance", knob="k")


def test_the_same_change_of_many_devices_is_one_line_that_counts_them() -> None:
    changes = [change(POLICY.format(number)) for number in range(12)]
    assert [name for name, _ in group_changes(changes, verbose=False)] == [f"{POLICY.format('*')} (12 files)"]
    assert [name for name, _ in group_changes(changes, verbose=True)] == [POLICY.format(number) for number in range(12)]


def test_another_old_value_and_another_file_are_lines_of_their_own() -> None:
    changes = [change(POLICY.format(0)), change(POLICY.format(1), old="ondemand"), change("/proc/sys/vm/swappiness")]
    assert [name for name, _ in group_changes(changes, verbose=False)] == [str(row.setting) for row in changes]


def test_units_with_numbers_in_their_names_are_not_taken_for_devices() -> None:
    changes = [change("a@1.service", means=Means.UNIT), change("a@2.service", means=Means.UNIT)]
    assert len(group_changes(changes, verbose=False)) == 2
