"""Checks of links, ACS and the IOMMU."""

from __future__ import annotations

import dataclasses

import pytest
from tests.unit.audit_cases import cases, gaps, ids
from tests.unit.facts_factory import (
    absent,
    denied,
    make_acs,
    make_facts,
    make_gpu,
    make_link,
    make_nic,
    make_os,
    make_pci,
    make_port,
    not_recorded,
    with_gpus,
)

from bedplate.model.facts.finding import Confidence, Severity
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.pci import Acs, PciDevice, PciKind
from bedplate.model.facts.reading import Reading, known
from bedplate.plan.rules.checks import acs, links


def with_link(facts: HostFacts, **changes: object) -> HostFacts:
    pci = tuple(
        dataclasses.replace(device, link=make_link(**changes)) if device.kind is PciKind.ENDPOINT else device
        for device in facts.pci
    )
    return dataclasses.replace(facts, pci=pci)


def test_healthy_links() -> None:
    facts = with_gpus(make_facts(), 8)
    for check in (links.check_width, links.check_speed, links.check_virtual):
        assert list(check(facts)) == []


def test_a_narrow_link() -> None:
    (case,) = cases(links.check_width, with_link(with_gpus(make_facts()), width=8))
    assert (case.severity, case.confidence) == (Severity.HIGH, Confidence.CERTAIN)
    assert "runs at x8; device and slot support x16" in case.because


def test_a_slot_that_is_as_narrow_as_the_link_is_no_fault_of_the_link() -> None:
    assert list(links.check_width(with_link(with_gpus(make_facts()), width=8, port_max_width=8))) == []
    assert list(links.check_width(with_link(with_gpus(make_facts()), width=8, max_width=8))) == []


def test_a_link_that_is_not_told() -> None:
    facts = with_link(with_gpus(make_facts()), width=None)
    assert cases(links.check_width, facts) == []
    assert ids(gaps(links.check_width, facts)) == ["link.narrow"]


def test_speed_is_judged_of_a_busy_gpu_only() -> None:
    (case,) = cases(links.check_speed, with_link(with_gpus(make_facts()), speed_gts=16.0))
    assert (case.severity, case.confidence) == (Severity.HIGH, Confidence.LIKELY)
    for idle in (known(0.0, "nvml"), not_recorded("nvml"), absent("nvml")):
        facts = with_link(with_gpus(make_facts(), utilization_pct=idle), speed_gts=2.5)
        assert cases(links.check_speed, facts) == []
        (gap,) = gaps(links.check_speed, facts)
        assert gap.because.endswith("check 0000:10:00.0 (2.5 of 32 GT/s) under load")


def test_a_slow_drive_and_a_slow_card() -> None:
    drive = make_pci("0000:01:00.0", class_code=0x010802, link=make_link(speed_gts=8.0, width=4, max_width=4))
    card = make_pci("0000:02:00.0", class_code=0x020000, link=make_link(width=8))
    facts = make_facts(pci=(drive, card))
    assert [case.where for case in cases(links.check_speed, facts)] == [("0000:01:00.0",)]
    assert [case.where for case in cases(links.check_width, facts)] == [("0000:02:00.0",)]


@pytest.mark.parametrize("changes", [{"width": 8}, {"speed_gts": 2.5}])
def test_a_virtual_machine_is_not_judged(changes: dict[str, object]) -> None:
    facts = with_link(with_gpus(make_facts(os=make_os(virtualisation=known("kvm", "/sys/dmi")))), **changes)
    assert cases(links.check_width, facts) == cases(links.check_speed, facts) == []
    assert ids(gaps(links.check_virtual, facts)) == ["link.narrow", "link.slow"]
    assert list(links.check_virtual(make_facts(os=make_os(virtualisation=known("kvm", "/sys/dmi"))))) == []


# -- ACS: GPU and card below one switch, and a second GPU below another


def tree(on: tuple[str, ...] = (), *, nvswitch: bool = False, readings: dict[str, Reading[Acs]] | None = None) -> HostFacts:
    """Root port -> switch (16) with ports 17:00 (GPU 19) and 17:01 (card 1a) and 17:02 (GPU 1b); redirect on at `on`."""

    def port(address: str, kind: PciKind, parent: str | None) -> PciDevice:
        reading = (readings or {}).get(
            address, known(make_acs(redirect=address in on), f"/sys/bus/pci/devices/{address}/config")
        )
        return make_port(address, kind=kind, parent=parent, acs=reading)

    devices = [
        port("0000:15:01.0", PciKind.ROOT_PORT, None),
        make_port("0000:16:00.0", kind=PciKind.SWITCH_UPSTREAM, parent="0000:15:01.0", acs=absent("/config")),
        *(port(f"0000:17:0{n}.0", PciKind.SWITCH_DOWNSTREAM, "0000:16:00.0") for n in range(3)),
        make_pci("0000:19:00.0", parent="0000:17:00.0"),
        make_pci(
            "0000:1a:00.0", parent="0000:17:01.0", class_code=0x020700, vendor=0x15B3, device=0x1021, name="ConnectX-7"
        ),
        make_pci("0000:1b:00.0", parent="0000:17:02.0"),
    ]
    if nvswitch:
        devices += [
            port("0000:80:01.0", PciKind.ROOT_PORT, None),
            make_pci("0000:83:00.0", parent="0000:80:01.0", class_code=0x068000, device=0x22A3),
        ]
    gpus = (make_gpu(0, "0000:19:00.0"), make_gpu(1, "0000:1b:00.0"))
    return make_facts(pci=tuple(sorted(devices, key=lambda device: device.address)), accelerators=gpus)


PORTS = ("0000:17:00.0", "0000:17:01.0", "0000:17:02.0")


