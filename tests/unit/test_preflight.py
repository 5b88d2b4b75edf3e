from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from bedplate.errors import ModelRefused
from bedplate.host.root.root import Root
from bedplate.host.system.buildhost import read_build_host
from bedplate.model.buildhost import BuildHost, Firmware, KvmDevice, Mirror, Space, TakenPort, Wishes
from bedplate.model.facts.finding import Severity
from bedplate.model.launch import Format, ModelRef
from bedplate.model.units import GIB, MIB
from bedplate.plan.preflight import check_models_fit, plan_preflight, render_finding
from bedplate.plan.rules.needs import KEYRING, PROGRAMS, render_commands

OVMF = Firmware(code="/code", vars="/vars")
HOST = BuildHost(
    distribution="debian",
    like=(),
    release="12",
    pretty_name="Debian 12",
    machine="x86_64",
    euid=0,
    mounts_allowed=True,
    root_is_mount=True,
    cpus=4,
    memory_bytes=16 * GIB,
    memory_available_bytes=12 * GIB,
    spaces=(Space(directory="/cache", device=1, free_bytes=50 * GIB),),
    programs=tuple((name, f"/usr/bin/{name}") for name in PROGRAMS),
    files=(KEYRING,),
    firmware=OVMF,
    secure_firmware=OVMF,
    kvm=KvmDevice.PRESENT,
    mirror=Mirror(main="http://mirror.example/debian", security=None),
)
WISHES = Wishes(build=True, guest_memory_bytes=2 * GIB, secure_boot=False, uefi=False, tpm=True, mirror=None)


def test_a_host_that_has_everything_has_no_findings() -> None:
    assert plan_preflight(HOST, WISHES).findings == ()


@pytest.mark.parametrize(
    ("host", "wishes", "what", "fatal"),
    [
        (replace(HOST, machine="aarch64"), WISHES, "architecture", True),
        (replace(HOST, euid=1000), WISHES, "user", True),
        (replace(HOST, mounts_allowed=False), WISHES, "capabilities", True),
        (replace(HOST, root_is_mount=False), WISHES, "/", True),
        (replace(HOST, spaces=(Space(directory="/c", device=1, free_bytes=GIB),)), WISHES, "disk space at /c", True),
        (replace(HOST, memory_available_bytes=GIB), WISHES, "memory", True),
        (HOST, replace(WISHES, guest_memory_bytes=256 * MIB), "memory of the machine", True),
        (replace(HOST, kvm=KvmDevice.ABSENT), WISHES, "KVM", False),
        (replace(HOST, kvm=KvmDevice.NO_PERMISSION), WISHES, "KVM", False),
        (replace(HOST, mirror=Mirror(main=None, security=None)), WISHES, "Debian mirror", False),
        (replace(HOST, files=()), WISHES, KEYRING, True),
        (replace(HOST, secure_firmware=None), replace(WISHES, secure_boot=True), "OVMF", True),
        (replace(HOST, firmware=None), replace(WISHES, uefi=True), "OVMF", True),
    ],
)
def test_one_thing_wrong_is_one_finding(host: BuildHost, wishes: Wishes, what: str, fatal: bool) -> None:
    findings = plan_preflight(host, wishes).findings
    severity = Severity.CRITICAL if fatal else Severity.INFO
    assert [(finding.where, finding.severity) for finding in findings] == [((what,), severity)]
    assert all(finding.evidence and finding.effect and len(finding.fix) == 1 for finding in findings)
    assert render_finding(findings[0]).startswith(what)


@pytest.mark.parametrize(
    "host",
    [
        replace(HOST, files=(), firmware=None, secure_firmware=None, mirror=Mirror(main=None, security=None), euid=1000),
        replace(HOST, spaces=(Space(directory="/c", device=1, free_bytes=2 * GIB),)),
    ],
)
def test_what_only_a_build_needs_is_not_asked_of_a_boot(host: BuildHost) -> None:
    assert plan_preflight(host, replace(WISHES, build=False)).fatal == ()


def test_a_port_that_is_taken_stops_the_work_and_a_free_one_is_offered() -> None:
    (finding,) = plan_preflight(HOST, WISHES, taken_port=TakenPort(port=8080, owner="nginx (pid 12)", free_port=8081)).fatal
    assert render_finding(finding) == (
        "port 8080 of 127.0.0.1: in use by nginx (pid 12); expected a free port for the endpoint."
        " Stop that process, or use another port: bedplate up --port 8081"
    )


