"""What holds of every kind of thing that tuning changes, and what the transaction may know of them."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from bedplate.act.tuning import apply_plan, execute, files_of, needs_boot, undo
from bedplate.act.tuning.baseline import read_unapplied
from bedplate.act.tuning.codec import parse_step, parse_value_row, render_step, render_value
from bedplate.act.tuning.kinds import keyed_kernel_file
from bedplate.act.tuning.kinds.keyed_kernel_file import KEYED_KERNEL_FILE
from bedplate.act.tuning.kinds.kind import StepKind
from bedplate.act.tuning.kinds.registry import SETTING_KINDS, STEP_KINDS, kind_of
from bedplate.act.tuning.place import make_place
from bedplate.act.tuning.step import Step, Target
from bedplate.host.root.root import Root
from bedplate.model.knob_value import Parse
from bedplate.model.tuning import Setting
from bedplate.plan.tune import parse_setting
from tests.tuning.tree import FULL, THP, FakeServices, change, make_machine, make_plan, snapshot

RECORDED = Path(__file__).parent / "recorded"
QOS = "/sys/fs/cgroup/io.cost.qos"
ALL = make_plan(
    *FULL.changes,
    change(QOS, "254:16 enable=0", "254:16 enable=1 ctrl=user", Parse.WORDS),
    change("/proc/sys/vm/dirty_bytes", "0", "268435456", Parse.BYTES),
    change("cmdline:nohz_full", None, "1", Parse.WORDS),
    change("vllm.service:OOMScoreAdjust", "0", "-900"),
)
"""A plan with changes of every kind."""


@pytest.fixture
def top(tree: Path) -> Path:
    top = make_machine(tree / "machine")
    (top / QOS[1:]).write_text("8:0 enable=1 ctrl=user\n254:16 enable=0 ctrl=auto\n")
    (top / "sys/fs/cgroup/system.slice/vllm.service").mkdir()
    (top / "proc/self").mkdir()
    (top / "proc/self/mountinfo").write_text("30 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
    for pid, path, score in ((41, "vllm.service", 0), (42, "vllm.service/workers", 0), (43, "ssh.service", -900)):
        process = top / f"proc/{pid}"
        process.mkdir()
        (process / "cgroup").write_text(f"0::/system.slice/{path}\n")
        (process / "oom_score_adj").write_text(f"{score}\n")
    return top


def test_only_a_kind_asks_by_what_means_a_setting_is_made() -> None:
    """Plans may not import act, and reports only render: everything else asks the kind."""
    source = Path(execute.__file__).parents[2]
    allowed = {"model", "plan", "report", "act/tuning/kinds", "act/tuning/codec.py"}
    asking = {str(path.relative_to(source)) for path in source.rglob("*.py") if "Means." in path.read_text()}
    assert not {path for path in asking if not path.startswith(tuple(allowed))}


@pytest.mark.parametrize(
    ("name", "boot", "files"),
    [
        ("vm.swappiness", False, ("/proc/sys/vm/swappiness",)),
        (QOS, False, (QOS,)),
        ("neighbour.slice:CPUWeight", False, ()),
        ("cmdline:isolcpus", True, ()),
    ],
)
def test_what_others_ask_of_a_setting(name: str, boot: bool, files: tuple[str, ...]) -> None:
    setting = parse_setting(name)
    assert (needs_boot(setting), files_of(setting)) == (boot, files)


def test_the_transaction_knows_kinds_only_by_their_interface() -> None:
    """A kind is added by its file and its row: nothing else in the transaction names one."""
    tuning = Path(execute.__file__).parent
    known = {"bedplate.act.tuning.kinds.kind", "bedplate.act.tuning.kinds.registry"}
    for path in sorted(tuning.glob("*.py")):
        nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        named = {node.module for node in nodes if (node.module or "").startswith("bedplate.act.tuning.kinds")}
        assert named <= known, path.name


def test_the_plan_of_these_tests_has_changes_of_every_kind() -> None:
    assert {kind_of(change.setting) for change in ALL.changes} == set(SETTING_KINDS)


def test_each_setting_is_of_one_kind() -> None:
    settings: list[Setting] = [change.setting for change in ALL.changes]
    assert [type(kind_of(setting)).__name__ for setting in settings] == [
        *["UnitProperty"] * 3,
        *["KernelFile"] * 3,
        *("KeyedKernelFile", "KernelFile", "KernelParameter", "UnitProperty"),
    ]


def test_names_in_journals_stay_as_they_are() -> None:
    """A renamed one makes the journals of interrupted changes unreadable."""
    assert {kind.journal_name for kind in STEP_KINDS} == {"kernel", "file", "directory", "reload", "grub"}


@pytest.mark.parametrize("kind", STEP_KINDS, ids=lambda kind: type(kind).__name__)
def test_every_kind_of_step_comes_back_from_a_journal(kind: StepKind) -> None:
    path = QOS if kind is KEYED_KERNEL_FILE else "/proc/sys/vm/swappiness"
    step = Step(target=Target(kind=kind, path=path, key="8:0", parse=Parse.CHOICE), before="a", after=None)
    assert parse_step(json.loads(json.dumps(render_step(step)))) == step


def test_what_an_older_version_recorded_is_written_again_byte_for_byte() -> None:
    row = json.loads((RECORDED / "journal").read_text().splitlines()[0])
    assert json.dumps([render_step(parse_step(step)) for step in row["steps"]]) == json.dumps(row["steps"])
    record = json.loads((RECORDED / "applied.json").read_text())
    values = [render_value(parse_value_row(value)) for value in record["holdings"]]
    assert json.dumps(values) == json.dumps(record["holdings"])


def test_whoever_plans_reads_the_machine_as_it_was_of_every_kind(top: Path) -> None:
    """In a new boot, where parameters of the kernel took effect, and services started, too."""
    (top / "etc/default").mkdir()
    before = {path: Root(top).read(path).value for path in every_file(top)}
    apply_plan(ALL, root_dir=top, persist=True, services=FakeServices(top))
    (top / "proc/cmdline").write_text("quiet nohz_full=1\n")
    (top / QOS[1:]).write_text("8:0 enable=1 ctrl=user\n254:16 enable=1 ctrl=user\n")  # the kernel changes one line
    for pid in (41, 42):
        (top / f"proc/{pid}/oom_score_adj").write_text("-900\n")
    group = top / "sys/fs/cgroup/inference.slice"
    group.mkdir()
    for name, text in (("cpu.weight", "10000"), ("cpu.idle", "0"), ("memory.current", "4096")):
        (group / name).write_text(f"{text}\n")
    assert {path: Root(top).read(path).value for path in before} != before
    root = read_unapplied(make_place(top, persist=True))
    now = {path: root.read(path).value for path in before}
    assert now.pop(THP) == "madvise"  # in the form in which it can be written again
    before.pop(THP)
    assert now == before
    absent = [
        name
        for name in sorted(path.name for path in group.iterdir())
        if root.read(f"/{group.relative_to(top)}/{name}").value is None
    ]
    assert absent == ["cpu.idle", "cpu.weight"]  # the group came with the plan, which set its weight


def every_file(top: Path) -> list[str]:
    return [f"/{path.relative_to(top)}" for path in sorted(top.rglob("*")) if path.is_file()]


def test_directories_that_two_plans_needed_are_removed_with_the_last(top: Path) -> None:
    """Of two new ones, one in the other, the outer one stayed when another plan came between."""
    before, services = snapshot(top), FakeServices(top)
    first = change("cmdline:nohz_full", None, "1", Parse.WORDS)
    apply_plan(make_plan(first), root_dir=top, persist=True, services=services)
    assert (top / "etc/bedplate/cmdline.d").is_dir()
    second = change("cmdline:nohz_full", None, "2", Parse.WORDS)
    apply_plan(make_plan(second), root_dir=top, persist=True, services=services)
    assert undo(root_dir=top, persist=True, services=services).drifted == ()
    assert snapshot(top) == before


def test_two_disks_of_one_file_are_both_as_before(top: Path) -> None:
    """The second line that was put back hid the first."""
    lines = ("8:0 enable=0 ctrl=auto", "254:16 enable=0 ctrl=auto")
    (top / QOS[1:]).write_text("\n".join([*lines, ""]))
    changes = [change(QOS, line, line.replace("enable=0 ctrl=auto", "enable=1 ctrl=user"), Parse.WORDS) for line in lines]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keyed_kernel_file, "write_text", write_line_as_the_kernel_does)
        apply_plan(make_plan(*changes), root_dir=top, services=FakeServices(top))
    assert (top / QOS[1:]).read_text() == "8:0 enable=1 ctrl=user\n254:16 enable=1 ctrl=user\n"
    assert read_unapplied(make_place(top)).read(QOS).value == "\n".join(lines)


def write_line_as_the_kernel_does(root: Root, path: str, text: str, **_: object) -> None:
    lines = root.at(path).read_text().splitlines()
    device = text.split(" ", 1)[0]
    root.at(path).write_text("".join(f"{text if line.split(' ', 1)[0] == device else line}\n" for line in lines))


def test_files_that_came_with_a_parameter_are_not_there_for_whoever_plans(top: Path) -> None:
    """Pressure was on after the boot, so a second plan did not want psi=1, and took it back from the next boot on."""
    plan = make_plan(change("cmdline:psi", None, "1", Parse.FLAG))
    apply_plan(plan, root_dir=top, persist=True, services=FakeServices(top))
    pressure = top / "proc/pressure/cpu"
    pressure.parent.mkdir()
    pressure.write_text("some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n")
    assert read_unapplied(make_place(top, persist=True)).read("/proc/pressure/cpu").value is not None  # not booted yet
    (top / "proc/cmdline").write_text("quiet psi=1\n")
    root = read_unapplied(make_place(top, persist=True))
    assert (root.read("/proc/cmdline").value, root.read("/proc/pressure/cpu").value) == ("quiet", None)
