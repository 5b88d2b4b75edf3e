"""Apply, verify, undo, and what goes wrong between them, on a made machine with real fsync."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bedplate.act.durable import write_all
from bedplate.act.tuning import (
    apply_plan,
    confirm,
    read_applied,
    recover,
    transaction,
    undo,
    verify_plan,
)
from bedplate.act.tuning.baseline import read_unapplied
from bedplate.act.tuning.kinds import kernel_file, unit_property
from bedplate.act.tuning.place import hold_tune_lock, make_place
from bedplate.errors import BedplateError, BusyError, PlanRefused, PreflightError, ReadError, UsageError
from bedplate.host.root.root import Root
from bedplate.model.knob_value import Parse
from bedplate.model.tuning import Held, Plan, Policy, Refusal
from tests.tuning.tree import FULL, THP, FakeServices, change, make_machine, make_plan, snapshot


@pytest.fixture
def top(tree: Path) -> Path:
    return make_machine(tree / "machine")


def text(top: Path, where: str) -> str:
    return (top / where.lstrip("/")).read_text().strip()


@pytest.mark.parametrize("persist", [False, True])
def test_apply_verify_undo_leaves_every_byte_as_before(top: Path, persist: bool) -> None:
    before, services = snapshot(top), FakeServices(top)
    done = apply_plan(FULL, root_dir=top, persist=persist, services=services)
    assert [result.held for result in done.verified] == [Held.HOLDS] * 2 + [Held.PENDING] + [Held.HOLDS] * 3
    assert text(top, "/proc/sys/vm/swappiness") == "10"
    assert text(top, "/sys/fs/cgroup/neighbour.slice/cpu.weight") == "1"
    made = {name: content for name, content in snapshot(top).items() if name not in before}
    base = "etc" if persist else "run"
    assert f"{base}/systemd/system/inference.slice" in made
    assert f"{base}/systemd/system/neighbour.slice" not in made
    assert all(FULL.digest in content.splitlines()[0] for content in made.values() if content is not None)
    assert ("etc/sysctl.d/80-bedplate.conf" in made) is persist
    assert read_applied(root_dir=top, persist=persist) == FULL
    undone = undo(root_dir=top, persist=persist, services=services)
    assert undone.drifted == ()
    after = snapshot(top)
    assert after.pop(THP[1:]) == "madvise\n"  # the kernel would show its choices
    before.pop(THP[1:])
    assert after == before
    assert read_applied(root_dir=top, persist=persist) is None


def test_lasting_files_say_what_the_kernel_was_told(top: Path) -> None:
    plan = make_plan(
        change("/proc/sys/vm/swappiness", "60", "10"),
        change("/sys/block/vda/queue/read_ahead_kb", "128", "4096"),
        change(THP, "madvise", "always", Parse.CHOICE),
        change("/proc/irq/24/smp_affinity_list", "0-1", "0", Parse.WORDS),
        change("cmdline:transparent_hugepage", None, "always", Parse.CHOICE),
    )
    before, services = snapshot(top), FakeServices(top)
    (top / "etc/default").mkdir()
    (top / "etc/default/grub").write_text("")
    done = apply_plan(plan, root_dir=top, persist=True, services=services)
    assert done.verified[-1].held is Held.PENDING
    assert "\n-vm.swappiness = 10\n" in text(top, "/etc/sysctl.d/80-bedplate.conf") + "\n"
    assert f"w- {THP} - - - - always" in text(top, "/etc/tmpfiles.d/80-bedplate.conf")
    rule = 'ACTION!="remove", SUBSYSTEM=="block", KERNEL=="vda", ATTR{queue/read_ahead_kb}="4096"'
    assert rule in text(top, "/etc/udev/rules.d/80-bedplate.rules")
    assert "$GRUB_CMDLINE_LINUX_DEFAULT transparent_hugepage=always" in text(top, "/etc/default/grub.d/80-bedplate.cfg")
    assert services.reloads == 0
    undo(root_dir=top, persist=True, services=services)
    (top / "etc/default/grub").unlink()
    (top / "etc/default").rmdir()
    assert snapshot(top).keys() == before.keys()


def test_a_generated_slice_stays_out_of_the_way_of_the_distributions_own(top: Path) -> None:
    apply_plan(FULL, root_dir=top, services=FakeServices(top))
    assert (top / "run/systemd/system/neighbour.slice.d/80-bedplate.conf").exists()
    assert not (top / "run/systemd/system/neighbour.slice").exists()


def test_another_policy_keeps_the_first_baseline(top: Path) -> None:
    services = FakeServices(top)
    apply_plan(make_plan(change("/proc/sys/vm/swappiness", "60", "10")), root_dir=top, services=services)
    again = make_plan(
        change("/proc/sys/vm/swappiness", "60", "1"),
        change("neighbour.slice:CPUWeight", "100", "idle"),
        policy=Policy.LATENCY,
    )
    apply_plan(again, root_dir=top, services=services)
    assert (text(top, "/proc/sys/vm/swappiness"), text(top, "/sys/fs/cgroup/neighbour.slice/cpu.idle")) == ("1", "1")
    apply_plan(make_plan(change("neighbour.slice:CPUWeight", "100", "1")), root_dir=top, services=services)
    assert text(top, "/proc/sys/vm/swappiness") == "60"  # the third plan does not want it
    undo(root_dir=top, services=services)
    assert text(top, "/sys/fs/cgroup/neighbour.slice/cpu.weight") == "100"


def test_fifty_changes_of_policy_leave_no_drift(top: Path) -> None:
    before, services = snapshot(top), FakeServices(top)
    plans = (FULL, make_plan(change("/proc/sys/vm/swappiness", "60", "1"), policy=Policy.LATENCY))
    for number in range(50):
        assert apply_plan(plans[number % 2], root_dir=top, services=services).drifted == ()
    assert undo(root_dir=top, services=services).drifted == ()
    assert {**snapshot(top), THP[1:]: ""} == {**before, THP[1:]: ""}


def test_applying_the_same_again_does_nothing(top: Path) -> None:
    services = FakeServices(top)
    apply_plan(FULL, root_dir=top, services=services)
    assert apply_plan(FULL, root_dir=top, services=services).steps == 0
    assert services.reloads == 1


def test_what_somebody_else_changed_is_left_and_said(top: Path) -> None:
    services = FakeServices(top)
    apply_plan(FULL, root_dir=top, services=services)
    (top / "proc/sys/vm/swappiness").write_text("33\n")
    dropin = top / "run/systemd/system/neighbour.slice.d/80-bedplate.conf"
    dropin.write_text(dropin.read_text() + "# mine now\n")
    undone = undo(root_dir=top, services=services)
    assert any("swappiness" in text and "33" in text for text in undone.drifted)
    assert any(dropin.name in text for text in undone.drifted)
    assert text(top, "/proc/sys/vm/swappiness") == "33"
    assert dropin.exists()
    assert text(top, "/sys/block/vda/queue/read_ahead_kb") == "128"


def test_a_value_that_is_one_setting_in_two_units_goes_back_by_its_counterpart(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(change("/proc/sys/vm/dirty_bytes", "0", "268435456", Parse.BYTES))
    apply_plan(plan, root_dir=top, services=FakeServices(top))
    (top / "proc/sys/vm/dirty_ratio").write_text("0\n")  # as the kernel does
    written: list[tuple[str, str]] = []
    real = kernel_file.write_text

    def write(root: Root, path: str, text: str) -> None:
        written.append((path, text))
        (top / "proc/sys/vm/dirty_bytes").write_text("0\n")  # as the kernel does when the ratio is written
        real(root, path, text)

    monkeypatch.setattr(kernel_file, "write_text", write)
    assert undo(root_dir=top, services=FakeServices(top)).drifted == ()
    assert written == [("/proc/sys/vm/dirty_ratio", "20")]
    assert text(top, "/proc/sys/vm/dirty_ratio") == "20"


# -- failures in the middle: everything is taken back


def refuse_writes(patch: pytest.MonkeyPatch, name: str, *, instead: str | None = None) -> None:
    """Writes of one file end with EINVAL, or another value arrives."""
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith(name):  # noqa: PTH115
            if instead is None:
                raise OSError(22, "Invalid argument")
            real(descriptor, instead.encode())
            return len(data)
        return real(descriptor, data)

    patch.setattr(os, "write", write)


@pytest.mark.parametrize("persist", [False, True])
@pytest.mark.parametrize("instead", [None, "55\n"], ids=["refused", "clamped"])
def test_a_write_that_fails_takes_everything_back(top: Path, persist: bool, instead: str | None) -> None:
    plan = make_plan(*FULL.changes[:3], change("/sys/block/vda/queue/read_ahead_kb", "128", "256"), FULL.changes[3])
    before, services = snapshot(top), FakeServices(top)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(BedplateError, match="swappiness"):
        refuse_writes(patch, "swappiness", instead=instead)
        apply_plan(plan, root_dir=top, persist=persist, services=services)
    if instead is not None:  # this machine clamps the undo too: the journal stays, and the next run brings it back
        assert recover(root_dir=top, persist=persist, services=services) is not None
    assert snapshot(top) == before
    assert read_applied(root_dir=top, persist=persist) is None
    assert services.reloads == (2 if instead is None else 3)


def test_a_property_that_does_not_take_is_taken_back(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction, "SETTLE_S", 0.05)
    before = snapshot(top)
    with pytest.raises(BedplateError, match=r"neighbour.slice:CPUWeight: wanted 1, the kernel shows 100"):
        apply_plan(FULL, root_dir=top, services=FakeServices(top, deaf=True))
    assert {**snapshot(top), THP[1:]: ""} == {**before, THP[1:]: ""}


def test_ctrl_c_takes_everything_back(top: Path) -> None:
    before = snapshot(top)

    def interrupt(what: str) -> None:
        if "read_ahead_kb" in what:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        apply_plan(FULL, root_dir=top, services=FakeServices(top), on_step=interrupt)
    assert snapshot(top) == before


# -- refused before anything is changed


@pytest.mark.parametrize(
    ("plan", "why"),
    [
        (make_plan(change("/proc/sys/vm/none", "1", "2")), "does not exist in this kernel"),
        (make_plan(change("/etc/passwd", "1", "2")), "is not below"),
        (make_plan(change("/sys/../etc/passwd", "1", "2")), "is not below"),
        (make_plan(change("/proc/sys/vm/swappiness", "50", "2")), "was '50' when the plan was made, is '60' now"),
        (make_plan(change("../../x.slice:CPUWeight", None, "2")), "is not the name of a unit"),
        (make_plan(change("a.service:ExecStart", None, "/bin/sh")), "is not a property that bedplate tune sets"),
        (make_plan(change("a.slice:CPUWeight", None, "1\nExecStart=x")), "is not valid in a unit file"),
        (make_plan(change("cmdline:isolcpus", None, "1")), "which needs --persist"),
        (make_plan(FULL.changes[3], FULL.changes[3]), "in the plan twice"),
        (replace(FULL, refusals=(Refusal(what="tuned", because="it runs", hint="Stop it."),)), "tuned: it runs"),
    ],
)
def test_what_must_not_be_applied_is_refused_and_nothing_is_touched(top: Path, plan: Plan, why: str) -> None:
    before = snapshot(top)
    with pytest.raises(PlanRefused, match=why):
        apply_plan(plan, root_dir=top, services=FakeServices(top))
    assert snapshot(top) == before
    assert not (top / "run/bedplate").exists()


def test_nothing_is_written_through_a_link(top: Path) -> None:
    (top / "elsewhere").mkdir()
    (top / "run/systemd/system/neighbour.slice.d").symlink_to(top / "elsewhere")
    with pytest.raises(PlanRefused, match="symbolic link"):
        apply_plan(FULL, root_dir=top, services=FakeServices(top))
    (top / "sys/evil").symlink_to("../etc")
    (top / "etc/passwd").write_text("1\n")
    with pytest.raises(PlanRefused, match="leads to"):
        apply_plan(make_plan(change("/sys/evil/passwd", "1", "2")), root_dir=top, services=FakeServices(top))
    assert list((top / "elsewhere").iterdir()) == []


def test_a_file_of_our_name_that_is_not_ours_is_not_overwritten(top: Path) -> None:
    mine = top / "run/systemd/system/neighbour.slice.d/80-bedplate.conf"
    mine.parent.mkdir()
    mine.write_text("[Slice]\nCPUWeight=7\n")
    with pytest.raises(PlanRefused, match="exists, and bedplate did not write it"):
        apply_plan(FULL, root_dir=top, services=FakeServices(top))


def test_two_at_once_are_refused(top: Path) -> None:
    with hold_tune_lock(top), pytest.raises(BusyError, match="held by process"):
        undo(root_dir=top, services=FakeServices(top))
    assert not (top / "run/bedplate").exists()


@pytest.mark.parametrize("wait_s", [0.0, 0.5])
def test_a_directory_that_is_not_there_has_no_lock(top: Path, wait_s: float) -> None:
    """Without a word it tried again for ever, at full speed."""
    with pytest.raises(UsageError, match="nosuch: no such directory"), hold_tune_lock(top / "nosuch", wait_s=wait_s):
        pass
    assert not (top / "nosuch").exists()


def test_a_lock_that_cannot_be_made_is_not_tried_for_ever(top: Path) -> None:
    shutil.rmtree(top / "run")
    (top / "run").symlink_to("nowhere")
    with pytest.raises(PreflightError, match=r"tune\.lock: cannot take the lock") as caught, hold_tune_lock(top):
        pass
    assert caught.value.hint is not None and f"{top}/run/bedplate" in caught.value.hint


def test_a_timer_waits_for_who_holds_the_lock(top: Path) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with hold_tune_lock(top):
            entered.set()
            go_on.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    entered.wait(10)
    threading.Timer(0.3, go_on.set).start()
    with hold_tune_lock(top, wait_s=10):
        assert go_on.is_set()
    holder.join()


# -- unless it is confirmed


@pytest.mark.parametrize("persist", [False, True])
def test_the_dead_mans_switch_leaves_nothing(top: Path, persist: bool) -> None:
    before = snapshot(top)
    place = make_place(top, persist=persist)
    confirm.arm(place, 600, ["--probe", "http://127.0.0.1:8080/health?a=%20$b", "--root", "/"])
    timer, service = (place.at(f"{place.units}/{confirm.TIMER}.{kind}").read_text() for kind in ("timer", "service"))
    assert "OnActiveSec=600s" in timer
    assert '"--probe" "http://127.0.0.1:8080/health?a=%%20$$b"' in service
    confirm.disarm(top)
    assert snapshot(top) == before


def test_what_is_confirmed_is_confirmed_once(top: Path) -> None:
    place = make_place(top)
    services = FakeServices(top)
    with hold_tune_lock(top):
        transaction.apply(FULL, place, services, confirm=confirm.TIMER)
        assert confirm.confirm(place)
        assert not confirm.confirm(place)


# -- what is read


def test_verify_never_calls_unknown_good(top: Path) -> None:
    services = FakeServices(top)
    apply_plan(FULL, root_dir=top, services=services)
    (top / "proc/sys/vm/swappiness").write_text("60\n")
    (top / "sys/fs/cgroup/neighbour.slice/cpu.weight").write_text("nonsense\n")
    (top / "sys/block/vda/queue/read_ahead_kb").unlink()
    held = [result.held for result in verify_plan(FULL, root_dir=top, services=services)]
    unknown, pending = Held.UNKNOWN, Held.PENDING
    assert held == [unknown, Held.HOLDS, pending, Held.DIFFERS, unknown, Held.HOLDS]


def test_a_property_without_a_control_group_file_waits_for_the_next_start(top: Path) -> None:
    plan = make_plan(change("vllm.service:OOMScoreAdjust", "0", "-500"))

    class Shown(FakeServices):
        started_us = "1"

        def show(self, units: object, properties: object) -> dict[str, dict[str, str]]:
            row = {"ActiveState": "active", "ControlGroup": "/x", "OOMScoreAdjust": "-500"}
            return {"vllm.service": {**row, "ActiveEnterTimestampMonotonic": self.started_us}}

    services = Shown(top)
    assert apply_plan(plan, root_dir=top, services=services).verified[0].held is Held.PENDING
    services.started_us = "99999999999999"
    found = transaction.verify(make_place(top), services)
    assert found is not None
    assert found[0].held is Held.HOLDS


def test_plans_are_made_as_if_nothing_were_applied(top: Path) -> None:
    apply_plan(FULL, root_dir=top, services=FakeServices(top))
    root = read_unapplied(make_place(top))
    assert root.read("/proc/sys/vm/swappiness").value == "60"
    assert root.read("/sys/fs/cgroup/neighbour.slice/cpu.weight").value == "100"
    (top / "proc/sys/vm/swappiness").write_text("33\n")
    assert read_unapplied(make_place(top)).read("/proc/sys/vm/swappiness").value == "33"


def test_a_plan_that_replaces_another_sees_disks_and_services_as_they_were(top: Path) -> None:
    """What a second apply took for its machine's own it left out, and so the first one's io.cost was taken back."""
    qos, group = top / "sys/fs/cgroup/io.cost.qos", top / "sys/fs/cgroup/system.slice/backup.service"
    qos.write_text("8:0 enable=1 ctrl=user\n")
    group.mkdir()
    (group / "memory.high").write_text("max\n")
    (group / "io.weight").write_text("default 100\n")
    (top / "proc/self").mkdir()
    (top / "proc/self/mountinfo").write_text("30 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
    services = FakeServices(top)
    plan = make_plan(
        change("/sys/fs/cgroup/io.cost.qos", "254:16 enable=0", "254:16 enable=1 ctrl=user", Parse.WORDS),
        change("backup.service:MemoryHigh", "infinity", "1000000", Parse.BYTES),
        change("backup.service:IOWeight", "100", "50"),
        change("cmdline:transparent_hugepage", "madvise", "always", Parse.CHOICE),
        change("cmdline:nohz_full", None, "1", Parse.WORDS),
    )
    apply_plan(plan, root_dir=top, services=services, persist=True)
    (top / "proc/cmdline").write_text("quiet transparent_hugepage=always nohz_full=1\n")  # since the next boot
    qos.write_text("8:0 enable=1 ctrl=user\n254:16 enable=1 ctrl=user\n")
    (group / "memory.high").write_text("1000000\n")
    root = read_unapplied(make_place(top, persist=True))
    assert root.read("/proc/cmdline").value == "quiet transparent_hugepage=madvise"
    assert root.read("/sys/fs/cgroup/io.cost.qos").value == "8:0 enable=1 ctrl=user"
    assert root.read("/sys/fs/cgroup/system.slice/backup.service/memory.high").value == "max"
    assert root.read("/sys/fs/cgroup/system.slice/backup.service/io.weight").value == "default 100"


def test_a_damaged_journal_is_refused_and_a_torn_last_line_is_not(top: Path) -> None:
    place = make_place(top)
    place.journal.parent.mkdir(parents=True)
    place.journal.write_text('{"schema": 1, "kind": "app')
    assert recover(root_dir=top, services=FakeServices(top)) is None
    assert not place.journal.exists()
    place.journal.parent.mkdir(parents=True, exist_ok=True)
    place.journal.write_text("nonsense\n" + json.dumps({"start": 0}) + "\n")
    with pytest.raises(ReadError, match="line 1"):
        recover(root_dir=top, services=FakeServices(top))


def test_an_arm_of_prove_is_a_transaction_of_its_own(top: Path) -> None:
    services = FakeServices(top)
    apply_plan(FULL, root_dir=top, services=services)
    arm = make_plan(change("neighbour.slice:CPUWeight", "1", "50"))
    apply_plan(arm, root_dir=top, state="/run/bedplate/prove-arm", services=services)
    assert text(top, "/sys/fs/cgroup/neighbour.slice/cpu.weight") == "50"
    undo(root_dir=top, state="/run/bedplate/prove-arm", services=services)
    assert text(top, "/sys/fs/cgroup/neighbour.slice/cpu.weight") == "1"
    assert not (top / "run/bedplate/prove-arm").exists()
    assert read_applied(root_dir=top) == FULL


# -- the kernel answers in its own form


def normalise(patch: pytest.MonkeyPatch, forms: dict[str, Callable[[str], str]]) -> None:
    """Let files read back otherwise than they were written, as the kernel's do."""

    def write(descriptor: int, data: bytes) -> None:
        name = os.readlink(f"/proc/self/fd/{descriptor}").rpartition("/")[2]  # noqa: PTH115
        shown = data if name not in forms else f"{forms[name](data.decode().strip())}\n".encode()
        os.truncate(f"/proc/self/fd/{descriptor}", 0)
        write_all(descriptor, shown)

    patch.setattr(kernel_file, "write_all", write)
    patch.setattr(os, "ftruncate", lambda *_: None)  # of a tree to the length of what was written


