"""A /var that is not there: its policy is followed whatever else fails, and what failed is said. systemctl is a fake."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.cli.talk import Talk
from bedplate.errors import BedplateError
from bedplate.flows.var import say_failed, say_halted
from bedplate.host.root.root import Root
from bedplate.model.var import OnVarFailure

STOP_VAR = "stop --no-block var.mount systemd-cryptsetup@varcrypt.service"
STOP_SERVING = "stop --no-block bedplate-haproxy.service inference.slice"
REBOOT = "start --no-block bedplate-reboot.timer"
AFTER = {OnVarFailure.SERVE: [], OnVarFailure.REBOOT: [REBOOT], OnVarFailure.WAIT: [STOP_SERVING]}


class Machine:
    """A root whose image has this policy, and a systemctl that refuses some of what it is told."""

    def __init__(self, top: Path, policy: OnVarFailure, *, refuses: str) -> None:
        self.root, self._calls = Root(top / "root"), top / "calls"
        (top / "root/usr/lib/bedplate").mkdir(parents=True)
        (top / "root/usr/lib/bedplate/image.json").write_text(f'{{"on_var_failure": "{policy}"}}')
        (top / "root/dev").mkdir()
        (top / "root/dev/hvc0").write_text("")
        for name in ("systemctl", "journalctl"):
            program = top / "bin" / name
            program.parent.mkdir(exist_ok=True)
            program.write_text(
                f'#!/bin/sh\n[ "${{0##*/}}" = systemctl ] || exit 0\necho "$*" >>{self._calls}\n'
                f'case $* in {refuses}) echo "Failed to connect to bus" >&2; exit 1 ;; *list-units*) echo "[]" ;; esac\n'
            )
            program.chmod(0o755)

    def calls(self) -> list[str]:
        return [call for call in self._calls.read_text().splitlines() if "list-units" not in call]

    def console(self) -> str:
        return (self.root.path / "dev/hvc0").read_text()


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEDPLATE_PATH_PREFIX", str(tmp_path / "bin"))


@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize("policy", OnVarFailure)
@pytest.mark.parametrize("refuses", ["nothing", "*stop*var.mount*", "*"])
def test_the_policy_is_followed_also_where_the_stop_fails(tmp_path: Path, policy: OnVarFailure, refuses: str) -> None:
    machine = Machine(tmp_path, policy, refuses=refuses)
    if refuses == "nothing":
        say_failed(Talk(), root=machine.root)
    else:
        with pytest.raises(BedplateError, match=r"stop var\.mount .*Failed to connect to bus") as caught:
            say_failed(Talk(), root=machine.root)
        assert ("; " in caught.value.message) is (refuses == "*" and policy is not OnVarFailure.SERVE)
    assert machine.calls() == [STOP_VAR, *AFTER[policy]]
    assert machine.console().count("bedplate: /var is missing: ") == 1


@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize("policy", OnVarFailure)
def test_the_policy_is_followed_also_where_nothing_can_be_said(
    tmp_path: Path, policy: OnVarFailure, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no console")

    monkeypatch.setattr("bedplate.act.consoles.write_consoles", fail)
    failed, halted = (Machine(tmp_path / name, policy, refuses="nothing") for name in ("failed", "halted"))
    for machine, say in ((failed, say_failed), (halted, say_halted)):
        monkeypatch.setenv("BEDPLATE_PATH_PREFIX", str(machine.root.path.parent / "bin"))
        with pytest.raises(OSError, match="no console"):
            say(Talk(), root=machine.root)
    assert failed.calls() == [STOP_VAR, *AFTER[policy]]
    if policy is OnVarFailure.WAIT:
        assert not (tmp_path / "halted/calls").exists() or halted.calls() == []
    else:
        assert halted.calls() == [REBOOT]


@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize("listed", ["[", "5", "[{}]", '[{"unit": "x.service", "active": "failed", "sub": "failed"}]'])
def test_a_halt_is_said_and_the_machine_starts_again_whatever_systemctl_prints(tmp_path: Path, listed: str) -> None:
    machine = Machine(tmp_path, OnVarFailure.SERVE, refuses="nothing")
    program = tmp_path / "bin/systemctl"
    program.write_text(program.read_text().replace('echo "[]"', f"echo '{listed}'"))
    say_halted(Talk(), root=machine.root)
    assert machine.calls() == [REBOOT]
    said = "x.service" if "x.service" in listed else "(not known)"
    assert f"bedplate: the machine stopped: failed: {said}" in machine.console()
