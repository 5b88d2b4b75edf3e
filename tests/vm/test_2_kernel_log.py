"""Faults of a guest's own hardware and memory, which `bedplate doctor` finds in its kernel's log.

QEMU's monitor injects a machine check, a disk's file returns errors (blkdebug), and a control group has too little memory.
Nothing is written into the log by the test. Errors of PCI Express are not among them: QEMU 7.2 takes pcie_aer_inject_error,
and the guest's root port, whose AER driver is in force, gets no interrupt.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bedplate.image.manifest import Image
from tests.conftest import Bedplate
from tests.serving.tiny_gguf import write_tiny_model
from tests.vm.serving_guest import ServingGuest, serving_guest

pytestmark = [pytest.mark.vm, pytest.mark.long]

_SECTOR = 4096
_RULES = f'[inject-error]\nevent = "read_aio"\nerrno = "5"\nsector = "{_SECTOR}"\n'
# A corrected error: valid and enabled, not uncorrected. The kernel polls for those.
_MACHINE_CHECK = "mce 0 1 0x9400000000000151 0 0x1234000 0"


# A console loses what is printed while its reader is slow: little is printed.
_SHORT = """
import json, sys
found = [row for row in json.load(sys.stdin)["findings"] if row["id"].startswith("kernel.")]
print(json.dumps([[row["id"], row["where"], row["evidence"][0]["fact"]] for row in found]))
"""


def doctor(guest: ServingGuest) -> dict[str, tuple[list[str], str]]:
    """The findings of the kernel's log: id -> (places, the first message)."""
    guest.shell(f"cat >/run/short.py <<'END'\n{_SHORT}\nEND")
    said = guest.shell("bedplate doctor --json --fail-on never 2>/dev/null | python3 /run/short.py")
    return {id: (where, fact) for id, where, fact in json.loads(said)}


def test_doctor_finds_real_faults_in_the_log_of_a_running_kernel(bedplate: Bedplate, image: Image, tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    write_tiny_model(model, embedding=64, layers=1, context=512, says="alpha")
    (tmp_path / "rules").write_text(_RULES)
    with (tmp_path / "disk").open("wb") as disk:
        disk.truncate(16 << 20)
    argv = (
        *("-drive", f"if=none,id=bad,format=raw,rerror=report,file=blkdebug:{tmp_path}/rules:{tmp_path}/disk"),
        *("-device", "virtio-blk-pci,drive=bad,serial=bad"),
    )
    models, state = [("one", model)], tmp_path / "state"
    with serving_guest(bedplate, image, bedplate.engine_layer(), models, state, extra_argv=argv) as guest:
        assert guest.ask("one", "hello") == "alphaalpha"
        assert doctor(guest) == {}, "a machine without faults"

        disk_name = guest.shell("grep -lx bad /sys/block/*/serial | cut -d/ -f4").strip()
        status, _ = guest.run(f"dd if=/dev/{disk_name} of=/dev/null bs=512 skip={_SECTOR} count=1 iflag=direct")
        assert status != 0
        guest.run(
            "mkdir /sys/fs/cgroup/small; echo 16M >/sys/fs/cgroup/small/memory.max;"
            " sh -c 'echo $$ >/sys/fs/cgroup/small/cgroup.procs; exec tail /dev/zero'"
        )
        guest.shell("echo 1 >/sys/devices/system/machinecheck/machinecheck0/check_interval")
        guest.monitor(_MACHINE_CHECK)
        guest.shell("until dmesg | grep -q 'Hardware Error.*Machine Check'; do sleep 0.5; done")

        found = doctor(guest)
        assert {"kernel.block-io-error", "kernel.oom-cgroup", "kernel.mce-corrected"} == set(found)
        assert found["kernel.block-io-error"][0] == [disk_name]
        assert found["kernel.oom-cgroup"][1].startswith("Memory cgroup out of memory: Killed process")
        assert guest.ask("one", "hello") == "alphaalpha"
