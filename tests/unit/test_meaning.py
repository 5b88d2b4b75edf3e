"""What the kernel makes of a text that is written to it, and what somebody else changed."""

from __future__ import annotations

import os

import pytest

from bedplate.act.tuning.meaning import is_same
from bedplate.model.knob_value import Parse

PAGE = os.sysconf("SC_PAGE_SIZE")
THP, RMEM = "/sys/kernel/mm/transparent_hugepage/enabled", "/proc/sys/net/ipv4/tcp_rmem"
MASK, LIST = "/sys/class/net/eth0/queues/rx-0/rps_cpus", "/proc/irq/24/smp_affinity_list"
HIGH, AHEAD = "/sys/fs/cgroup/a.slice/memory.high", "/sys/block/vda/queue/read_ahead_kb"


@pytest.mark.parametrize(
    ("path", "text", "other", "parse"),
    [
        (THP, "always [madvise] never", "madvise", Parse.CHOICE),
        (THP, "madvise\n", "madvise", Parse.CHOICE),
        (RMEM, "4096\t131072\t6291456", "4096 131072 6291456", Parse.LAST_NUMBER),
        ("/proc/sys/kernel/printk", "4\t4\t1\t7", "4 4 1 7", Parse.WORDS),
        (MASK, "00000000,0000000f", "f", Parse.WORDS),
        (MASK, "0f", "f", Parse.NUMBER),
        ("/proc/irq/24/smp_affinity", "00000003", "3", Parse.WORDS),
        (LIST, "0-3,8", "0,1,2,3,8", Parse.WORDS),
        ("cpuset.cpus", "0-1", "0 1".replace(" ", ","), Parse.WORDS),
        (HIGH, str(244 * PAGE), str(244 * PAGE + 100), Parse.BYTES),
        (HIGH, "max", "infinity", Parse.BYTES),
        (HIGH, str(1 << 30), "1G", Parse.BYTES),
        (AHEAD, str(PAGE // 1024 * 32), str(PAGE // 1024 * 32 + 1), Parse.NUMBER),
        ("/sys/kernel/mm/lru_gen/enabled", "0x0007", "7", Parse.NUMBER),
        ("/sys/module/damon_stat/parameters/enabled", "Y", "1", Parse.FLAG),
        ("/sys/fs/cgroup/a.slice/io.weight", "default 50", "50", Parse.LAST_NUMBER),
    ],
)
def test_the_kernels_form_of_a_text_is_the_same(path: str, text: str, other: str, parse: Parse) -> None:
    assert is_same(path, text, other, parse)
    assert is_same(path, other, text, parse)


@pytest.mark.parametrize(
    ("path", "text", "other", "parse"),
    [
        (RMEM, "4096 131072 6291456", "4096 16384 6291456", Parse.LAST_NUMBER),
        (RMEM, "4096 131072 6291456", "131072 4096 6291456", Parse.WORDS),
        ("/proc/x", "4096 4096 8192", "4096 8192 8192", Parse.WORDS),
        ("/proc/x", "0-3", "4-7", Parse.CPU_COUNT),
        (MASK, "00000010", "10,00000000", Parse.WORDS),
        (LIST, "0-3", "0-2", Parse.WORDS),
        (LIST, "0-3", "nonsense", Parse.WORDS),
        (HIGH, str(244 * PAGE), str(245 * PAGE), Parse.BYTES),
        (HIGH, "max", "0", Parse.BYTES),
        (AHEAD, "128", "256", Parse.NUMBER),
        ("/proc/sys/vm/dirty_bytes", "4096000", "4096001", Parse.BYTES),
        ("/proc/sys/vm/swappiness", "60", "", Parse.NUMBER),
    ],
)
def test_what_somebody_changed_is_not_the_same(path: str, text: str, other: str, parse: Parse) -> None:
    assert not is_same(path, text, other, parse)