def test_acs_off_everywhere_is_fine() -> None:
    assert list(acs.check_acs(tree())) == []


def test_mixed_acs_names_the_ports_that_have_it_and_those_that_do_not() -> None:
    (case,) = cases(acs.check_acs, tree(on=("0000:17:01.0",)))
    assert case.id == "pci.acs-mixed" and case.severity is Severity.HIGH
    assert case.where == ("0000:17:01.0",)
    assert "0000:17:00.0 and 0000:17:02.0" in case.because
    assert "setpci -s 0000:17:01.0 ECAP_ACS+6.w=0:c" in case.fix
    assert any("pci=disable_acs_redir=0000:17:01.0" in line for line in case.fix)
    assert "setpci -s 0000:17:01.0 ECAP_ACS+6.w=c:c" in case.undo


def test_undo_puts_back_the_bits_that_were_set() -> None:
    half = dataclasses.replace(make_acs(redirect=False), request_redirect=True)
    (case,) = cases(acs.check_acs, tree(readings={"0000:17:01.0": known(half, "/config")}))
    assert "setpci -s 0000:17:01.0 ECAP_ACS+6.w=4:c" in case.undo


def test_acs_on_everywhere_is_another_finding() -> None:
    (case,) = cases(acs.check_acs, tree(on=PORTS))
    assert case.id == "pci.acs-redirect" and case.severity is Severity.MEDIUM


def test_redirect_where_no_path_goes_is_low_and_claims_no_effect() -> None:
    facts = tree(on=("0000:80:01.0",), nvswitch=True)
    (case,) = cases(acs.check_acs, facts)
    assert case.id == "pci.acs-mixed" and case.severity is Severity.LOW and case.where == ("0000:80:01.0",)
    assert "no path between accelerators and network cards crosses" in case.because
    assert case.effect is not None and case.effect.startswith("no evidence")


def test_the_root_port_above_a_common_switch_is_not_crossed() -> None:
    (case,) = cases(acs.check_acs, tree(on=("0000:15:01.0",)))
    assert case.severity is Severity.LOW


@pytest.mark.parametrize("why", ["tee", "gpu", "vfio"])
def test_isolation_is_left_where_it_is_what_the_machine_is_for(why: str) -> None:
    facts = tree(on=("0000:17:01.0",))
    if why == "tee":
        facts = dataclasses.replace(facts, os=make_os(tee=known("tdx", "/proc/cpuinfo")))
    elif why == "gpu":
        gpus = tuple(
            dataclasses.replace(accelerator, confidential=known(True, "nvml")) for accelerator in facts.accelerators
        )
        facts = dataclasses.replace(facts, accelerators=gpus)
    else:
        given = make_pci("0000:9b:00.0", driver=known("vfio-pci", "/sys/driver"))
        facts = dataclasses.replace(facts, pci=(*facts.pci, given))
    (case,) = cases(acs.check_acs, facts)
    assert case.severity is Severity.INFO
    assert not any("setpci" in line or "pci=" in line for line in (*case.fix, *case.undo))


def test_acs_that_may_not_be_read_is_not_judged() -> None:
    changes = {port: denied(f"/sys/bus/pci/devices/{port}/config") for port in PORTS}
    facts = tree(readings=changes)
    assert cases(acs.check_acs, facts) == []
    (gap,) = gaps(acs.check_acs, facts)
    assert "may not be read by this user" in gap.because


def test_no_accelerator_a_virtual_machine_or_a_ring_of_bridges_say_nothing() -> None:
    facts = tree(on=("0000:17:01.0",))
    assert list(acs.check_acs(dataclasses.replace(facts, accelerators=()))) == []
    assert list(acs.check_acs(dataclasses.replace(facts, os=make_os(virtualisation=known("kvm", "/sys"))))) == []
    ring = tuple(
        dataclasses.replace(device, parent="0000:17:00.0") if device.address == "0000:15:01.0" else device
        for device in facts.pci
    )
    assert len(list(acs.check_acs(dataclasses.replace(facts, pci=ring)))) <= 1


# -- IOMMU


def test_iommu() -> None:
    facts = with_gpus(make_facts(), 2)
    pci = tuple(dataclasses.replace(device, iommu_type=known("DMA-FQ", "/sys/type")) for device in facts.pci)
    translated = dataclasses.replace(facts, pci=pci)
    (case,) = cases(acs.check_iommu, translated)
    assert case.severity is Severity.MEDIUM and "iommu=pt" in "".join(case.fix)
    assert list(acs.check_iommu(facts)) == []  # no IOMMU group
    one_gpu = with_gpus(make_facts())
    one_gpu = dataclasses.replace(
        one_gpu, pci=tuple(dataclasses.replace(device, iommu_type=known("DMA", "/sys/type")) for device in one_gpu.pci)
    )
    assert list(acs.check_iommu(one_gpu)) == []
    with_rdma = dataclasses.replace(one_gpu, network=(make_nic(rdma=("mlx5_0",)),))
    assert len(cases(acs.check_iommu, with_rdma)) == 1
    linked = dataclasses.replace(
        translated,
        accelerators=tuple(
            dataclasses.replace(accelerator, peers=((1 - accelerator.index, "NVLink"),))
            for accelerator in translated.accelerators
        ),
    )
    assert list(acs.check_iommu(linked)) == []
    guest = dataclasses.replace(translated, os=make_os(virtualisation=known("kvm", "/sys")))
    assert cases(acs.check_iommu, guest) == []
    assert len(gaps(acs.check_iommu, guest)) == 1
    secret = dataclasses.replace(translated, os=make_os(tee=known("sev-snp", "/proc/cpuinfo")))
    assert list(acs.check_iommu(secret)) == []
