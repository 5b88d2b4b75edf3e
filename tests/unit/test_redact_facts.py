"""Facts and findings of a machine that holds secrets: none is left in them, and what has none is not touched."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.facts_factory import make_facts, make_kernel
from tests.unit.report_machines import make_finding, make_server, make_vm

from bedplate.host.record.redact import Redactor
from bedplate.host.record.redact_facts import hide_everywhere, hide_in_conclusions, hide_in_facts, redact_facts
from bedplate.model.facts.finding import Evidence, Severity
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import known
from bedplate.model.facts.system import Mount

UNIT = "/etc/systemd/system/fstrim.service.d/a.conf"


@pytest.mark.parametrize("facts", [make_server(), make_vm()], ids=["server", "vm"])
def test_a_secret_in_any_text_of_the_facts_is_hidden(facts: HostFacts) -> None:
    planted = hide_everywhere(facts, lambda text: f"{text} token=planted")
    assert repr(planted).count("planted") > 100
    assert "planted" not in repr(redact_facts(planted, Redactor()))
    assert "planted" not in repr(replace(hide_in_facts(planted), knobs=()))


@pytest.mark.parametrize("facts", [make_server(), make_vm()], ids=["server", "vm"])
def test_facts_without_secrets_are_the_same_objects(facts: HostFacts) -> None:
    assert hide_everywhere(facts, str) is facts
    assert hide_in_facts(facts) == facts
    finding = make_finding("link.slow", Severity.HIGH, "GPU 0: 8 GT/s, can 32", "0000:19:00.0")
    assert hide_in_conclusions((finding,), facts) == (finding,)


def test_what_a_finding_quotes_is_hidden_by_the_rule_of_its_file() -> None:
    facts = make_facts(
        kernel=make_kernel(cmdline=("quiet", "systemd.set_credential=a:planted", "nosmt")),
        mounts=(Mount(point="/mnt/a b", source=":s3,secret_access_key=planted:", kind="fuse.rclone", options=("rw",)),),
        knobs=(known("[Service]\nSetCredential=a:planted\nEnvironment=A=planted OMP_X=1\nSlice=x.slice", UNIT),),
    )
    finding = replace(
        make_finding("x", Severity.LOW, "a title"),
        evidence=(
            Evidence(fact="systemd.set_credential=a:planted", source="/proc/cmdline"),
            Evidence(fact="/m is on :s3,secret_access_key=planted: at /mnt/a b", source="/proc/self/mountinfo"),
            Evidence(fact="SetCredential=a:planted", source=UNIT),
            Evidence(fact="it says Environment=A=planted OMP_X=1", source=UNIT),
        ),
        fix=("echo 1 > /sys/x", "kernel.core_pattern=|/x --token planted"),
    )
    (clean,) = hide_in_conclusions((finding,), facts)
    assert [evidence.fact for evidence in clean.evidence] == [
        "systemd.set_credential=***",
        "/m is on :s3,secret_access_key=***",
        "SetCredential=***",
        'it says Environment="A=***" "OMP_X=1"',
    ]
    assert clean.fix == ("echo 1 > /sys/x", "kernel.core_pattern=|/x --token ***")


def test_the_place_of_a_mount_stays() -> None:
    mount = Mount(point="/mnt/a b\\c", source="/dev/my disk", kind="ext4", options=("rw", "noatime"))
    assert redact_facts(make_facts(mounts=(mount,)), Redactor()).mounts == (mount,)
