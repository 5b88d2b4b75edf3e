"""Which kernel the next boot starts, where that can be told without asking a boot loader.

In this order: what GRUB is told to boot by name, the entries of the Boot Loader Specification, the newest /boot/vmlinuz-*
(what GRUB's generated menu starts), the links that Debian keeps, the newest of /lib/modules. A one-time choice
(grub-reboot, bootctl set-oneshot) and Secure Boot's refusals are not seen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from bedplate.host.root.root import Root
from bedplate.model.facts.reading import Reading, Unknown, known, missing
from bedplate.model.versions import version_key

_ENTRIES = 256  # loader entries that are read
_IN_A_NAME = re.compile(r"(?:with Linux |vmlinuz-|^|-)(?P<release>[0-9]{1,9}\.[0-9]{1,9}[\w.+~-]{0,120})$")


def read_next_release(root: Root, installed: Sequence[str]) -> Reading[str]:
    """The release and the file that says so; ABSENT where neither a kernel nor modules are to be seen (a container)."""
    named = _by_grub(root)
    if named is not None:
        return named
    entries = _by_entries(root)
    if entries is not None:
        return entries
    files = [name.removeprefix("vmlinuz-") for name in root.listdir("/boot") if re.match(r"vmlinuz-[0-9]", name)]
    if files:
        return known(max(files, key=version_key), "/boot", "newest vmlinuz-*")
    for where in ("/vmlinuz", "/boot/vmlinuz"):
        release = (root.readlink(where) or "").rpartition("vmlinuz-")[2]
        if re.match(r"[0-9]", release):
            return known(release, where)
    if installed:
        return known(installed[-1], "/lib/modules", "newest that is installed")
    return missing(root.names("/boot").unknown or root.names("/lib/modules").unknown or Unknown.ABSENT, "/boot")


def _by_grub(root: Root) -> Reading[str] | None:
    """GRUB_DEFAULT or the saved entry, where it names a release."""
    where = "/etc/default/grub"
    found = re.search(r"^[ \t]*GRUB_DEFAULT=(.*)$", root.read(where).value or "", re.MULTILINE)
    choice = found[1].strip().strip("\"'") if found is not None else ""
    if choice == "saved":
        for where in ("/boot/grub2/grubenv", "/boot/grub/grubenv"):
            found = re.search(r"^saved_entry=(.*)$", root.read(where).value or "", re.MULTILINE)
            if found is not None:
                choice = found[1].strip()
                break
    release = _IN_A_NAME.search(choice)
    return known(release["release"], where, choice) if release is not None else None


def _by_entries(root: Root) -> Reading[str] | None:
    """The newest of the loader's entries; one for rescue is none."""
    releases: dict[str, str] = {}
    for directory in ("/boot/loader/entries", "/efi/loader/entries", "/boot/efi/loader/entries"):
        for name in root.listdir(directory)[:_ENTRIES]:
            if not name.endswith(".conf") or "rescue" in name:
                continue
            text = root.read(f"{directory}/{name}").value or ""
            found = re.search(r"^version\s+(\S+)", text, re.MULTILINE) or re.search(
                r"^linux\s+\S*?vmlinuz-(\S+)", text, re.MULTILINE
            )
            if found is not None:
                releases[found[1]] = f"{directory}/{name}"
    if not releases:
        return None
    newest = max(releases, key=version_key)
    return known(newest, releases[newest])
