"""Checks of accelerators and of their driver: what is found, what is not, and what cannot be known."""

from __future__ import annotations

import dataclasses

import pytest
from tests.unit.audit_cases import cases, gaps, ids
from tests.unit.facts_factory import (
    GIB,
    RELEASE,
    absent,
    denied,
    make_engine,
    make_facts,
    make_gpu,
    make_kernel,
    make_os,
    make_pci,
    make_thread,
    not_recorded,
    with_gpus,
)

from bedplate.model.facts.finding import Confidence, Severity
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import Unknown, known, missing
from bedplate.plan.rules.checks import accelerators, driver


def with_pci(facts: HostFacts, **changes: object) -> HostFacts:
    """Facts whose endpoints are changed."""
    pci = tuple(dataclasses.replace(device, **changes) if device.vendor == 0x10DE else device for device in facts.pci)  # type: ignore[arg-type]
    return dataclasses.replace(facts, pci=pci)


def with_kernel(facts: HostFacts, **changes: object) -> HostFacts:
    return dataclasses.replace(facts, kernel=dataclasses.replace(facts.kernel, **changes))  # type: ignore[arg-type]


# -- an engine on the CPU


def test_an_engine_that_holds_no_accelerator_is_found() -> None:
    facts = with_gpus(make_facts(engines=(make_engine(devices=()),)))
    (case,) = cases(accelerators.check_engine_on_cpu, facts)
    assert (case.severity, case.confidence) == (Severity.CRITICAL, Confidence.LIKELY)
    assert case.because == "vllm (pid 4711) holds none of 1 accelerator open: it runs on the CPU"


@pytest.mark.parametrize(
    "engine",
    [
        make_engine(),
        make_engine(devices=("/dev/kfd", "/dev/dri/renderD128")),
        make_engine(devices=(), argv=("vllm", "serve", "/m", "--device", "cpu")),
        make_engine(devices=(), engine="llama.cpp", argv=("llama-server", "-m", "/m.gguf", "-ngl", "0")),
        make_engine(devices=(), argv=("vllm", "serve", "/m", "--device=cpu")),
    ],
    ids=["nvidia", "amd", "told cpu", "no layers", "told cpu with ="],
)
def test_an_engine_that_holds_one_or_was_told_the_cpu_is_not(engine: object) -> None:
    facts = with_gpus(make_facts(engines=(engine,)))
    assert list(accelerators.check_engine_on_cpu(facts)) == []


def test_no_accelerator_no_finding() -> None:
    facts = make_facts(engines=(make_engine(devices=()),))
    assert list(accelerators.check_engine_on_cpu(facts)) == []


def test_a_server_whose_worker_holds_the_gpu_is_not_on_the_cpu() -> None:
    server = make_engine(pid=10, devices=())
    worker = make_engine(pid=11, argv=("VLLM::Worker_TP0",))
    assert list(accelerators.check_engine_on_cpu(with_gpus(make_facts(engines=(server, worker))))) == []


def test_open_files_that_may_not_be_read_say_nothing() -> None:
    facts = with_gpus(make_facts(engines=(make_engine(devices=(), devices_known=False),)))
    assert cases(accelerators.check_engine_on_cpu, facts) == []
    assert ids(gaps(accelerators.check_engine_on_cpu, facts)) == ["accel.engine-on-cpu"]


def test_one_process_of_several_that_may_not_be_read_keeps_the_engine_unjudged() -> None:
    engines = (make_engine(pid=10, devices=()), make_engine(pid=11, devices=(), devices_known=False))
    facts = with_gpus(make_facts(engines=engines))
    assert cases(accelerators.check_engine_on_cpu, facts) == []


def test_an_engine_that_just_started_is_not_judged() -> None:
    engine = make_engine(devices=(), threads=(make_thread(4711, run_s=3.0),))
    facts = with_gpus(make_facts(engines=(engine,)))
    assert cases(accelerators.check_engine_on_cpu, facts) == []
    assert len(gaps(accelerators.check_engine_on_cpu, facts)) == 1


def test_beside_an_engine_that_uses_the_gpu_it_is_only_possible() -> None:
    other = make_engine(engine="llama.cpp", pid=99, devices=(), argv=("llama-server",))
    (case,) = cases(accelerators.check_engine_on_cpu, with_gpus(make_facts(engines=(make_engine(), other))))
    assert (case.severity, case.confidence) == (Severity.MEDIUM, Confidence.POSSIBLE)