def test_everything_missing_is_one_command() -> None:
    bare = replace(HOST, programs=(), files=(), secure_firmware=None)
    plan = plan_preflight(bare, replace(WISHES, secure_boot=True))
    assert plan.packages == (
        "debian-archive-keyring", "mmdebstrap", "ovmf", "qemu-system-x86", "qemu-utils", "swtpm", "swtpm-tools",
    )  # fmt: skip
    assert plan.may_install
    assert render_commands(bare, plan.install) == (
        "apt-get update && apt-get install --yes --no-install-recommends " + " ".join(plan.packages)
    )


@pytest.mark.parametrize(
    ("distribution", "like", "euid", "command", "may_install"),
    [
        ("ubuntu", ("debian",), 0, "apt-get update", True),
        ("ubuntu", ("debian",), 1000, "sudo apt-get update", False),
        ("linuxmint", ("ubuntu", "debian"), 0, "apt-get update", True),
        ("fedora", (), 0, "dnf install", False),
        ("fedora", (), 1000, "sudo dnf install", False),
        ("slackware", (), 0, "", False),
    ],
)
def test_packages_are_named_as_the_distribution_names_them(
    distribution: str, like: tuple[str, ...], euid: int, command: str, may_install: bool
) -> None:
    host = replace(HOST, distribution=distribution, like=like, euid=euid, programs=())
    plan = plan_preflight(host, replace(WISHES, build=False))
    assert render_commands(host, plan.install).startswith(command)
    assert bool(plan.install) == bool(command)
    assert plan.may_install is may_install
    assert plan.fatal


def test_two_directories_of_one_filesystem_are_one_finding() -> None:
    spaces = (Space(directory="/c", device=1, free_bytes=GIB), Space(directory="/s", device=1, free_bytes=GIB))
    assert len(plan_preflight(replace(HOST, spaces=spaces), WISHES).findings) == 1


def make_model(size_bytes: int, name: str = "big") -> ModelRef:
    return ModelRef(
        name=name,
        sha256="0" * 64,
        path="",
        format=Format.GGUF,
        size_bytes=size_bytes,
        architecture="llama",
        parameters=size_bytes,
        quantisation="Q8_0",
        context_length=4096,
        kv_bytes_per_token=1024,
    )


def test_models_that_do_not_fit_are_refused_with_the_arithmetic() -> None:
    check_models_fit([make_model(300 * MIB)], guest_memory_bytes=2 * GIB, cpus=2)
    with pytest.raises(ModelRefused) as caught:
        check_models_fit([make_model(GIB), make_model(GIB, "second")], guest_memory_bytes=2 * GIB, cpus=2)
    assert re.search(r"2\.0 GiB cannot serve (big|second): .*1\.0 GiB weights \+ .* = ", caught.value.message)


def test_a_host_is_read_from_its_files(tmp_path: Path) -> None:
    for name, text in {
        "etc/os-release": '# comment\nID=ubuntu\nID_LIKE="debian"\nVERSION_ID="24.04"\nPRETTY_NAME="Ubuntu 24.04 LTS"\n',
        "proc/meminfo": "MemTotal:       16000000 kB\nMemAvailable:    8000000 kB\n",
        "proc/self/status": "Name:\tpython3\nCapEff:\t00000000a80425fb\n",  # what docker leaves root
        "proc/self/mountinfo": "22 1 0:21 / / rw,relatime - ext4 /dev/root rw\n",
        "usr/share/OVMF/OVMF_CODE_4M.fd": "",
        "usr/share/OVMF/OVMF_VARS_4M.fd": "",
        "usr/share/keyrings/x.gpg": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/tool").write_text("")
    (tmp_path / "bin/tool").chmod(0o755)
    host = read_build_host(
        root=Root(tmp_path),
        directories=[tmp_path / "not/there/yet"],
        programs=["tool", "other"],
        files=["/usr/share/keyrings/x.gpg", "/nope"],
        search_path=str(tmp_path / "bin"),
    )
    assert (host.distribution, host.like, host.release) == ("ubuntu", ("debian",), "24.04")
    assert host.memory_available_bytes == 8000000 * 1024
    assert host.program("tool") == str(tmp_path / "bin/tool")
    assert (host.mounts_allowed, host.root_is_mount) == (False, True)
    assert host.program("other") is None
    assert host.files == ("/usr/share/keyrings/x.gpg",)
    assert host.firmware == Firmware(code="/usr/share/OVMF/OVMF_CODE_4M.fd", vars="/usr/share/OVMF/OVMF_VARS_4M.fd")
    assert host.secure_firmware is None
    assert host.kvm is KvmDevice.ABSENT
    assert host.spaces[0].free_bytes > 0
