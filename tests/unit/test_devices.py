"""Block and network devices from small trees."""

from __future__ import annotations

from pathlib import Path

from tests.unit.tree import Link, make_root

from bedplate.host.kernel.block import read_blocks
from bedplate.host.kernel.network import read_network
from bedplate.model.facts.reading import Unknown

DISK = "pci0000:15/0000:15:01.0/0000:18:00.0"
NIC = "pci0000:15/0000:15:02.0/0000:1a:00.0"


def test_disks(tmp_path: Path) -> None:
    namespace = f"/sys/devices/{DISK}/nvme/nvme0/nvme0n1"
    multipath = "/sys/devices/virtual/nvme-subsystem/nvme-subsys1"
    files: dict[str, str | bytes | Link] = {
        "/sys/block/nvme0n1": Link(f"../devices/{DISK}/nvme/nvme0/nvme0n1"),
        f"/sys/devices/{DISK}/numa_node": "0",
        f"{namespace}/device": Link("../../nvme0"),
        f"/sys/devices/{DISK}/nvme/nvme0/model": "Micron_7450",
        f"{namespace}/size": "2048",
        f"{namespace}/dev": "259:0",
        f"{namespace}/queue/rotational": "0",
        f"{namespace}/queue/scheduler": "[none] mq-deadline kyber",
        f"{namespace}/queue/read_ahead_kb": "128",
        f"{namespace}/mq/0/cpu_list": "0",
        f"{namespace}/mq/1/cpu_list": "1",
        f"{namespace}/nvme0n1p1/dev": "259:1",
        "/sys/block/nvme1n1": Link("../devices/virtual/nvme-subsystem/nvme-subsys1/nvme1n1"),
        f"{multipath}/nvme1n1/size": "8",
        f"{multipath}/nvme1": Link(f"../../../{DISK}/nvme/nvme0"),
        "/sys/block/dm-0/size": "1024",
        "/sys/block/dm-0/dev": "253:0",
        "/sys/block/dm-0/dm/name": "models",
        "/sys/block/dm-0/slaves/nvme0n1": Link("../../nvme0n1"),
        "/sys/block/loop0/size": "0",
        "/sys/block/ram0/size": "8192",
        "/proc/self/mountinfo": "\n".join(
            [
                "22 1 259:1 / / rw - ext4 /dev/nvme0n1p1 rw",
                r"23 1 253:0 / /srv/my\040models rw shared:1 - xfs /dev/mapper/models rw",
                "broken line",
            ]
        ),
    }
    disks = {block.name: block for block in read_blocks(make_root(tmp_path, files))}
    assert sorted(disks) == ["dm-0", "nvme0n1", "nvme1n1"]
    disk = disks["nvme0n1"]
    assert (disk.model, disk.address, disk.numa_node.value, disk.size_bytes) == ("Micron_7450", "0000:18:00.0", 0, 1 << 20)
    assert (disk.rotational.value, disk.scheduler.value, disk.read_ahead_bytes.value) == (False, "none", 128 << 10)
    assert (disk.queues, disk.transport, disk.mounts, disk.parents) == (2, "nvme", ("/",), ())
    assert disks["nvme1n1"].address == "0000:18:00.0"  # by the first controller of its subsystem
    assert disks["nvme1n1"].rotational.unknown is Unknown.ABSENT
    assert (disks["dm-0"].transport, disks["dm-0"].parents, disks["dm-0"].mounts) == (
        "dm",
        ("nvme0n1",),
        ("/srv/my models",),
    )


def test_network(tmp_path: Path) -> None:
    where = f"/sys/devices/{NIC}"
    virtio = "/sys/devices/pci0000:00/0000:00:03.0"
    files: dict[str, str | bytes | Link] = {
        "/sys/class/net/eth0": Link(f"../../devices/{NIC}/net/eth0"),
        f"{where}/net/eth0/device": Link("../../../0000:1a:00.0"),
        f"{where}/net/eth0/speed": "400000",
        f"{where}/net/eth0/operstate": "up",
        f"{where}/net/eth0/queues/rx-0/rps_cpus": "0",
        f"{where}/net/eth0/queues/rx-1/rps_cpus": "0",
        f"{where}/net/eth0/queues/tx-0/xps_cpus": "0",
        f"{where}/driver": Link("../../../../bus/pci/drivers/mlx5_core"),
        f"{where}/numa_node": "-1",
        f"{where}/msi_irqs/141": "msix",
        f"{where}/msi_irqs/140": "msix",
        "/proc/irq/140/smp_affinity_list": "0-3",
        "/proc/irq/141/smp_affinity": "f0",
        "/sys/class/infiniband/mlx5_0": Link(f"../../devices/{NIC}/infiniband/mlx5_0"),
        f"{where}/infiniband/mlx5_0/device": Link("../../../0000:1a:00.0"),
        "/sys/class/net/eth1/device": Link(f"../../../devices/{virtio[13:]}/virtio1"),
        f"{virtio}/virtio1/vendor": "0x1af4",
        f"{virtio}/numa_node": "0",
        "/sys/class/net/eth1/speed": "-1",
        "/sys/class/net/lo/operstate": "unknown",
        "/sys/class/net/veth1/operstate": "up",
        "/sys/class/infiniband/mlx5_9/device": Link("../../../devices/pci0000:40/0000:43:00.0"),
        "/sys/devices/pci0000:40/0000:43:00.0/numa_node": "2",
        "/sys/class/infiniband/mlx5_9/ports/1/rate": "400 Gb/sec (4X NDR)",
        "/sys/class/infiniband/mlx5_9/ports/1/state": "4: ACTIVE",
    }
    first, second, pure = read_network(make_root(tmp_path, files))
    assert (first.name, first.driver.value, first.address, first.speed_mbps.value) == (
        "eth0",
        "mlx5_core",
        "0000:1a:00.0",
        400_000,
    )
    assert (first.rx_queues, first.tx_queues, first.operstate, first.rdma) == (2, 1, "up", ("mlx5_0",))
    assert first.numa_node.unknown is Unknown.HIDDEN
    assert first.irqs == ((140, (0, 1, 2, 3)), (141, (4, 5, 6, 7)))
    assert (second.name, second.address, second.numa_node.value) == ("eth1", "0000:00:03.0", 0)
    assert second.speed_mbps.unknown is Unknown.HIDDEN
    assert (pure.name, pure.rdma, pure.speed_mbps.value, pure.operstate) == ("mlx5_9", ("mlx5_9",), 400_000, "up")
    assert (pure.numa_node.value, pure.address) == (2, "0000:43:00.0")
