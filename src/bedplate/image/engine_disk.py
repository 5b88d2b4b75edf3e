"""The disk of an engine layer: an EROFS root with its dm-verity tree and the owner's signature, from an unpacked tree."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from bedplate.act.paths import Paths
from bedplate.act.run import run
from bedplate.image.keys import Keys
from bedplate.image.tools import tools_command

_TIMEOUT_S = 3600.0  # an hour: a gigabyte is compressed by one busy processor


def make_disk(
    paths: Paths, work: Path, tree: Path, image: Path, keys: Keys, *, seed: uuid.UUID, epoch: int, log: Path
) -> None:
    """Make the disk `image` of `tree`: the same tree, keys, seed and epoch (seconds since 1970) give the same bytes.

    work is a directory for what is made on the way. Raises CommandError.
    """
    definitions = work / "repart"
    definitions.mkdir()
    head = "[Partition]\n"
    (definitions / "10-root.conf").write_text(
        head + "Type=root\nFormat=erofs\nCompression=lz4hc\nCompressionLevel=9\nCopyFiles=/\nMinimize=best\n"
        "Verity=data\nVerityMatchKey=root\n"
    )
    (definitions / "20-verity.conf").write_text(head + "Type=root-verity\nVerity=hash\nVerityMatchKey=root\nMinimize=best\n")
    (definitions / "30-signature.conf").write_text(head + "Type=root-verity-sig\nVerity=signature\nVerityMatchKey=root\n")
    argv: list[str | os.PathLike[str]] = ["systemd-repart", "--empty=create", "--size=auto", "--offline=yes", "--dry-run=no"]
    argv += ["--seed", str(seed), "--definitions", definitions, "--copy-source", tree, "--no-pager"]
    argv += ["--private-key", keys.owner_key, "--certificate", keys.owner_certificate, image]
    words = tools_command(paths, argv)
    run(words, timeout_s=_TIMEOUT_S, log=log, env={"SOURCE_DATE_EPOCH": str(epoch)})
