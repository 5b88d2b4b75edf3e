"""Change a package of a lock as its maintainer would: a new version with one changed file, in pool and lock."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from bedplate.act.paths import Paths
from bedplate.act.run import run
from bedplate.image.packages import pool
from bedplate.image.tools import tools_command

SUFFIX = "+changed1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    name: str
    version: str
    path: str
    """Of the changed file in the package, without a leading slash."""
    content: bytes


def change_package(paths: Paths, lock_file: Path, name: str, pattern: str) -> Changed:
    """Append a line to the file of the package that matches the glob, and raise its version."""
    lock = json.loads(lock_file.read_text())
    (entry,) = (package for package in lock["packages"] if package["name"] == name)
    work = paths.cache / "repack"
    run(tools_command(paths, ["dpkg-deb", "-R", pool(paths) / entry["file"], work]), timeout_s=120)
    (file,) = (found for found in sorted(work.glob(pattern)) if not found.is_symlink())
    old = hashlib.md5(file.read_bytes()).hexdigest()
    file.write_bytes(file.read_bytes() + b"# changed by a test\n")
    content = file.read_bytes()
    sums = work / "DEBIAN/md5sums"
    sums.write_text(sums.read_text().replace(old, hashlib.md5(content).hexdigest()))
    version = entry["version"] + SUFFIX
    control = work / "DEBIAN/control"
    control.write_text(re.sub(r"^Version: .*$", f"Version: {version}", control.read_text(), flags=re.MULTILINE))
    deb = f"{name}_{version.replace(':', '%3a')}_{entry['architecture']}.deb"
    run(tools_command(paths, ["dpkg-deb", "-Znone", "-b", work, pool(paths) / deb]), timeout_s=120)
    digest = hashlib.sha256((pool(paths) / deb).read_bytes()).hexdigest()
    fields = {"Version": version, "Size": str((pool(paths) / deb).stat().st_size), "SHA256": digest, "Filename": f"./{deb}"}
    stanza = re.sub(r"^MD5sum: .*\n", "", entry["stanza"], flags=re.MULTILINE)
    for key, value in fields.items():
        stanza = re.sub(rf"^{key}: .*$", f"{key}: {value}", stanza, flags=re.MULTILINE)
    entry |= {"version": version, "sha256": digest, "size_bytes": int(fields["Size"]), "file": deb, "stanza": stanza}
    lock_file.write_text(json.dumps(lock))
    inside = str(file.relative_to(work))
    shutil.rmtree(work)
    return Changed(name=name, version=version, path=inside, content=content)