def test_a_desktop_adapter_and_a_device_that_a_virtual_machine_has_are_nobodys_to_use() -> None:
    engine = make_engine(devices=())
    desktop = make_gpu(0, "0000:01:00.0", vendor="amd", memory_bytes=known(512 << 20, "/sys/mem"))
    facts = make_facts(
        engines=(engine,), pci=(make_pci("0000:01:00.0", vendor=0x1002, class_code=0x030000),), accelerators=(desktop,)
    )
    assert list(accelerators.check_engine_on_cpu(facts)) == []
    given = with_pci(with_gpus(make_facts(engines=(engine,))), driver=known("vfio-pci", "/sys/driver"))
    assert list(accelerators.check_engine_on_cpu(given)) == []


def test_a_display_adapter_of_unknown_memory_is_not_judged() -> None:
    gpu = make_gpu(0, "0000:01:00.0", memory_bytes=absent("nvml"))
    facts = make_facts(
        engines=(make_engine(devices=()),),
        pci=(make_pci("0000:01:00.0", class_code=0x030000, device=0x1380),),
        accelerators=(gpu,),
    )
    assert cases(accelerators.check_engine_on_cpu, facts) == []
    assert len(gaps(accelerators.check_engine_on_cpu, facts)) == 1


def test_unified_memory_without_a_pci_address_counts() -> None:
    gb10 = make_gpu(0, None, name="NVIDIA GB10", memory_bytes=absent("nvml:DeviceGetMemoryInfo(0)"))
    facts = make_facts(engines=(make_engine(devices=()),), accelerators=(gb10,))
    assert len(cases(accelerators.check_engine_on_cpu, facts)) == 1


# -- fabric, ECC, MIG, persistence, NVLink

NVSWITCH = make_pci("0000:83:00.0", class_code=0x068000, device=0x22A3, name="NVSwitch")


def with_switch(facts: HostFacts) -> HostFacts:
    return dataclasses.replace(facts, pci=(*facts.pci, NVSWITCH))


@pytest.mark.parametrize(("state", "confidence"), [("Not Started", Confidence.CERTAIN), ("In Progress", Confidence.LIKELY)])
def test_a_fabric_that_is_not_completed_is_critical(state: str, confidence: Confidence) -> None:
    facts = with_switch(with_gpus(make_facts(), 2, fabric_state=known(state, "nvml")))
    (case,) = cases(accelerators.check_fabric, facts)
    assert (case.severity, case.confidence) == (Severity.CRITICAL, confidence)


def test_a_completed_fabric_and_gpus_without_one_are_fine() -> None:
    assert (
        list(accelerators.check_fabric(with_switch(with_gpus(make_facts(), 2, fabric_state=known("Completed", "n"))))) == []
    )
    assert list(accelerators.check_fabric(with_gpus(make_facts(), 2))) == []


def test_switches_whose_fabric_nobody_tells_are_not_judged() -> None:
    for state in (not_recorded("lspci"), absent("nvml"), known("N/A", "nvml")):
        facts = with_switch(with_gpus(make_facts(), 2, fabric_state=state))
        assert cases(accelerators.check_fabric, facts) == []
        assert ids(gaps(accelerators.check_fabric, facts)) == ["fabric.not-ready"]


def test_ecc() -> None:
    assert cases(accelerators.check_ecc, with_gpus(make_facts())) == []
    (case,) = cases(accelerators.check_ecc, with_gpus(make_facts(), ecc_uncorrected=known(3, "nvml")))
    assert "3 uncorrected memory errors" in case.because
    assert len(gaps(accelerators.check_ecc, with_gpus(make_facts(), ecc_uncorrected=denied("nvml")))) == 1
    consumer = with_gpus(make_facts(), ecc=absent("nvml"), ecc_uncorrected=absent("nvml"))
    assert list(accelerators.check_ecc(consumer)) == []


def test_tensor_parallel_over_mig_slices() -> None:
    two = make_engine(argv=("vllm", "serve", "/m", "-tp", "2"))
    sliced = with_gpus(make_facts(engines=(two,)), 2, mig=known(True, "nvml"))
    assert ids(cases(accelerators.check_mig, sliced)) == ["accel.mig-parallel"]
    assert cases(accelerators.check_mig, with_gpus(make_facts(engines=(two,)), 2)) == []
    one = with_gpus(make_facts(engines=(make_engine(),)), 2, mig=known(True, "nvml"))
    assert cases(accelerators.check_mig, one) == []


