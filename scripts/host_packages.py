"""Print the packages that this host lacks to build images and to boot them in every way, one a line.

The rules are those by which `bedplate up` judges the host (plan/rules/needs.py).
"""

from __future__ import annotations

import sys

from bedplate.act.run import search_path
from bedplate.host.root.root import Root
from bedplate.host.system.buildhost import read_build_host
from bedplate.model.buildhost import Wishes
from bedplate.plan.rules.needs import FILES, GUEST_SMALLEST_BYTES, PROGRAMS, BuildRequest, missing_packages

EVERYTHING = Wishes(build=True, guest_memory_bytes=GUEST_SMALLEST_BYTES, secure_boot=True, uefi=True, tpm=True, mirror=None)


def main() -> None:
    """Nothing where it has all, and for a distribution whose package names are not known."""
    host = read_build_host(root=Root(), directories=(), programs=PROGRAMS, files=FILES, search_path=search_path())
    for package in missing_packages(BuildRequest(host=host, wishes=EVERYTHING)):
        sys.stdout.write(f"{package}\n")


if __name__ == "__main__":
    main()
