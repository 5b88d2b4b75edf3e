"""A recording reads as the machine did, and none of the identifiers that were planted in every file of it is in it."""

from __future__ import annotations

import dataclasses
import errno
import gzip
import io
import json
import lzma
import os
import shutil
import stat
import struct
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.unit.knob_cases import audit_knobs

from bedplate.catalog.knobs import knob_configs, knob_paths, read_knobs
from bedplate.cli.main import main
from bedplate.errors import BedplateError, PreflightError, UsageError
from bedplate.flows.record import write_private
from bedplate.host.facts import read_host
from bedplate.host.kernel.engines import parse_numa_maps, parse_policy, parse_status
from bedplate.host.kernel.kernel import GPU_MODULE_LINE
from bedplate.host.record.record import Recorded, record_host, render_archive
from bedplate.host.record.redact import Redactor, make_redactor
from bedplate.host.record.trim import trim, trim_link
from bedplate.host.root.recording import open_recording
from bedplate.host.root.root import TEXT_LIMIT, Root
from bedplate.host.stack.installed import StackDepth
from bedplate.host.system.upgrades import DRIVER_ROW
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import Reading, Unknown

MACHINES = Path(__file__).parents[1] / "machines"
KNOBS = read_knobs()
PATHS, OPTIONS = knob_paths(KNOBS), knob_configs(KNOBS)

# Everything below is looked for in the archive, in any case. Keys are how a file would have it.
CANARIES = {
    "mac": "b4:2e:99:ca:fe:01",
    "mac with dashes": "b4-2e-99-ca-fe-02",
    "mac of a name": "b42e99cafe03",
    "infiniband hardware address": "80:00:02:08:fe:80:00:00:00:00:00:00:ec:0d:9a:03:00:ca:fe:04",
    "infiniband guid": "ec0d:9a03:00ca:fe05",
    "uuid": "c0ffee00-1234-4abc-9def-0123456789ab",
    "uuid in capitals": "C0FFEE00-1234-4ABC-9DEF-0123456789AC",
    "uuid of a slice": "c0ffee00_1234_4abc_9def_0123456789ad",
    "machine id": "c0ffee0012344abc9def0123456789ae",
    "container id": "c0ffee00" * 8,
    "lvm uuid": "Ca9aRy-abcd-EFGH-ijkl-MNOP-qrst-UVWXyz",
    "ipv4": "10.77.13.201",
    "ipv4 of the world": "93.184.216.34",
    "ipv6": "2a01:4f8:ca1a:4e1::77",
    "link-local ipv6": "fe80::b62e:99ff:feca:fe07",
    "host": "canaryhost7",
    "domain": "canarycorp.example",
    "other host": "filer3.canarycorp.internal",
    "user": "canaryalice",
    "user of a directory service": "canarybob",
    "serial": "S5XNCANARY12345",
    "hexadecimal serial": "0xca9a4f00d1234567",
    "serial of digits": "1650523099887",
    "token": "hf_CanaryTokenAbcdef",
    "api key": "sk-canary-0123456789abcdef",
    "password": "hunter2canary",
    "mail": "canary.person@canarymail.org",
}
# One line each, as files of the kernel, of systemd and of vendors write them.
PLANTED = f"""
address {CANARIES["mac"]} BOOTIF=01-{CANARIES["mac with dashes"]} enx{CANARIES["mac of a name"]}: x
{CANARIES["infiniband hardware address"]} {CANARIES["infiniband guid"]}
UUID={CANARIES["uuid"]} GPU-{CANARIES["uuid in capitals"]} pod{CANARIES["uuid of a slice"]}.slice
id={CANARIES["machine id"]} /docker/{CANARIES["container id"]} {CANARIES["lvm uuid"]}
inet {CANARIES["ipv4"]}/24 to {CANARIES["ipv4 of the world"]}:443 {CANARIES["ipv6"]} [{CANARIES["link-local ipv6"]}]
name {CANARIES["host"]} {CANARIES["host"]}.{CANARIES["domain"]} vg_{CANARIES["host"]}-root
Serial Number : {CANARIES["serial"]}
DEVICE_SERIAL={CANARIES["serial"]}
"serial": {{"value": "{CANARIES["serial of digits"]}"}}
pdev_serial: {CANARIES["hexadecimal serial"]}
/home/{CANARIES["user"]}/x /home/{CANARIES["user of a directory service"]}/y owner {CANARIES["user"]}
HF_TOKEN={CANARIES["token"]} x
use {CANARIES["api key"]}
PASSWORD={CANARIES["password"]}
https://me:{CANARIES["password"]}@hub/x
mail ({CANARIES["mail"]})
"""