def test_persistence() -> None:
    off = with_gpus(make_facts(), 2, persistence=known(False, "nvml"))
    (case,) = cases(accelerators.check_persistence, off)
    assert case.severity is Severity.MEDIUM and case.where == ("0000:10:00.0", "0000:11:00.0")
    busy = with_gpus(make_facts(), persistence=known(False, "nvml"), processes=((1, "python", GIB),))
    assert cases(accelerators.check_persistence, busy)[0].severity is Severity.LOW
    assert list(accelerators.check_persistence(with_gpus(make_facts()))) == []
    assert len(gaps(accelerators.check_persistence, with_gpus(make_facts(), persistence=denied("nvml")))) == 1
    amd = with_gpus(make_facts(), vendor="amd", persistence=known(False, "x"))
    assert list(accelerators.check_persistence(amd)) == []


def test_a_gpu_with_fewer_links_than_its_twins() -> None:
    facts = with_gpus(make_facts(), 2, nvlinks_active=known(18, "nvml"), nvlinks_total=known(18, "nvml"))
    assert list(accelerators.check_nvlink(facts)) == []
    poor = dataclasses.replace(facts.accelerators[1], nvlinks_active=known(16, "nvml"))
    facts = dataclasses.replace(facts, accelerators=(facts.accelerators[0], poor))
    (case,) = cases(accelerators.check_nvlink, facts)
    assert case.where == ("0000:11:00.0",)
    bridgeless = with_gpus(make_facts(), 2, nvlinks_active=known(0, "nvml"), nvlinks_total=known(12, "nvml"))
    assert list(accelerators.check_nvlink(bridgeless)) == []


# -- the driver


def test_a_healthy_driver_says_nothing() -> None:
    facts = with_gpus(make_facts(), 4)
    for check in (driver.check_no_driver, driver.check_refused, driver.check_flavour, driver.check_versions):
        assert list(check(facts)) == []
    assert list(driver.check_next_kernel(facts)) == []


def undriven() -> HostFacts:
    """A GPU of which nothing but its place is known."""
    return with_gpus(make_facts(), memory_bytes=absent("nvml"))


def test_no_driver() -> None:
    facts = with_kernel(with_pci(undriven(), driver=absent("/sys/driver")), modules=(("ext4", ""),))
    (case,) = cases(driver.check_no_driver, facts)
    assert case.id == "driver.not-bound" and case.severity is Severity.CRITICAL
    nouveau = with_pci(undriven(), driver=known("nouveau", "/sys/driver"))
    assert ids(cases(driver.check_no_driver, nouveau)) == ["driver.not-bound"]
    for unread in (not_recorded("/sys/driver"), denied("/sys/driver")):
        unread_facts = with_pci(undriven(), driver=unread)
        assert cases(driver.check_no_driver, unread_facts) == []
        assert ids(gaps(driver.check_no_driver, unread_facts)) == ["driver.not-bound"]
    modules_unread = with_kernel(with_pci(undriven(), driver=absent("/sys/driver")), modules=())
    assert cases(driver.check_no_driver, modules_unread) == []
    assert len(gaps(driver.check_no_driver, modules_unread)) == 1
    given = with_pci(undriven(), driver=known("vfio-pci", "/sys/driver"))
    assert list(driver.check_no_driver(given)) == []


def test_a_driver_that_drives_no_device_names_the_flavour() -> None:
    blackwell = with_pci(with_gpus(make_facts()), driver=absent("/sys/driver"), device=0x2901)
    proprietary = with_kernel(blackwell, nvidia_flavour=known("proprietary", "/proc/driver/nvidia/version"))
    (case,) = cases(driver.check_refused, proprietary)
    assert case.because == (
        "the NVIDIA driver is loaded but does not drive 0000:10:00.0: it needs the open modules, proprietary ones are loaded"
    )
    assert cases(driver.check_flavour, proprietary) == []  # one thing is said once
    hopper = with_pci(with_gpus(make_facts()), driver=absent("/sys/driver"))
    (case,) = cases(driver.check_refused, hopper)
    assert case.because == "the NVIDIA driver is loaded but does not drive 0000:10:00.0"
    assert list(driver.check_refused(with_pci(with_gpus(make_facts()), driver=not_recorded("/sys/driver")))) == []