FORMS: dict[str, Callable[[str], str]] = {
    "enabled": lambda text: " ".join(f"[{word}]" if word == text else word for word in ("always", "madvise", "never")),
    "memory.high": lambda text: text if text == "max" else str(int(text) // 4096 * 4096),
    "read_ahead_kb": lambda text: str(int(text) // 4 * 4),
    "rps_cpus": lambda text: f"00000000,{int(text.replace(',', ''), 16):08x}",
    "tcp_rmem": lambda text: "\t".join(text.split()),
    "smp_affinity_list": lambda text: {"0,1": "0-1"}.get(text, text),
}
NORMALISED = make_plan(
    change(THP, "madvise", "never", Parse.CHOICE),
    change("/sys/fs/cgroup/neighbour.slice/memory.high", "max", "1000000", Parse.BYTES),
    change("/sys/block/vda/queue/read_ahead_kb", "128", "130", Parse.NUMBER),
    change("/sys/class/net/eth0/queues/rx-0/rps_cpus", "00000000,00000000", "3", Parse.WORDS),
    change("/proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456", "4096 131072 16777216", Parse.LAST_NUMBER),
    change("/proc/irq/24/smp_affinity_list", "0", "0,1", Parse.WORDS),
)


def make_normalising_machine(top: Path) -> dict[str, str | None]:
    for change_ in NORMALISED.changes:
        path = top / change_.setting.name[1:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{change_.old}\n")
    (top / THP[1:]).write_text("always [madvise] never\n")
    return snapshot(top)


def test_what_reads_back_in_the_kernels_form_holds_and_goes_back(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = make_normalising_machine(top)
    normalise(monkeypatch, FORMS)
    done = apply_plan(NORMALISED, root_dir=top, services=FakeServices(top))
    assert [verified.held for verified in done.verified] == [Held.HOLDS] * len(NORMALISED.changes)
    assert text(top, THP) == "always madvise [never]"
    assert text(top, "/sys/fs/cgroup/neighbour.slice/memory.high") == "999424"
    assert apply_plan(NORMALISED, root_dir=top, services=FakeServices(top)).steps == 0
    assert undo(root_dir=top, services=FakeServices(top)).drifted == ()
    assert snapshot(top) == before


def test_a_place_of_a_triple_that_somebody_changed_is_not_ours(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_normalising_machine(top)
    normalise(monkeypatch, FORMS)
    apply_plan(NORMALISED, root_dir=top, services=FakeServices(top))
    (top / "proc/sys/net/ipv4/tcp_rmem").write_text("4096\t16384\t16777216\n")
    drifted = undo(root_dir=top, services=FakeServices(top)).drifted
    assert len(drifted) == 1
    assert "tcp_rmem" in drifted[0]
    assert text(top, "/proc/sys/net/ipv4/tcp_rmem") == "4096\t16384\t16777216"


# -- a control group that goes away in the middle: its service stopped or starts again


@pytest.mark.parametrize("when", ["reload systemd", "write /proc/sys/vm/swappiness", "write /proc/sys/vm/none"])
def test_a_control_group_that_goes_while_a_plan_is_applied_waits_for_its_unit(top: Path, when: str) -> None:
    before, services = snapshot(top), FakeServices(top)
    group = top / "sys/fs/cgroup/neighbour.slice"

    def stop(what: str) -> None:
        if what == when and group.exists():
            shutil.rmtree(group)

    done = apply_plan(FULL, root_dir=top, services=services, on_step=stop)
    held = Held.HOLDS if group.exists() else Held.PENDING
    assert [verified.held for verified in done.verified] == [held] * 2 + [Held.PENDING] + [Held.HOLDS] * 3
    assert (group.exists()) is when.endswith("none")
    undone = undo(root_dir=top, services=services)
    assert undone.drifted == ()
    left = {name: value for name, value in before.items() if "neighbour.slice" not in name or "cgroup" not in name}
    assert {name: value for name, value in snapshot(top).items() if name in left and name != THP[1:]} == {
        name: value for name, value in left.items() if name != THP[1:]
    }


def test_a_control_group_that_goes_between_two_looks_is_not_unknown(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apply_plan(FULL, root_dir=top, services=FakeServices(top))

    def vanish(root: object, cgroup: str, key: str) -> None:
        shutil.rmtree(top / cgroup[1:], ignore_errors=True)

    monkeypatch.setattr(unit_property, "read_property", vanish)
    held = [verified.held for verified in verify_plan(FULL, root_dir=top, services=FakeServices(top))]
    assert held == [Held.PENDING] * 3 + [Held.HOLDS] * 3


@pytest.mark.parametrize("what", ["apply", "undo"])
def test_a_file_of_a_control_group_that_goes_is_drift(top: Path, what: str) -> None:
    group = top / "sys/fs/cgroup/system.slice/vllm.service"
    group.mkdir()
    (group / "memory.high").write_text("max\n")
    where = "/sys/fs/cgroup/system.slice/vllm.service/memory.high"
    plan = make_plan(change(where, "max", "4096000", Parse.BYTES), change("/proc/sys/vm/swappiness", "60", "10"))
    before, services = snapshot(top), FakeServices(top)

    def stop(step: str) -> None:
        if "swappiness" in step:
            shutil.rmtree(group)

    if what == "apply":
        with pytest.raises(BedplateError, match=rf"{where}: is not there"):
            apply_plan(plan, root_dir=top, services=services, on_step=stop)
    else:
        apply_plan(plan, root_dir=top, services=services)
        assert undo(root_dir=top, services=services, on_step=stop).drifted == (
            f"{where}: is not there: it is gone, so there is nothing to restore",
        )
    assert recover(root_dir=top, services=services) is None
    assert snapshot(top) == {name: value for name, value in before.items() if "vllm" not in name}
