"""The kernel, the system around it, memory, mounts, limits and pressure: two machines written after real ones."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.errors import ReadError
from bedplate.host.kernel.kernel import parse_cmdline, parse_config, read_kernel
from bedplate.host.kernel.knobfiles import read_knob_files
from bedplate.host.kernel.limits import parse_limits, parse_pressure, read_limits, read_pressure
from bedplate.host.kernel.memory_facts import read_memory_facts, read_shm
from bedplate.host.kernel.mounts import parse_mountinfo, read_mount_rows, read_mounts
from bedplate.host.kernel.nextkernel import read_next_release
from bedplate.host.kernel.processes import parse_argv, read_processes
from bedplate.host.root.root import Root
from bedplate.host.system.osinfo import parse_os_release, read_container, read_os, read_tee, read_virtualisation
from bedplate.host.system.upgrades import read_driver_held, read_unattended
from bedplate.model.facts.reading import Unknown, known
from bedplate.model.facts.system import Mount
from bedplate.model.versions import version_key

MACHINES = Path(__file__).parents[1] / "machines"
SERVER, POD = Root(MACHINES / "ubuntu-vllm"), Root(MACHINES / "pod-cgroup1")


def tree(directory: Path, files: dict[str, str]) -> Root:
    for where, text in files.items():
        path = directory / where.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Root(directory)


def test_kernel_of_a_server() -> None:
    kernel = read_kernel(SERVER, config_options=("CONFIG_HZ", "CONFIG_SCHED_CLASS_EXT"))
    assert kernel.release.value == "6.8.0-31-generic"
    assert 'dyndbg="file drivers/usb/* +p"' in kernel.cmdline
    assert (kernel.taint.value, kernel.lockdown.value) == (12288, "integrity")
    assert kernel.modules == (("nvidia", "570.133.20"), ("nvidia_uvm", ""), ("xfs", ""))
    assert kernel.installed == ("6.8.0-31-generic", "6.8.0-60-generic"), "what a removed kernel left behind is none"
    assert kernel.next_release.value == "6.8.0-60-generic"
    assert dict(kernel.gpu_modules)["6.8.0-31-generic"] == ("nouveau", "nvidia")
    assert dict(kernel.gpu_modules)["6.8.0-60-generic"] == ("nouveau",), "the next boot has no NVIDIA module"
    assert kernel.nvidia_flavour.value == "open"
    assert kernel.config == (("CONFIG_HZ", "250"), ("CONFIG_SCHED_CLASS_EXT", "n"))
    assert (kernel.clocksource.value, kernel.clocksources) == ("hpet", ("tsc", "hpet", "acpi_pm"))
    assert kernel.vulnerabilities[0] == ("meltdown", "Not affected")


def test_kernel_seen_from_a_container() -> None:
    kernel = read_kernel(POD)
    assert kernel.release.value == "5.4.0-150-generic"
    assert (kernel.installed, kernel.config, kernel.modules) == ((), (), ())
    assert kernel.next_release.unknown is Unknown.ABSENT
    assert kernel.nvidia_flavour.unknown is Unknown.ABSENT


def test_release_of_proc_version_where_sysctl_was_not_recorded(tmp_path: Path) -> None:
    root = tree(tmp_path, {"/proc/version": "Linux version 3.10.0-957 (mockbuild@x)\n"})
    assert read_kernel(root).release == known("3.10.0-957", "/proc/version")


@pytest.mark.parametrize(
    ("first", "flavour"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12", "proprietary"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  580.65.06", "open"),
        ("garbage", None),
    ],
)
def test_flavour_of_the_nvidia_module(tmp_path: Path, first: str, flavour: str | None) -> None:
    assert read_kernel(tree(tmp_path, {"/proc/driver/nvidia/version": first})).nvidia_flavour.value == flavour


def test_gpu_modules_of_ubuntus_signed_packages_and_built_in_ones(tmp_path: Path) -> None:
    dep = "kernel/nvidia-570-open/nvidia.ko:\nkernel/drivers/gpu/drm/amd/amdgpu/amdgpu.ko.xz: a.ko\nextra/notnvidia.ko:\n"
    files = {
        "/lib/modules/6.1/modules.dep": dep,
        "/lib/modules/6.1/modules.builtin": "kernel/drivers/gpu/drm/i915/i915.ko\n",
    }
    assert read_kernel(tree(tmp_path, files)).gpu_modules == (("6.1", ("amdgpu", "i915", "nvidia-open")),)


def test_config_that_the_kernel_holds_itself(tmp_path: Path) -> None:
    root = tree(tmp_path, {"/proc/version": "Linux version 6.12 x"})
    packed = tmp_path / "proc/config.gz"
    packed.write_bytes(gzip.compress(b"CONFIG_PSI=y\n" + b"#\n" * 100))
    assert ("CONFIG_PSI", "y") in read_kernel(root).config
    for content in (gzip.compress(b"CONFIG_PSI=y\n")[:9], b"no gzip", gzip.compress(bytes(8 << 20))):
        packed.write_bytes(content)
        assert read_kernel(root).config == (), "an option that is not said is not off"


def test_versions_are_ordered_as_boot_loaders_order_them() -> None:
    ordered = ["5.15.0-9-generic", "5.15.0-100-generic", "6.8.0-9-generic", "6.8.0-31-generic", "6.12~rc1", "6.12", "6.12.1"]
    assert sorted(set(ordered), key=version_key) == ordered


@pytest.mark.parametrize(
    ("files", "links", "release"),
    [
        ({"/boot/vmlinuz-6.1": "", "/boot/vmlinuz-6.10": "", "/boot/vmlinuz.old": ""}, {}, "6.10"),
        (
            {
                "/etc/default/grub": 'GRUB_DEFAULT="Advanced options>Ubuntu, with Linux 6.5.0-9-generic"\n',
                "/boot/vmlinuz-6.8": "",
            },
            {},
            "6.5.0-9-generic",
        ),
        (
            {
                "/etc/default/grub": "GRUB_DEFAULT=saved\n",
                "/boot/grub2/grubenv": "# GRUB Environment Block\nsaved_entry=0123abcd-5.14.0-427.el9.x86_64\n",
                "/boot/vmlinuz-5.14.0-500.el9.x86_64": "",
            },
            {},
            "5.14.0-427.el9.x86_64",
        ),
        (
            {
                "/boot/loader/entries/a-6.10.conf": "title Fedora\nversion 6.10\n",
                "/boot/loader/entries/a-6.9.conf": "title Fedora\nlinux /vmlinuz-6.9\n",
                "/boot/loader/entries/a-0-rescue.conf": "version 9.9\n",
            },
            {},
            "6.10",
        ),
        ({"/boot/vmlinuz-6.8": "", "/boot/vmlinuz-6.9.dpkg-new": "", "/boot/vmlinuz-6.9.old": ""}, {}, "6.8"),
        (
            {
                "/etc/default/grub": 'GRUB_DEFAULT="gnulinux-advanced-1f8c-02>gnulinux-6.8.0-90-generic-advanced-1f8c-02"\n',
                "/boot/vmlinuz-6.8.0-91-generic": "",
            },
            {},
            "6.8.0-90-generic",
        ),
        (
            {
                "/etc/default/grub": "GRUB_DEFAULT=saved\n",
                "/boot/grub/grubenv": "saved_entry=gnulinux-6.8.0-90-generic-recovery-/dev/mapper/vg-root\n",
                "/boot/vmlinuz-6.8.0-91-generic": "",
            },
            {},
            "6.8.0-90-generic",
        ),
        (
            {
                "/etc/default/grub": 'GRUB_DEFAULT="Advanced>Ubuntu, with Linux 6.5.0-9-generic (recovery mode)"\n',
                "/boot/vmlinuz-6.8": "",
            },
            {},
            "6.5.0-9-generic",
        ),
        (
            {
                "/etc/default/grub": "GRUB_DEFAULT=0\n",
                "/etc/default/grub.d/50-site.cfg": 'GRUB_DEFAULT="Advanced>Ubuntu, with Linux 6.5.0-9-generic"\n',
                "/boot/vmlinuz-6.8": "",
            },
            {},
            "6.5.0-9-generic",
        ),
        ({"/etc/default/grub": "GRUB_DEFAULT=0\n", "/boot/vmlinuz-6.8": ""}, {}, "6.8"),
        ({"/etc/default/grub": 'GRUB_DEFAULT="1>2"\n', "/boot/vmlinuz-6.8": "", "/boot/vmlinuz-6.9": ""}, {}, None),
        ({"/boot/x": ""}, {"/vmlinuz": "boot/vmlinuz-6.12.1"}, "6.12.1"),
        ({"/lib/modules/6.2/modules.dep": ""}, {}, "6.2"),
        ({"/proc/version": ""}, {}, None),
    ],
)
def test_the_kernel_that_boots_next(
    tmp_path: Path, files: dict[str, str], links: dict[str, str], release: str | None
) -> None:
    root = tree(tmp_path, files)
    for where, target in links.items():
        (tmp_path / where.lstrip("/")).symlink_to(target)
    installed = root.listdir("/lib/modules")
    assert read_next_release(root, installed).value == release


def test_system_of_a_server() -> None:
    mounts = read_mounts(read_mount_rows(SERVER))
    system = read_os(SERVER, read_processes(SERVER), mounts, ("fpu",))
    assert (system.id, system.version, system.pretty_name) == ("ubuntu", "24.04", "Ubuntu 24.04.2 LTS")
    assert (system.init.value, system.systemd) == ("systemd", True)
    assert (system.virtualisation.value, system.container.value, system.tee.value) == ("none", "none", "none")
    assert system.unattended_upgrades.value is True
    assert system.driver_packages_held.value is False
    assert system.co_owners == ("irqbalance", "power-profiles-daemon")
    assert system.cdi_files == ("/etc/cdi/nvidia.yaml",)
    assert system.runtimes == ("docker", "nvidia-container-toolkit")


def test_system_of_a_pod() -> None:
    mounts = read_mounts(read_mount_rows(POD))
    system = read_os(POD, read_processes(POD), mounts, ("fpu", "hypervisor", "sev"))
    assert (system.virtualisation.value, system.container.value, system.tee.value) == ("amazon", "kubernetes", "sev")
    assert (system.systemd, system.co_owners, system.runtimes) == (False, (), ())


@pytest.mark.parametrize(
    ("files", "flags", "expected"),
    [
        ({"/sys/class/dmi/id/sys_vendor": "QEMU"}, ("fpu", "hypervisor"), "qemu"),
        ({"/sys/class/dmi/id/product_name": "KVM"}, ("fpu", "hypervisor"), "kvm"),
        ({"/sys/class/dmi/id/product_name": "VMware7,1"}, ("fpu", "hypervisor"), "vmware"),
        ({"/sys/class/dmi/id/product_name": "Google Compute Engine"}, ("fpu", "hypervisor"), "google"),
        ({"/sys/class/dmi/id/sys_vendor": "Microsoft Corporation"}, ("fpu", "hypervisor"), "hyperv"),
        ({"/sys/class/dmi/id/sys_vendor": "Microsoft Corporation"}, ("fpu",), "none"),
        ({"/sys/class/dmi/id/sys_vendor": "Amazon EC2"}, ("fpu",), "none"),
        ({"/sys/class/dmi/id/product_name": "c7g.metal", "/sys/class/dmi/id/sys_vendor": "Amazon EC2"}, ("asimd",), "none"),
        ({"/sys/class/dmi/id/sys_vendor": "Amazon EC2"}, ("asimd",), "amazon"),
        ({"/sys/class/dmi/id/sys_vendor": "NVIDIA"}, ("asimd",), "none"),
        ({"/sys/hypervisor/type": "xen"}, ("fpu", "hypervisor"), "xen"),
        ({"/sys/hypervisor/type": "xen", "/proc/xen/capabilities": "control_d\n"}, ("fpu",), "none"),
        ({"/proc/device-tree/hypervisor/compatible": "linux,kvm\0"}, ("asimd",), "kvm"),
        ({}, ("fpu", "hypervisor"), "other"),
        ({}, (), None),
    ],
)
def test_virtualisation(tmp_path: Path, files: dict[str, str], flags: tuple[str, ...], expected: str | None) -> None:
    assert read_virtualisation(tree(tmp_path, files), flags).value == expected


def test_a_machine_made_from_an_image_is_no_container(tmp_path: Path) -> None:
    root = tree(tmp_path, {"/.dockerenv": "", "/proc/2/comm": "kthreadd\n"})
    assert read_container(root, ()).value == "none"
    overlay = Mount(point="/", source="overlay", kind="overlay", options=())
    assert read_container(root, (overlay,)).value == "docker"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"/.dockerenv": ""}, "docker"),
        ({"/run/.containerenv": ""}, "podman"),
        ({"/run/systemd/container": "systemd-nspawn\n", "/proc/2/comm": "kthreadd\n"}, "systemd-nspawn"),
        ({"/proc/1/environ": "PATH=/bin\0container=lxc\0"}, "lxc"),
        ({"/proc/self/cgroup": "0::/docker/abc\n"}, "docker"),
        ({"/proc/version": ""}, None),
    ],
)
def test_containers(tmp_path: Path, files: dict[str, str], expected: str | None) -> None:
    reading = read_container(tree(tmp_path, files), ())
    assert reading.value == expected
    assert expected is not None or reading.unknown is Unknown.HIDDEN


def test_trusted_execution(tmp_path: Path) -> None:
    guest, metal = known("kvm", "dmi"), known("none", "dmi")
    assert read_tee(Root(tmp_path), ("tdx_guest",), guest).value == "tdx"
    assert read_tee(Root(tmp_path), ("sev", "sev_es"), metal).value == "none", "what a host could give is not what it is in"
    assert read_tee(tree(tmp_path, {"/sys/devices/virtual/misc/sev-guest/dev": ""}), (), guest).value == "sev-snp"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"/etc/apt/apt.conf.d/20auto": 'APT::Periodic::Unattended-Upgrade "0";'}, False),
        ({"/etc/apt/apt.conf.d/20auto": '// APT::Periodic::Unattended-Upgrade "1";'}, False),
        (
            {
                "/etc/apt/apt.conf.d/20auto": 'APT::Periodic::Unattended-Upgrade "1";',
                "/etc/apt/apt.conf.d/99mine": 'APT::Periodic::Unattended-Upgrade "0";',
            },
            False,
        ),
        ({"/etc/apt/apt.conf.d/20auto.bak": 'APT::Periodic::Unattended-Upgrade "1";'}, False),
        (
            {
                "/etc/systemd/system/timers.target.wants/dnf-automatic.timer": "",
                "/etc/dnf/automatic.conf": "apply_updates = yes",
            },
            True,
        ),
        (
            {
                "/etc/systemd/system/timers.target.wants/dnf-automatic.timer": "",
                "/etc/dnf/automatic.conf": "apply_updates = no",
            },
            False,
        ),
        ({"/etc/fedora-release": ""}, None),
    ],
)
def test_unattended_upgrades(tmp_path: Path, files: dict[str, str], expected: bool | None) -> None:
    assert read_unattended(tree(tmp_path, files)).value is expected


@pytest.mark.parametrize(
    ("status", "conf", "expected"),
    [
        ("Package: libcuda1\nStatus: hold ok installed\n", "", True),
        ("Package: nvidia-driver-570\nStatus: install ok installed\n", "", False),
        (
            "Package: nvidia-driver-570\nStatus: install ok installed\n",
            'Unattended-Upgrade::Package-Blacklist { "nvidia-"; "linux-"; };',
            True,
        ),
        (
            "Package: nvidia-driver-570\nStatus: install ok installed\n",
            'Unattended-Upgrade::Package-Blacklist {\n// "nvidia-";\n};',
            False,
        ),
        ("Package: libdrm-amdgpu1\nStatus: install ok installed\n", "", None),
    ],
)
def test_whether_upgrades_leave_the_driver_alone(tmp_path: Path, status: str, conf: str, expected: bool | None) -> None:
    root = tree(tmp_path, {"/var/lib/dpkg/status": status, "/etc/apt/apt.conf.d/50unattended-upgrades": conf})
    assert read_driver_held(root).value is expected


def test_memory_of_a_server() -> None:
    memory = read_memory_facts(SERVER, read_mounts(read_mount_rows(SERVER)))
    assert memory.total_bytes == 2113555404 * 1024
    assert (memory.thp.value, memory.thp_defrag.value) == ("madvise", "madvise")
    assert (memory.zswap.value, memory.zram) == (True, True)
    assert memory.huge_pages == ((2 << 20, 512, 500), (1 << 30, 0, 0))
    assert memory.shm_bytes.value == 64 << 20


def test_memory_needs_meminfo(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="MemTotal is missing"):
        read_memory_facts(Root(tmp_path), ())


@pytest.mark.parametrize(
    ("options", "expected"),
    [(("rw",), 500), (("size=25%",), 250), (("size=64m",), 64 << 20), (("size=9",), 9), (("size=x",), None)],
)
def test_size_of_shared_memory(options: tuple[str, ...], expected: int | None) -> None:
    shm = Mount(point="/dev/shm", source="shm", kind="tmpfs", options=options)
    assert read_shm((shm,), 1000).value == expected
    assert read_shm((), 1000).unknown is Unknown.ABSENT


def test_mounts_of_a_server() -> None:
    mounts = {mount.point: mount for mount in read_mounts(read_mount_rows(SERVER))}
    assert mounts["/mnt/model store"].kind == "nfs4"
    assert not any(option.startswith("lowerdir") for mount in mounts.values() for option in mount.options)
    assert parse_mountinfo("27 1 254:0 / / rw") is None


def test_mounts_of_an_old_recording(tmp_path: Path) -> None:
    root = tree(tmp_path, {"/proc/mounts": "/dev/sda1 / ext4 rw,noatime 0 0\nbroken\n"})
    assert read_mounts(read_mount_rows(root)) == (
        Mount(point="/", source="/dev/sda1", kind="ext4", options=("rw", "noatime")),
    )


def test_limits_and_pressure() -> None:
    limits = dict(read_limits(SERVER, "4711"))
    assert (limits["nofile"], limits["memlock"], limits["nproc"]) == (65535, None, None)
    assert read_limits(SERVER, "1") == ()
    cpu, irq = read_pressure(SERVER)
    assert (cpu.resource, cpu.some_avg60, cpu.full_avg60) == ("cpu", 2.5, 0.0)
    assert (irq.resource, irq.some_avg60, irq.full_avg60) == ("irq", 0.0, 0.2)
    assert read_pressure(POD) == ()


def test_knob_files_by_path_and_by_glob(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "/proc/sys/vm/swappiness": "60\n",
            "/sys/block/nvme0n1/queue/scheduler": "[none]\n",
            "/sys/block/nvme1n1/queue/nothing": "",
            "/sys/block/sda/queue/scheduler": "[mq-deadline]\n",
            "/etc/sysctl.d/.hidden.conf": "",
        },
    )
    paths = ("/sys/block/nvme*/queue/scheduler", "/proc/sys/vm/swappiness", "/etc/sysctl.d/*.conf", "/run/sysctl.d/*.conf")
    found = {file.source: file for file in read_knob_files(root, paths)}
    assert found["/sys/block/nvme0n1/queue/scheduler"].value == "[none]"
    assert found["/proc/sys/vm/swappiness"].value == "60"
    assert found["/etc/sysctl.d/*.conf"].unknown is Unknown.ABSENT
    assert found["/run/sysctl.d/*.conf"].unknown is Unknown.ABSENT
    assert len(found) == 4


TEXT = st.text(alphabet=st.characters(codec="latin-1"), max_size=300)


@given(TEXT)
def test_no_text_makes_a_parser_fail(text: str) -> None:
    parse_cmdline(text)
    parse_config(text, ("CONFIG_PSI",))
    parse_os_release(text)
    parse_limits(text)
    parse_pressure("cpu", text)
    parse_mountinfo(text)
    parse_argv(text.encode("latin-1"))
    version_key(text)


@given(
    st.lists(
        st.sampled_from(
            ["some ", "full ", "avg60=", "1.50", "99999999", "Max open files            ", " ", "CONFIG_PSI=", '"']
        )
    )
)
def test_no_near_miss_makes_a_parser_fail(parts: list[str]) -> None:
    test_no_text_makes_a_parser_fail.hypothesis.inner_test("".join(parts))  # type: ignore[attr-defined]


def test_a_server_copied_with_garbage_in_every_file_is_read(tmp_path: Path) -> None:
    shutil.copytree(SERVER.path, tmp_path / "machine", symlinks=True)
    for path in (tmp_path / "machine").rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.write_bytes(b"\xff\x00-1 99999999999999999999999999 [] =:() \n" * 3)
    root = Root(tmp_path / "machine")
    read_kernel(root)
    read_os(root, read_processes(root), read_mounts(read_mount_rows(root)), ())
    read_limits(root)
    read_pressure(root)