def test_flavours() -> None:
    volta = with_pci(with_gpus(make_facts()), device=0x1DB6)
    (case,) = cases(driver.check_flavour, volta)
    assert case.because == "0000:10:00.0 supports only the proprietary NVIDIA modules, but the open ones are loaded"
    unread = with_kernel(volta, nvidia_flavour=denied("/proc/driver/nvidia/version"))
    assert cases(driver.check_flavour, unread) == []
    assert ids(gaps(driver.check_flavour, unread)) == ["driver.wrong-flavour"]
    for device in (0x2330, 0x20B2, 0x1EB8, 0x26B9):  # H100, A100, T4, L40S take both
        for flavour in ("open", "proprietary"):
            both = with_kernel(with_pci(with_gpus(make_facts()), device=device), nvidia_flavour=known(flavour, "/proc"))
            assert list(driver.check_flavour(both)) == []


def test_versions() -> None:
    facts = with_gpus(make_facts(), library_version=known("595.10.02", "nvml:SystemGetNVMLVersion"))
    (case,) = cases(driver.check_versions, facts)
    assert "590.48.01" in case.because and "595.10.02" in case.because
    short = with_gpus(make_facts(), library_version=known("590.48", "nvml"))
    assert list(driver.check_versions(short)) == []
    refused = with_gpus(
        make_facts(),
        library_version=missing(Unknown.ABSENT, "nvml", "nvmlInit: Driver/library version mismatch"),
        memory_bytes=missing(Unknown.ABSENT, "nvml", "nvmlInit: Driver/library version mismatch"),
    )
    assert ids(cases(driver.check_versions, refused)) == ["driver.version-mismatch"]
    unread = with_gpus(make_facts(), library_version=not_recorded("nvml"))
    assert cases(driver.check_versions, unread) == []
    assert ids(gaps(driver.check_versions, unread)) == ["driver.version-mismatch"]
    assert list(driver.check_versions(make_facts())) == []


NEWER = "6.12.57-amd64"


def two_kernels(next_modules: tuple[str, ...] | None, **os_changes: object) -> HostFacts:
    rows = [(RELEASE, ("nvidia-open",))] + ([] if next_modules is None else [(NEWER, next_modules)])
    return with_kernel(
        with_gpus(make_facts(os=make_os(**os_changes))),
        next_release=known(NEWER, "/boot"),
        installed=(RELEASE, NEWER),
        gpu_modules=tuple(rows),
    )


def test_the_next_kernel() -> None:
    (case,) = cases(driver.check_next_kernel, two_kernels(("amdgpu", "nouveau")))
    assert case.because == f"kernel {NEWER} boots next, but has no nvidia module"
    assert f"dkms autoinstall -k {NEWER}" in case.fix
    assert list(driver.check_next_kernel(two_kernels(("nvidia",)))) == []
    assert cases(driver.check_next_kernel, two_kernels(None)) == []
    assert len(gaps(driver.check_next_kernel, two_kernels(None))) == 1
    container = two_kernels((), container=known("docker", "/.dockerenv"))
    assert cases(driver.check_next_kernel, container) == []
    unsaid = with_kernel(two_kernels(()), next_release=denied("/boot"))
    assert cases(driver.check_next_kernel, unsaid) == []
    assert ids(gaps(driver.check_next_kernel, unsaid)) == ["driver.next-kernel"]


def test_a_loaded_module_that_is_not_in_lib_modules_is_not_a_missing_one() -> None:
    facts = with_kernel(with_gpus(make_facts()), gpu_modules=((RELEASE, ()),))
    assert cases(driver.check_next_kernel, facts) == []
    assert len(gaps(driver.check_next_kernel, facts)) == 1


def test_a_machine_without_accelerators_has_no_driver_to_judge() -> None:
    facts = make_facts(kernel=make_kernel(next_release=known(NEWER, "/boot"), gpu_modules=()))
    for check in (driver.check_no_driver, driver.check_refused, driver.check_flavour, driver.check_versions):
        assert list(check(facts)) == []
    assert list(driver.check_next_kernel(facts)) == []
