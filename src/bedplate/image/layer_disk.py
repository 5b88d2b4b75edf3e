"""A tree as a signed disk image: EROFS, dm-verity and the signature of its root hash, in a GPT (systemd-repart, offline).

systemd-dissect and systemd-sysext mount it as it is. The same tree, seed and key give the same bytes.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from bedplate.act.paths import Paths
from bedplate.act.run import run
from bedplate.image.keys import Keys
from bedplate.image.tools import tools_command

_TIMEOUT_S = 3600.0  # an hour: a gigabyte is compressed by one busy processor
_HEAD = "[Partition]\n"
_PARTITIONS = {
    "10-root.conf": "Type=root\nFormat=erofs\nCompression=lz4hc\nCompressionLevel=9\nCopyFiles=/\nMinimize=best\n"
    "Verity=data\nVerityMatchKey=root\n",
    "20-verity.conf": "Type=root-verity\nVerity=hash\nVerityMatchKey=root\nMinimize=best\n",
    "30-signature.conf": "Type=root-verity-sig\nVerity=signature\nVerityMatchKey=root\n",
}


def make_layer_disk(
    paths: Paths, work: Path, tree: Path, image: Path, keys: Keys, *, seed: uuid.UUID, epoch: int, log: Path
) -> None:
    """Write `image` from the files of `tree`, signed by the owner's key. `work` is an empty place below the cache.

    seed decides all UUIDs, epoch (seconds since 1970) all times. Raises CommandError when systemd-repart fails.
    """
    definitions = work / "repart"
    definitions.mkdir()
    for name, text in _PARTITIONS.items():
        (definitions / name).write_text(_HEAD + text)
    argv: list[str | os.PathLike[str]] = ["systemd-repart", "--empty=create", "--size=auto", "--offline=yes", "--dry-run=no"]
    argv += ["--seed", str(seed), "--definitions", definitions, "--copy-source", tree, "--no-pager"]
    argv += ["--private-key", keys.owner_key, "--certificate", keys.owner_certificate, image]
    run(tools_command(paths, argv), timeout_s=_TIMEOUT_S, log=log, env={"SOURCE_DATE_EPOCH": str(epoch)})
