"""Applying, confirming and taking back, below a directory; what is refused, and what a failure leaves."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from bedplate.act.configuration import transaction
from bedplate.act.configuration.place import ConfigPlace, hold_config
from bedplate.act.configuration.records import write_in_force
from bedplate.errors import BedplateError, BusyError, NotAppliedError, PlanRefused, ReadError, UsageError
from bedplate.flows import config
from bedplate.flows.config_file import make_key, sign_config
from bedplate.model.config_change import AppliedConfig, UnitAction
from tests.configuration.machine import FULL, FakeServices, Silence, make_machine, put, snapshot

LINK = '[[network.link]]\nname = "eno1"\naddressing = "static"\naddresses = ["192.0.2.9/24"]\n'


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)


def apply(top: Path, text: str, services: FakeServices | None = None, *, within_s: int | None = 600) -> list[str]:
    """Apply a text; what the service manager was asked."""
    manager = services or FakeServices(top)
    config.apply(put(top, text), top, Silence(), within_s=within_s, services=manager, reach_s=0)
    return manager.asked


def test_everything_is_written_and_only_what_changed_is_asked_for(tree: Path) -> None:
    top = make_machine(tree / "box")
    asked = apply(top, FULL, within_s=None)
    assert asked == [
        "read-units",
        "reload systemd-networkd.service",
        "restart bedplate-front-var.service",
        "restart systemd-timesyncd.service",
        "restart bedplate-tune.service",
        "restart systemd-journald.service",
    ]
    assert (top / "var/lib/bedplate/machine.toml").read_text() == FULL
    assert (top / "proc/sys/kernel/hostname").read_text() == "rack3-07\n"
    changed = FULL.replace("keep_days = 30", "keep_days = 31")
    assert apply(top, changed, within_s=None) == ["restart systemd-journald.service"]
    assert apply(top, changed, within_s=None) == [], "it is in force already"
    assert [row["number"] for row in config.history(top)] == [1, 2]


def test_taking_the_tables_out_again_leaves_what_was_there_before(tree: Path) -> None:
    top = make_machine(tree / "box")
    before = snapshot(top)
    apply(top, FULL, within_s=None)
    apply(top, "schema = 1\n", within_s=None)
    after = snapshot(top)
    assert after.pop("var/lib/bedplate/machine.toml") == "schema = 1\n"
    assert after == before


def test_what_waits_can_be_kept_or_taken_back_and_nothing_else_is_applied_meanwhile(tree: Path) -> None:
    top = make_machine(tree / "box")
    before = snapshot(top)
    apply(top, FULL)
    timer = (top / "run/systemd/system/bedplate-config-confirm.timer").read_text()
    service = (top / "run/systemd/system/bedplate-config-confirm.service").read_text()
    assert "OnActiveSec=600s\n" in timer and '"config" "revert" "--unless-confirmed" "--root"' in service
    with pytest.raises(BusyError, match=r"configuration 1, applied by .* waits to be confirmed"):
        apply(top, "schema = 1\n")
    assert config.show(top).waits
    services = FakeServices(top)
    config.revert(top, Silence(), unless_confirmed=True, services=services)
    assert snapshot(top) == before
    assert "reload systemd-networkd.service" in services.asked
    assert not list((top / "run/systemd/system").iterdir())
    assert [(row["what"], row["who"]) for row in config.history(top)][1:] == [("reverted", "timer")]
    for verb in (config.revert, config.confirm):
        with pytest.raises(NotAppliedError):
            verb(top, Silence(), services=services)

    apply(top, FULL)
    assert config.confirm(top, Silence(), services=services).number == 2
    kept = snapshot(top)
    assert config.revert(top, Silence(), unless_confirmed=True, services=services) is None
    assert snapshot(top) == kept
    assert [row["what"] for row in config.history(top)] == ["applied", "reverted", "applied", "confirmed"]


def test_a_second_configuration_that_is_not_confirmed_brings_back_the_first(tree: Path) -> None:
    top = make_machine(tree / "box")
    apply(top, FULL, within_s=None)
    first = snapshot(top)
    apply(top, 'name = "other"\n')
    assert snapshot(top) != first
    config.revert(top, Silence(), services=FakeServices(top))
    assert snapshot(top) == first
    assert config.show(top).identity == config.show(top).identity
    shown = config.show(top)
    assert shown.identity is not None and (shown.identity.number, shown.waits, shown.by_hand) == (1, False, False)


@pytest.mark.parametrize("fails", ["reload systemd-networkd.service", "restart bedplate-front-var.service"])
def test_a_unit_that_fails_puts_everything_back(tree: Path, fails: str) -> None:
    top = make_machine(tree / "box")
    before = snapshot(top)
    services = FakeServices(top)
    calls: list[str] = []

    def refuse_once(action: object) -> None:
        calls.append(str(action))
        services.fails = (fails,) if calls.count(fails) == 1 else ()
        FakeServices.carry_out(services, action)  # type: ignore[arg-type]

    services.carry_out = refuse_once  # type: ignore[method-assign]
    with pytest.raises(BedplateError, match=f"{fails}: refused") as caught:
        apply(top, FULL, services)
    assert caught.value.hint == "Everything was put back as it was."
    assert snapshot(top) == before
    assert calls.count("reload systemd-networkd.service") >= 1 + (fails != "reload systemd-networkd.service")
    assert config.history(top)[-1]["what"] == "failed" and fails in config.history(top)[-1]["why"]
    assert not ConfigPlace(top=top).in_force.exists() and not ConfigPlace(top=top).journal.exists()


def test_a_network_that_cuts_the_machine_off_comes_back_at_once(tree: Path) -> None:
    top = make_machine(tree / "box")
    before = snapshot(top)
    services = FakeServices(top, cuts=("reload systemd-networkd.service",))
    with pytest.raises(BedplateError, match=r"network: the machine had 192\.0\.2\.9, and has no address"):
        apply(top, LINK, services)
    assert snapshot(top) == before
    assert not list((top / "run/systemd/system").iterdir()), "the timer has nothing to take back"
    assert config.history(top)[-1]["what"] == "failed"


def test_a_file_is_written_byte_for_byte(tree: Path) -> None:
    """Editors of other systems end lines with CR LF, and leave white space behind the last one."""
    top = make_machine(tree / "box")
    hostname = top / "etc/hostname"
    hostname.write_bytes(b"was\r\n")
    apply(top, "name = 'a'\r\n[time]\r\n \r\n", within_s=None)
    assert (top / "var/lib/bedplate/machine.toml").read_bytes() == b"name = 'a'\r\n[time]\r\n \r\n"
    assert not config.show(top).by_hand
    apply(top, "schema = 1\n", within_s=None)
    assert hostname.read_bytes() == b"was\r\n"


def test_another_engine_for_a_model_takes_effect_at_once(tree: Path) -> None:
    top = make_machine(tree / "box")
    model = "[[serve.model]]\nname = 'm'\n"
    assert apply(top, model, within_s=None) == []
    assert apply(top, f"{model}engine = 'vllm'\n") == ["restart bedplate-front-var.service"]
    services = FakeServices(top)
    config.revert(top, Silence(), services=services)
    assert services.asked == ["restart bedplate-front-var.service"]
    host = make_machine(tree / "host", image=False)
    notes = config.diff(put(host, f"{model}engine = 'vllm'\n"), host).notes
    assert "[serve] takes effect with: bedplate serve prepare" in notes


def test_who_binds_a_model_to_clients_learns_that_it_refuses_nobody_yet(tree: Path) -> None:
    (note,) = config.check(put(tree, "[[serve.model]]\nname = 'm'\nclients = ['ann']\n"))[1]
    assert (
        note.startswith("[serve] chooses the engine of a model, and nothing else yet") and "bedplate key add --model" in note
    )


def test_a_file_that_cannot_be_written_puts_everything_back(tree: Path) -> None:
    top = make_machine(tree / "box")
    (top / "etc/systemd/journald.conf.d").write_text("in the way")
    before = snapshot(top)
    with pytest.raises(BedplateError, match=r"journald\.conf\.d"):
        apply(top, FULL)
    assert snapshot(top) == before


@pytest.mark.parametrize("kind", ["link", "directory", "bytes"])
def test_what_is_no_text_file_is_refused_before_anything_is_changed(tree: Path, kind: str) -> None:
    top = make_machine(tree / "box")
    path = top / "etc/systemd/network/40-bedplate-eno1.network"
    if kind == "link":
        path.symlink_to("/dev/null")
    elif kind == "directory":
        path.mkdir()
    else:
        path.write_bytes(b"\xff")
    with pytest.raises(PlanRefused, match=r"40-bedplate-eno1\.network"):
        apply(top, LINK)
    assert not ConfigPlace(top=top).journal.exists() and config.history(top) == ()


def test_a_host_that_is_no_image_keeps_its_own_network(tree: Path) -> None:
    top = make_machine(tree / "host", image=False)
    before = snapshot(top)
    services = FakeServices(top)
    outcome = config.apply(put(top, FULL), top, Silence(), within_s=None, services=services)
    assert services.asked == []
    after = snapshot(top)
    assert after.pop("var/lib/bedplate/machine.toml") == FULL and after == before
    told = "\n".join(outcome.plan.notes)
    for table in ("name", "network", "time", "tuning", "log"):
        assert f"[{table}] is not applied on this host, which is no bedplate image" in told
    assert "[front] takes effect with: bedplate serve prepare" in told


def test_below_another_root_no_unit_is_asked_and_nothing_waits(tree: Path) -> None:
    top = make_machine(tree / "box")
    outcome = config.apply(put(top, FULL), top, Silence(), within_s=600)
    assert outcome.waits_s is None and not config.show(top).waits
    assert "reload systemd-networkd.service" in [str(action) for action in outcome.plan.actions], "it is named"


def test_production_takes_only_what_the_owner_signed_and_nothing_older(tree: Path) -> None:
    top = make_machine(tree / "box", variant="production")
    unsigned = put(top, FULL)
    key, line = make_key(tree / "config.key")
    other, _ = make_key(tree / "other.key")

    def refused(path: Path, error: type[BedplateError], match: str) -> None:
        before = snapshot(top)
        with pytest.raises(error, match=match):
            config.apply(path, top, Silence(), within_s=None, services=FakeServices(top), reach_s=0)
        assert snapshot(top) == before

    def signed(sequence: int, text: str = FULL, by: Path = key) -> Path:
        source = put(top, text.replace("sequence = 12", f"sequence = {sequence}"), "source.toml")
        path = tree / f"signed-{sequence}-{len(text)}-{by.name}.toml"
        sign_config(source, by, path)
        return path

    refused(unsigned, ReadError, "is not signed")
    refused(signed(12), ReadError, "does not have")
    (top / "usr/lib/bedplate/config.keys").write_text(f"{line}\n")
    refused(signed(12, by=other), ReadError, "does not have")
    good = signed(12)
    for at in range(0, len(good.read_bytes()), 97):  # a bit of one byte differs, wherever it is
        content = bytearray(good.read_bytes())
        content[at] ^= 1
        damaged = tree / "damaged.toml"
        damaged.write_bytes(bytes(content))
        refused(damaged, ReadError, "signature|signed|UTF-8")
    config.apply(good, top, Silence(), within_s=None, services=FakeServices(top), reach_s=0)
    assert config.show(top).identity is not None
    refused(signed(11), UsageError, "has the sequence 11, older than 12")
    refused(signed(12, FULL + "# more\n"), UsageError, "with other content")
    config.apply(signed(13), top, Silence(), within_s=None, services=FakeServices(top), reach_s=0)
    rows = config.history(top)
    assert [(row["sequence"], row["what"]) for row in rows] == [(12, "applied"), (13, "applied")]


def test_a_host_that_names_keys_asks_for_a_signature_too(tree: Path) -> None:
    top = make_machine(tree / "host", image=False)
    _, line = make_key(tree / "config.key")
    (top / "etc/bedplate").mkdir()
    (top / "etc/bedplate/config.keys").write_text(f"{line}\n")
    with pytest.raises(ReadError, match="is not signed") as caught:
        apply(top, FULL)
    assert caught.value.hint is not None and "bedplate config sign" in caught.value.hint


def test_a_record_that_cannot_be_read_is_told_and_nothing_is_changed(tree: Path) -> None:
    top = make_machine(tree / "box")
    place = ConfigPlace(top=top)
    for file in (place.in_force, place.journal):
        for text in ("", "{", "[]", "{}", '{"schema": 1}', '{"schema": 2}'):
            file.write_text(text)
            before = snapshot(top)
            with pytest.raises(ReadError, match=file.name):
                apply(top, FULL)
            assert snapshot(top) == before
        file.unlink()


def test_a_change_by_hand_is_shown(tree: Path) -> None:
    top = make_machine(tree / "box")
    apply(top, FULL, within_s=None)
    assert not config.show(top).by_hand
    (top / "var/lib/bedplate/machine.toml").write_text("schema = 1\n")
    assert config.show(top).by_hand


def test_the_front_is_prepared_again_where_a_boot_takes_an_open_one_back(tree: Path) -> None:
    """Engines of models on /var start with the machine.toml that waits: open, it leaves neither keys nor a certificate. When
    it is gone, what is left of it must still meet a condition of the unit that closes the front end."""
    top = make_machine(tree / "box")
    apply(top, "[front]\nrequire_key = false\ninsecure = true\n")
    services = FakeServices(top)
    config.restore(top, Silence(), services=services)
    assert services.asked == ["restart bedplate-front-var.service"]
    assert not (top / "var/lib/bedplate/machine.toml").exists()
    unit = Path(__file__).parents[2] / "image/os/common/usr/lib/systemd/system/bedplate-front-var.service"
    wanted = [line.partition("=|")[2] for line in unit.read_text().splitlines() if line.startswith("ConditionPathExists=|")]
    assert any((top / path.lstrip("/")).exists() for path in wanted)


def test_a_front_that_closes_comes_back_at_once(tree: Path) -> None:
    """Such as by a CA of the clients that is not there: `serve prepare` ends well, and records why nobody is answered."""
    top = make_machine(tree / "box")
    before = snapshot(top)
    record = top / "run/bedplate/front.json"
    record.parent.mkdir()

    class Front(FakeServices):
        def carry_out(self, action: UnitAction) -> None:
            super().carry_out(action)
            if action.unit == "bedplate-front-var.service":
                is_new = (top / "var/lib/bedplate/machine.toml").exists()
                record.write_text(
                    json.dumps({"problems": ["/ca.pem: expected certificates in PEM\nmore"] if is_new else []})
                )

    record.write_text(json.dumps({"problems": []}))
    with pytest.raises(BedplateError, match=r"front: it closed: /ca\.pem: expected certificates in PEM"):
        apply(top, "[front.tls]\nclient_ca = '/ca.pem'\n", Front(top))
    assert json.loads(record.read_text()) == {"problems": []}
    record.unlink()
    record.parent.rmdir()
    assert snapshot(top) == before


def test_ctrl_c_after_the_commit_leaves_the_timer(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top = make_machine(tree / "box")

    def interrupted(place: ConfigPlace, record: AppliedConfig | None) -> None:
        write_in_force(place, record)
        raise KeyboardInterrupt

    monkeypatch.setattr(transaction, "write_in_force", interrupted)
    with pytest.raises(KeyboardInterrupt):
        apply(top, FULL)
    assert config.show(top).waits
    assert (top / "run/systemd/system/bedplate-config-confirm.timer").exists(), "nobody has seen that it must be confirmed"


def test_what_cannot_be_put_back_keeps_the_timer_and_the_next_verb_tries_again(tree: Path) -> None:
    top = make_machine(tree / "box")
    before = snapshot(top)
    services = FakeServices(top, fails=("reload systemd-networkd.service",))
    with pytest.raises(BedplateError, match="refused") as caught:
        apply(top, LINK, services)
    assert caught.value.hint is not None and "The journal is kept" in caught.value.hint
    assert ConfigPlace(top=top).journal.exists()
    assert (top / "run/systemd/system/bedplate-config-confirm.timer").exists()
    talk = Silence()
    assert config.revert(top, talk, unless_confirmed=True, services=FakeServices(top)) is None
    assert talk.notes == ["an interrupted change was found; it was taken back"]
    assert snapshot(top) == before and not list((top / "run/systemd/system").iterdir())


def test_the_second_administrator_learns_who_is_at_it(tree: Path) -> None:
    top = make_machine(tree / "box")
    with hold_config(ConfigPlace(top=top), "apply"), pytest.raises(BusyError, match="`bedplate config apply` \\(process"):
        apply(top, FULL)
    assert not ConfigPlace(top=top).in_force.exists()
