"""Where an engine's model lies: on a network, or on a disk that turns."""

from __future__ import annotations

from collections.abc import Iterator

from bedplate.model.facts.finding import Confidence, Evidence, Severity
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.pci import BlockDevice
from bedplate.model.facts.system import Mount
from bedplate.plan.rules.observation import Observation, not_judged, some
from bedplate.plan.rules.rule import Result
from bedplate.plan.rules.terms import Deployment, deployments, in_container

_NETWORK = ("nfs", "nfs4", "lustre", "ceph", "cifs", "smb3", "gpfs", "beegfs", "glusterfs")
# Ways in which a loader reads a network well, and says so on its command line.
_LOADERS = ("--safetensors-load-strategy", "--load-format", "--model-loader-extra-config", "--no-mmap", "--direct-io")
_DEEP = 16  # devices below devices; a table of them made as an attack may be a ring
_LOCAL_TRANSPORTS = ("nvme", "scsi")


def check_store(facts: HostFacts) -> Iterator[Result]:
    """The file system and the device of each model that an engine's command line names."""
    for group in deployments(facts):
        paths = sorted({path for process in group.processes for path in process.model_paths if path.startswith("/")})
        if not paths:
            continue
        if in_container(facts, group) is not False:
            for id in ("storage.model-network", "storage.model-rotational"):
                yield not_judged(
                    id=id, why=f"{group.name} is in a container: its paths are not those of the mounts that were read"
                )
            continue
        for path in paths:
            yield from _judge(facts, group, path)


def _judge(facts: HostFacts, group: Deployment, path: str) -> Iterator[Result]:
    mount = _mount_of(facts, path)
    if mount is None:
        yield not_judged(id="storage.model-network", why=f"bedplate read no mount that holds {path}")
        return
    source = Evidence(fact=f"{path} is on {mount.kind} at {mount.point}", source="/proc/self/mountinfo")
    if mount.kind in _NETWORK or mount.kind.startswith("fuse."):
        if not any(word.partition("=")[0] in _LOADERS for process in group.processes for word in process.argv):
            yield Observation(
                id="storage.model-network",
                severity=Severity.MEDIUM,
                because=f"{group.name} maps its model from a network file system ({mount.kind} at {mount.point})",
                where=(*group.where, mount.point),
                evidence=(source,),
                fix=(
                    "# Read it as a whole: vLLM --safetensors-load-strategy=eager, llama.cpp --no-mmap.",
                    "# Or keep a copy on a local disk: rsync -a MODEL /var/lib/models/",
                ),
                undo=("# Start it with its previous options.",),
                confidence=Confidence.LIKELY,
            )
        return
    devices = {disk.name: disk for disk in facts.blocks}
    below = _disks(devices, mount.source.removeprefix("/dev/"), mount.point)
    if not below:
        return  # overlay, tmpfs, zfs: not a device of the table
    slow = [disk for disk in below if disk.rotational.value is True and disk.transport in _LOCAL_TRANSPORTS]
    if slow:
        yield Observation(
            id="storage.model-rotational",
            severity=Severity.MEDIUM,
            because=f"{group.name} reads its model from a rotating disk ({some(disk.name for disk in slow)})",
            where=(*group.where, *(disk.name for disk in slow)),
            evidence=(
                source,
                *(Evidence(fact=f"rotational 1, {disk.model}", source=disk.rotational.source) for disk in slow[:2]),
            ),
            fix=("# Keep the models on an NVMe drive, and use their new path: rsync -a MODEL DIRECTORY-ON-NVME/",),
            undo=("# Use the old directory again.",),
            confidence=Confidence.LIKELY,
        )


def _mount_of(facts: HostFacts, path: str) -> Mount | None:
    over = [mount for mount in facts.mounts if path == mount.point or path.startswith(mount.point.rstrip("/") + "/")]
    return max(over, key=lambda mount: (len(mount.point), mount.kind), default=None)


def _disks(devices: dict[str, BlockDevice], name: str, point: str) -> list[BlockDevice]:
    """The devices at the bottom of what is mounted: by the mounts that a device names, else by its own name."""
    start = [device for device in devices.values() if point in device.mounts] or [
        devices[name] for name in (name,) if name in devices
    ]
    found: list[BlockDevice] = []
    todo, left = list(start), _DEEP
    while todo and left:
        left -= 1
        one = todo.pop()
        parents = [devices[parent] for parent in one.parents if parent in devices]
        if parents:
            todo += parents
        elif one not in found:
            found.append(one)
    return sorted(found, key=lambda device: device.name)
