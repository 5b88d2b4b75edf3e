"""Two of everything in one text: two machines, two GPUs with one UUID, a setting before and after, one output twice."""

from __future__ import annotations

from pathlib import Path

from bedplate.flows.audit import read_report
from bedplate.host.formats.clean import clean_line
from bedplate.model.audit_report import AuditReport

TEXTS = Path(__file__).parents[1] / "pasted-threads"
TABLE = (TEXTS / "all-values-err.txt").read_text()
OTHER_TABLE = (TEXTS / "mig-not-enabled.txt").read_text()
GPU = """GPU 00000000:{bus}:00.0
    Product Name                          : NVIDIA H100
    GPU UUID                              : GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx
    Remapped Rows
        Pending                           : {pending}
"""


def read(tmp_path: Path, text: str) -> AuditReport:
    path = tmp_path / "pasted.txt"
    path.write_text(text)
    return read_report(path)


def conflicts_of(report: AuditReport) -> dict[str, list[str]]:
    return {conflict.fact: [value for value, _ in conflict.values] for conflict in report.facts.conflicts}


def test_gpus_whose_uuids_were_replaced_by_one_are_as_many(tmp_path: Path) -> None:
    report = read(tmp_path, GPU.format(bus="0E", pending="Yes") + GPU.format(bus="0F", pending="No"))
    assert [gpu.address for gpu in report.facts.accelerators] == ["0000:0e:00.0", "0000:0f:00.0"]
    assert [(finding.id, finding.where) for finding in report.findings] == [("accel.rows-pending", ("0000:0e:00.0",))]
    assert conflicts_of(report) == {}


def test_gpus_of_two_machines_with_one_number_are_a_contradiction(tmp_path: Path) -> None:
    report = read(tmp_path, f"root@a:~# nvidia-smi\n{TABLE}\nroot@b:~# nvidia-smi\n{OTHER_TABLE}")
    assert conflicts_of(report) == {
        "nvidia 0 address": ["0000:0e:00.0", "0000:02:00.0"],
        "nvidia 1 address": ["0000:13:00.0", "0000:82:00.0"],
    }


def test_one_output_twice_is_one(tmp_path: Path) -> None:
    report, twice = read(tmp_path, TABLE), read(tmp_path, f"{TABLE}\n{TABLE}")
    assert twice.facts.accelerators == report.facts.accelerators
    assert twice.findings == report.findings
    assert conflicts_of(twice) == {}


def test_a_setting_that_is_told_twice_is_a_contradiction(tmp_path: Path) -> None:
    pages = "/sys/kernel/mm/transparent_hugepage/enabled"
    parts = [
        f"$ cat {pages}\nalways [madvise] never\n",
        f"$ cat {pages}\n[always] madvise never\n",
        "$ cat /proc/cmdline\nBOOT_IMAGE=/v root=UUID=1 token=planted isolcpus=4-63\n",
        "$ cat /proc/cmdline\nBOOT_IMAGE=/v root=UUID=1 quiet\n",
        "$ cat /proc/meminfo\nMemTotal:   1000 kB\nMemFree:   900 kB\n",
        "$ cat /proc/meminfo\nMemTotal:   1000 kB\nMemFree:   800 kB\n",
    ]
    report = read(tmp_path, "".join(parts))
    conflicts = conflicts_of(report)
    assert set(conflicts) == {pages, "/proc/cmdline"}
    assert conflicts[pages] == ["always [madvise] never", "[always] madvise never"]
    assert "planted" not in repr(report)
    assert report.facts.kernel.cmdline[-1] == "quiet"


def test_a_word_in_brackets_is_no_colour_that_lost_its_escape() -> None:
    for line in ("always [madvise] never", "workqueue: event_task [mlx5_core] hogged CPU", "[Kernel]"):
        assert clean_line(line).text == line
    assert clean_line("[01;31m[KNVRM[m[K: Xid [mce]").text == "NVRM: Xid [mce]"
