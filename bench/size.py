"""How large the images are: what they hold, not how large their partitions were made.

bedplate: the data blocks that dm-verity covers, its hash tree, the UKI, the engine's and the model's disks. The stock arm:
the blocks that its ext4 has given out, and the files of its ESP; engine and model lie in its root.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path

from bedplate.act.run import run
from bedplate.errors import ReadError
from bedplate.image.manifest import Partition, read_partitions
from bedplate.model.progress import Progress
from bench.arms import Bench, bench_directory

_ROOT = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"  # GPT types of x86-64; Discoverable Partitions Specification
_ROOT_VERITY = "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    arm: str
    what: str
    size_bytes: int


def measure_sizes(bench: Bench, progress: Progress) -> list[Size]:
    """What each arm is made of, and each arm's disk as a qcow2 file compressed with zstd, as one would ship it."""
    with progress.phase("image sizes"):
        ours, stock = bench.ours, bench.stock
        root, tree = verity_bytes(ours.image.raw)
        model_bytes = Path(ours.models).stat().st_size if ours.models is not None else 0
        rows = [
            Size(arm=ours.name, what="root (EROFS)", size_bytes=root),
            Size(arm=ours.name, what="dm-verity hashes", size_bytes=tree),
            Size(arm=ours.name, what="UKI: kernel and initrd", size_bytes=ours.image.uki.stat().st_size),
            Size(arm=ours.name, what="engine layer (EROFS, verity)", size_bytes=_disk_bytes(bench.layer.path)),
            Size(arm=ours.name, what="model's disk (EROFS)", size_bytes=model_bytes),
            Size(arm=stock.name, what="root with engine and model (ext4)", size_bytes=ext4_bytes(stock.image.raw)),
            Size(arm=stock.name, what="ESP: kernel and initrd", size_bytes=_boot_bytes(bench)),
        ]
        progress.detail("the stock arm as a compressed qcow2")
        packed = bench_directory(bench.paths) / "stock.qcow2"
        convert = [bench.programs.qemu_img, "convert", "-c", "-o", "compression_type=zstd", "-O", "qcow2"]
        run([*convert, stock.image.raw, packed], timeout_s=600)
        record = json.loads(ours.image.manifest.read_text())
        ours_packed = record["files"]["qcow2"]["size_bytes"] + _disk_bytes(bench.layer.path) + model_bytes
        rows += [
            Size(arm=ours.name, what="compressed disk, engine layer and model", size_bytes=ours_packed),
            Size(arm=stock.name, what="compressed disk", size_bytes=packed.stat().st_size),
        ]
        packed.unlink()
    return rows


def verity_bytes(disk: Path) -> tuple[int, int]:
    """(bytes of data, bytes of its hash tree) of the root on a disk.

    From the superblock of dm-verity: data blocks of 4096 bytes, 128 hashes of 32 bytes to a block at each level.
    Source: cryptsetup, docs/on-disk-format-verity ("verity\\0\\0", version 1).
    """
    hashes = _partition(disk, _ROOT_VERITY)
    with disk.open("rb") as handle:
        handle.seek(hashes.offset_bytes)
        head = handle.read(512)
    if head[:8] != b"verity\0\0":
        raise ReadError(f"{disk}: got {head[:8]!r}, expected a superblock of dm-verity")
    block, hash_block, blocks = struct.unpack_from("<IIQ", head, 64)
    data, level, tree = blocks * block, blocks, 1
    while level > 1:
        level = -(-level // (hash_block // 32))
        tree += level
    return data, tree * hash_block


def ext4_bytes(disk: Path) -> int:
    """Bytes of all blocks that the root's ext4 has given out, its journal and tables included.

    Source: Documentation/filesystems/ext4/super.rst (s_blocks_count_lo 0x4, s_free_blocks_count_lo 0xC,
    s_log_block_size 0x18).
    """
    with disk.open("rb") as handle:
        handle.seek(_partition(disk, _ROOT).offset_bytes + 1024)
        block = handle.read(1024)
    if block[0x38:0x3A] != b"\x53\xef":
        raise ReadError(f"{disk}: the root has no superblock of ext4")
    count, free, log_size = (struct.unpack_from("<I", block, at)[0] for at in (0x4, 0xC, 0x18))
    return int((count - free) * (1024 << log_size))


def _disk_bytes(file: Path) -> int:
    return file.stat().st_blocks * 512


def _boot_bytes(bench: Bench) -> int:
    return bench.stock.image.kernel.stat().st_size + bench.stock.image.initrd.stat().st_size


def _partition(disk: Path, kind: str) -> Partition:
    for partition in read_partitions(disk):
        if partition.type == kind:
            return partition
    raise ReadError(f"{disk}: no partition of type {kind}")
