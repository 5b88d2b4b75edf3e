from __future__ import annotations

from collections.abc import Sequence

import pytest

from bedplate.act import run as door
from bedplate.act.run import Completed
from bedplate.act.tuning.services import Systemctl

SHOWN = {
    "llama-server.service": "ActiveState=active\nSlice=inference-chat.slice\n",
    "idle.service": "ActiveState=inactive\nSlice=batch.slice\n",
    "neighbour.slice": "ActiveState=active\nSlice=-.slice\n",
}


@pytest.mark.parametrize(
    ("units", "slices"),
    [
        ((), []),
        (("neighbour.slice",), ["system.slice"]),
        (("idle.service",), ["system.slice"]),
        (("llama-server.service", "neighbour.slice"), ["system.slice", "inference-chat.slice"]),
    ],
)
def test_after_a_reload_a_unit_starts_in_each_slice_that_is_meant(
    monkeypatch: pytest.MonkeyPatch, units: Sequence[str], slices: list[str]
) -> None:
    """Without it systemd 257 left a running service at its old weight."""
    called: list[list[str]] = []

    def fake(argv: Sequence[str], **_: object) -> Completed:
        called.append(list(argv))
        text = "\n".join(SHOWN[unit] for unit in argv if unit in SHOWN)
        return Completed(argv=tuple(argv), status=0, output=text, errors="", elapsed_s=0.0, cpu_s=0.0)

    monkeypatch.setattr(door, "run", fake)
    Systemctl().reload(units)
    assert called[0] == ["systemctl", "daemon-reload"]
    started = [argv for argv in called if argv[0] == "systemd-run"]
    assert [word.removeprefix("--slice=") for argv in started for word in argv if word.startswith("--slice=")] == slices
    assert all("--property=DefaultDependencies=no" in argv and "--wait" not in argv for argv in started)