@dataclass(frozen=True, slots=True, eq=False)
class Planted(Root):
    """A machine in every text file of which all identifiers stand, too."""

    def read_bytes(self, where: str, limit: int = TEXT_LIMIT) -> Reading[bytes]:
        # Two bases: a slotted dataclass has no cell for super().
        reading = Root.read_bytes(self, where, limit)
        if reading.value is None or where.endswith(("/config", ".gz", "/proc/sys/kernel/hostname", "/etc/passwd")):
            return reading
        planted = PLANTED.replace("\n", "\0") if where.endswith("/cmdline") and where != "/proc/cmdline" else PLANTED
        if where.startswith("/vendor/") or where.endswith(("version", "osrelease")):
            # Numbers with three dots are versions there.
            planted = planted.replace(CANARIES["ipv4 of the world"], "")
        return Reading(value=(reading.value.rstrip(b"\n\0") + planted.encode())[:limit], source=where)


def write_files(directory: Path, files: dict[str, str]) -> None:
    for where, text in files.items():
        path = directory / where.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A server with identifiers where each of them stands on real machines."""
    directory = tmp_path_factory.mktemp("canary") / "machine"
    shutil.copytree(MACHINES / "ubuntu-vllm", directory, symlinks=True)
    host, other, user, secret = (CANARIES[name] for name in ("host", "other host", "user", "password"))
    group = f"/kubepods.slice/pod{CANARIES['uuid of a slice']}.slice/{CANARIES['container id']}"
    write_files(
        directory,
        {
            "/proc/sys/kernel/hostname": f"{host}.{CANARIES['domain']}\n",
            "/etc/passwd": f"root:x:0:0::/root:/bin/sh\n{user}:x:1000:1000:Canary Person,,,:/home/{user}:/bin/sh\n",
            f"/home/{CANARIES['user of a directory service']}/.keep": "",
            "/etc/hostname": f"{host}\n",
            "/proc/cmdline": f"BOOT_IMAGE=/vmlinuz root=UUID={CANARIES['uuid']} ip={CANARIES['ipv4']}::10.77.13.1::{host} "
            f"nfsroot={CANARIES['other host']}:/x systemd.machine_id={CANARIES['machine id']} iommu=pt\n",
            "/proc/4711/cmdline": "\0".join(
                [
                    *("/opt/venv/bin/python3", "/opt/venv/bin/vllm", "serve", f"/home/{user}/models/llama-70b"),
                    *("--api-key", secret, f"--hf-token={CANARIES['token']}", "--host", host, "--port", "8000"),
                    *("--data-parallel-address", CANARIES["ipv4"], "--served-model-name", "llama"),
                    *("--distributed-init", f"tcp://{CANARIES['other host']}:29500", f"--otel=https://u:{secret}@hub/x"),
                    *("--rpc", f"{host}:50052,{CANARIES['other host']}:50052", ""),
                ]
            ),
            "/proc/4711/cgroup": f"0::{group}\n",
            f"/sys/fs/cgroup{group}/cpu.max": "600000 100000\n",
            "/proc/5000/cmdline": f"mysql\0-p{secret}\0-h\0{CANARIES['other host']}\0",
            "/proc/5000/comm": f"{user[:10]}-sql\n",
            "/proc/1/environ": f"PATH=/bin\0SECRET={secret}\0HOME=/home/{user}\0",
            "/proc/4711/numa_maps": f"7f00 default file=/home/{user}/lib.so mapped=10 N0=10 N1=3 kernelpagesize_kB=4\n",
            "/proc/self/mountinfo": (directory / "proc/self/mountinfo").read_text()
            + f"60 28 0:60 / /home/{user}/nfs rw - nfs4 {other}:/export/{user} rw,vers=4.2,addr={CANARIES['ipv4']}\n"
            + f"61 28 0:61 / /mnt/cifs rw - cifs //{other}/share rw,username={user},password={secret}\n"
            + f"62 28 0:62 / /mnt/s rw - fuse.sshfs {user}@{host}:/data rw,user_id=0\n"
            + f"63 28 0:63 / /var rw - ext4 /dev/mapper/vg_{host}-var rw\n",
            "/etc/security/limits.conf": f"# for {CANARIES['mail']}\n{user} soft nofile 1000\n* soft memlock unlimited\n",
            "/etc/systemd/system/apt-daily.service.d/x.conf": f"[Service]\n# {secret}\nEnvironment=A={secret} OMP_X=1\n"
            f"ExecStart=/bin/x --token {secret}\nUser={user}\nSlice=background.slice\n",
            "/sys/class/dmi/id/chassis_asset_tag": f"{CANARIES['serial']}\n",
            "/sys/block/nvme0n1/size": "1000\n",
            "/sys/block/nvme0n1/device/model": "SAMSUNG MZQL2\n",
            "/sys/block/nvme0n1/device/serial": f"{CANARIES['serial']}\n",
            "/sys/block/nvme0n1/wwid": "eui.3634473054a001230025384500000001\n",
            "/vendor/nvml.json": json.dumps(
                {
                    "format": 1,
                    "driver": {"value": "570.133.20"},
                    "devices": [
                        {
                            "Name": {"value": "NVIDIA H100"},
                            "PciInfo": {"value": "00000000:00:01.0"},
                            "UUID": {"value": f"GPU-{CANARIES['uuid in capitals'].lower()}"},
                            "Serial": {"value": CANARIES["serial of digits"]},
                            "ComputeRunningProcesses": {
                                "value": [{"pid": 4711, "name": f"/home/{user}/bin/python3", "bytes": 1}]
                            },
                        }
                    ],
                }
            ),
            "/etc/cdi/nvidia.yaml": f"# {secret}\n",
        },
    )
    nic = f"enx{CANARIES['mac of a name']}"
    port = "sys/devices/pci0000:00/0000:00:02.0"
    write_files(
        directory,
        {f"/{port}/net/{nic}/operstate": "up\n", f"/{port}/net/{nic}/speed": "1000\n", f"/{port}/class": "0x020000"},
    )
    (directory / f"{port}/net/{nic}/device").symlink_to("../../../0000:00:02.0")
    (directory / "sys/class/net").mkdir(parents=True)
    (directory / f"sys/class/net/{nic}").symlink_to(f"../../../{port}/net/{nic}")
    (directory / "proc/4711/fd/77").symlink_to(f"/home/{user}/diary.txt")
    device = directory / "sys/devices/pci0000:00/0000:00:01.0"
    device.mkdir(parents=True)
    config = bytearray(4096)
    struct.pack_into("<HH", config, 0, 0x10DE, 0x2330)
    struct.pack_into("<IQ", config, 0x100, 0x14810001, 0)  # an AER capability, the next one at 0x148
    struct.pack_into("<I8s", config, 0x148, 0x00010003, bytes.fromhex("b42e99cafe01beef"))
    (device / "config").write_bytes(config)
    for name, text in {"vendor": "0x10de", "device": "0x2330", "class": "0x030200"}.items():
        (device / name).write_text(text + "\n")
    (directory / "sys/bus/pci/devices").mkdir(parents=True)
    (directory / "sys/bus/pci/devices/0000:00:01.0").symlink_to("../../../devices/pci0000:00/0000:00:01.0")
    return directory


def record(root: Root) -> Recorded:
    return record_host(root, PATHS, config_options=OPTIONS, bedplate="1.0", recorded="2026-11-24T00:00:00Z")


def open_again(recorded: Recorded, directory: Path) -> Root:
    path = directory / "host.tar.zst"
    path.write_bytes(render_archive(recorded, ".tar.zst"))
    return open_recording(path)


def read_again(root: Root) -> HostFacts:
    return read_host(root, PATHS, origin="live", config_options=OPTIONS, stack=StackDepth.DEEP)


def differences(a: object, b: object, where: str = "") -> Iterator[tuple[str, object, object]]:
    """Fields in which two values differ, by their path: ".mounts[].source"."""
    if dataclasses.is_dataclass(a) and type(a) is type(b):
        for field in dataclasses.fields(a):
            yield from differences(getattr(a, field.name), getattr(b, field.name), f"{where}.{field.name}")
    elif isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
        for left, right in zip(a, b, strict=True):
            yield from differences(left, right, f"{where}[]")
    elif a != b:
        yield where, a, b


def assert_no_canary(archive: bytes, *others: str) -> None:
    text = archive.decode("latin-1").lower()
    found = {name for name, value in CANARIES.items() if value.lower() in text}
    assert not found, sorted(found)
    for other in (*others, "canary", "hunter2", "cafe0", "c0ffee", "3634473054a00123", "10.77."):
        assert other not in text, text[text.index(other) - 200 : text.index(other) + 100]


def test_no_identifier_of_a_machine_is_in_its_recording(canary: Path) -> None:
    archive = render_archive(record(Root(canary)), ".tar")
    assert_no_canary(archive, "b42e99", bytes.fromhex("b42e99cafe01beef").decode("latin-1"), "diary")


def test_no_identifier_is_in_it_though_all_stand_in_every_file(canary: Path) -> None:
    recorded = record(Planted(canary))
    assert_no_canary(render_archive(recorded, ".tar"))
    planted = sum(1 for data in recorded.files.values() if b"192.0.2." in data or b"2001:db8::" in data)
    assert planted > 20, "the plants did stand where they were looked for"


# Text in which an identifier may have stood; all else is equal, and all numbers and all reasons are.
MAY_DIFFER = (
    *(
        ".kernel.cmdline",
        ".cgroup.path",
        ".mounts[]",
        ".argv",
        ".model_paths[]",
        ".source",
        ".text",
        ".uuid",
        ".name",
        ".processes[]",
    ),
    *(".knobs[].value", ".names[]", ".rdma[]", ".address"),
)


def test_a_recording_reads_as_the_machine_did(canary: Path, tmp_path: Path) -> None:
    recorded = record(Root(canary))
    again = read_again(open_again(recorded, tmp_path))
    different = list(differences(recorded.facts, again))
    for where, old, new in different:
        assert isinstance(old, str | tuple) and isinstance(new, str | tuple), (where, old, new)
        assert any(part in where for part in MAY_DIFFER), (where, old, new)
    engine = again.engines[0]
    assert engine.model_paths == ("/home/user-1/models/llama-70b",)
    assert engine.cgroup.quota_cpus.value == 6.0
    assert engine.numa_bytes == ((0, 40960), (1, 12288))
    assert engine.devices == ("/dev/nvidia0", "/dev/nvidia1")
    assert again.accelerators[0].name == "NVIDIA H100"
    assert [nic.name for nic in again.network] == ["enx020000000001"]


def test_a_recording_of_a_recording_is_the_same_machine(canary: Path, tmp_path: Path) -> None:
    first = open_again(record(Root(canary)), tmp_path)
    facts = read_again(first)
    second = record(first)
    assert read_again(open_again(second, tmp_path)) == facts


def test_findings_of_a_recording_are_those_of_the_machine(canary: Path, tmp_path: Path) -> None:
    recorded = record(Root(canary))
    again = read_again(open_again(recorded, tmp_path))
    live, replayed = audit_knobs(recorded.facts, KNOBS), audit_knobs(again, KNOBS)
    assert live
    assert [(finding.id, finding.severity, finding.title) for finding in replayed] == [
        (finding.id, finding.severity, finding.title) for finding in live
    ]


def test_denied_and_absent_stay_what_they_were(tmp_path: Path) -> None:
    machine = tmp_path / "machine"
    write_files(machine, {"/proc/sys/kernel/tainted": "x", "/proc/self/limits": "", "/proc/meminfo": "MemTotal: 1000 kB\n"})

    recorded = record(Denying(machine))
    root = open_again(recorded, tmp_path)
    assert root.read("/proc/sys/kernel/tainted").unknown is Unknown.DENIED
    assert root.read("/proc/cmdline").unknown is Unknown.ABSENT
    assert root.read("/srv/never-asked").unknown is Unknown.NOT_RECORDED
    assert list(differences(recorded.facts, read_again(root))) == []


@dataclass(frozen=True, slots=True, eq=False)
class Denying(Root):
    def read_bytes(self, where: str, limit: int = TEXT_LIMIT) -> Reading[bytes]:
        if where.endswith("tainted"):
            return Reading(value=None, source=where, unknown=Unknown.DENIED, text="Permission denied")
        return Root.read_bytes(self, where, limit)


def test_the_same_machine_gives_the_same_bytes(canary: Path) -> None:
    archives = [
        render_archive(record(Root(canary)), suffix) for suffix in (".tar.zst", ".tar.gz", ".tar.xz") for _ in range(2)
    ]
    assert archives[0] == archives[1] and archives[2] == archives[3] and archives[4] == archives[5]
    plain = render_archive(record(Root(canary)), ".tar")
    assert gzip.decompress(archives[2]) == lzma.decompress(archives[4]) == plain


def test_other_processes_are_nobodys_business(canary: Path, tmp_path: Path) -> None:
    recorded = record(Root(canary))
    root = open_again(recorded, tmp_path)
    numbers = {name for name in root.listdir("/proc") if name.isdigit()}
    assert numbers == {"1", "2", "901", "902", "4711"}
    assert root.read_bytes("/proc/901/cmdline").value == b""
    with tarfile.open(fileobj=io.BytesIO(render_archive(recorded, ".tar"))) as archive:
        names = archive.getnames()
        assert names[0] == "MANIFEST.json"
        assert all(member.mtime == 0 and member.uid == 0 and not member.uname for member in archive.getmembers())
    assert not any("/proc/5000" in name for name in names)


# -- what is kept of a file answers as the whole does


def redactor() -> Redactor:
    return Redactor(hosts=("canaryhost7",), users=("canaryalice",))


def test_what_is_kept_of_a_status_answers_as_the_whole() -> None:
    text = "Name:\tvllm\nUid:\t1000\nVmRSS:\t 10 kB\nVmSwap:\t 1 kB\nCpus_allowed_list:\t0-3\n"
    kept = parse_status(trim("/proc/9/task/9/status", text.encode(), redactor()).decode())
    assert kept == {key: value for key, value in parse_status(text).items() if key != "Uid"}


@pytest.mark.parametrize("policy", [0, 1, 2, 3, 5, 6, 7])
def test_what_is_kept_of_a_stat_answers_as_the_whole(policy: int) -> None:
    text = "7 (a) b) S " + " ".join("7" * 37) + f" {policy} 5 5"
    assert parse_policy(trim("/proc/9/task/9/stat", text.encode(), redactor()).decode()) == parse_policy(text) != "unknown"


def test_what_is_kept_of_numa_maps_answers_as_the_whole() -> None:
    text = "7f default anon=3 N0=1 N1=2 kernelpagesize_kB=2048\n7e default file=/home/x N1=7 kernelpagesize_kB=4\n"
    assert parse_numa_maps(trim("/proc/9/numa_maps", text.encode(), redactor()).decode()) == parse_numa_maps(text)


def test_what_is_kept_of_tables_answers_as_the_whole() -> None:
    dep = "kernel/a.ko: kernel/b.ko\nupdates/dkms/nvidia.ko.zst: kernel/secret.ko\nkernel/open/nvidia.ko:\n"
    kept = trim("/lib/modules/6.1/modules.dep", dep.encode(), redactor()).decode()
    assert [match["name"] for match in GPU_MODULE_LINE.finditer(kept)] == [
        match["name"] for match in GPU_MODULE_LINE.finditer(dep)
    ]
    assert "secret" not in kept
    status = "Package: a\nStatus: install ok installed\n\nPackage: libcuda1\nStatus: hold ok installed\nMaintainer: canary\n"
    kept = trim("/var/lib/dpkg/status", status.encode(), redactor()).decode()
    assert [match.groups() for match in DRIVER_ROW.finditer(kept)] == [
        match.groups() for match in DRIVER_ROW.finditer(status)
    ]
    assert "canary" not in kept


def test_open_files_are_kept_only_where_they_are_accelerators() -> None:
    assert trim_link("/proc/9/fd/3", "/dev/nvidia0", redactor()) == "/dev/nvidia0"
    assert trim_link("/proc/9/fd/3", "/home/x/diary", redactor()) == "-"


@pytest.mark.parametrize(
    "text",
    [
        *(
            "0000:19:00.0",
            "00000000,0000000f",
            "0-3,8",
            "12:34:56",
            "570.133.20",
            "96.00.9F.00.01",
            "G001.0000.03.03",
            "127.0.0.1",
        ),
        *(
            "0.0.0.0",
            "::1",
            "::",
            "255.255.255.0",
            "00:00:00:00:00:00",
            "6.8.0-31-generic",
            "1.2.3",
            "std::vector",
            "x86_64",
        ),
        *(
            "/sys/devices/system/node/node1",
            "user@1000.service",
            "vllm.entrypoints.openai.api_server",
            "8GT/s",
            "fe",
            "serial: N/A",
        ),
        *(
            "0x00000000fe000000 0x00000000feffffff 0x0000000000040200",
            "console=ttyS0,115200n8",
            "00000000-0000-0000-0000-000000000000",
        ),
    ],
)
def test_what_is_no_identifier_stays(text: str) -> None:
    assert redactor().words(text) == text


def test_the_same_identifier_gets_the_same_placeholder_wherever_it_stands() -> None:
    one = redactor()
    first = one.text("a4:bf:01:00:00:01 on canaryhost7 and a4:bf:01:00:00:02")
    assert first == "02:00:00:00:00:01 on host-1 and 02:00:00:00:00:02"
    assert one.text("A4:BF:01:00:00:02") == "02:00:00:00:00:02"
    assert one.path("/sys/fs/cgroup/canaryhost7/x") == "/sys/fs/cgroup/host-1/x"
    assert one.text(first) == first, "a placeholder is not replaced again"


def test_a_host_named_as_the_kernel_names_things_takes_nothing_with_it(tmp_path: Path) -> None:
    write_files(tmp_path, {"/proc/sys/kernel/hostname": "node1\n", "/etc/passwd": "vllm:x:1000:1000::/home/vllm:/bin/sh\n"})
    one = make_redactor(Root(tmp_path))
    assert (one.hosts, one.users) == ((), ())
    assert one.path("/sys/devices/system/node/node1/cpulist") == "/sys/devices/system/node/node1/cpulist"


# -- the command


def test_the_command_writes_a_private_file_and_all_of_it(
    canary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    monkeypatch.chdir(tmp_path)
    assert main(["record", "--from", str(canary)]) == 0
    first = (tmp_path / "host.tar.zst").read_bytes()
    assert stat.S_IMODE((tmp_path / "host.tar.zst").stat().st_mode) == 0o600
    assert "wrote host.tar.zst" in capsys.readouterr().out
    assert main(["record", "--from", str(canary)]) == 2, "what is there is not replaced"
    assert "already exists" in capsys.readouterr().err
    assert main(["record", "--from", str(canary), "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bytes"] == len(first)
    assert (tmp_path / "host.tar.zst").read_bytes() == first
    assert sorted(os.listdir(tmp_path)) == ["host.tar.zst"], "nothing is left behind"  # noqa: PTH208
    assert main(["record", "-o", "host.zip"]) == 2
    assert main(["record", "--from", str(tmp_path / "nothing"), "-o", "b.tar"]) == 2


def test_show_lists_and_writes_nothing(
    canary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["record", "--from", str(canary), "--show"]) == 0
    out = capsys.readouterr().out
    assert "/proc/meminfo" in out and "canary" not in out.lower()
    assert main(["record", "--from", str(canary), "--show", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["schema"] == 1
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(BedplateError, match="cannot write"):
        write_private(tmp_path / "no/host.tar", b"x")
    (tmp_path / "host.tar").mkdir()
    with pytest.raises(BedplateError, match="cannot write"):
        write_private(tmp_path / "host.tar", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["host.tar"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_with_the_file_and_ends_with_3(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("bedplate.flows.record.write_report", refuse)
    with pytest.raises(PreflightError, match=r"a.tar: cannot write: ") as refused:
        write_private(tmp_path / "a.tar", b"x", overwrite=False)
    assert refused.value.exit_code == 3
    assert list(tmp_path.iterdir()) == []


def test_of_two_records_of_one_name_the_second_is_refused(tmp_path: Path) -> None:
    write_private(tmp_path / "a.tar", b"first", overwrite=False)
    with pytest.raises(UsageError, match=r"a.tar: already exists"):
        write_private(tmp_path / "a.tar", b"second", overwrite=False)
    assert (tmp_path / "a.tar").read_bytes() == b"first"
    write_private(tmp_path / "a.tar", b"third")
    assert (tmp_path / "a.tar").read_bytes() == b"third"
