"""Which kernel the next boot starts, where that can be told without asking a boot loader.

In this order: what GRUB is told to boot by name, the entries of the Boot Loader Specification, the newest /boot/vmlinuz-*
(what GRUB's generated menu starts), the links that Debian keeps, the newest of /lib/modules. A one-time choice
(grub-reboot, bootctl set-oneshot) and Secure Boot's refusals are not seen. Where GRUB is told the number of an entry, it is
not known which kernel that is. Sources: GRUB's manual (GRUB_DEFAULT), grub-mkconfig and its 10_linux for the names of
entries and for the files that are no kernels.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from bedplate.host.root.root import Root
from bedplate.model.facts.reading import Reading, Unknown, known, missing
from bedplate.model.versions import version_key

_ENTRIES = 256  # loader entries that are read
# "Ubuntu, with Linux 6.8.0-90-generic (recovery mode)", "gnulinux-6.8.0-90-generic-advanced-UUID", "MACHINE-6.8.0"
_IN_A_NAME = re.compile(
    r"(?:with Linux |vmlinuz-|^|-)(?P<release>[0-9]{1,9}\.[0-9]{1,9}[\w.+~-]{0,120}?)"
    r"(?:-(?:advanced|recovery)-[^>]{0,200}| \(recovery mode\))?$"
)
_NUMBERED = re.compile(r"[0-9]{1,4}(?:>[0-9]{1,4}){0,3}")
_GRUB = "/etc/default/grub"
_GRUB_MORE = "/etc/default/grub.d"
_GRUB_FILES = 64
_KERNEL_FILE = re.compile(r"vmlinuz-(?P<release>[0-9][\w.+~-]{0,120})")
_NO_KERNEL = re.compile(r".{0,200}(?:\.dpkg-\w{1,20}|\.old|\.sig|\.rpmnew|\.rpmsave)")


def read_next_release(root: Root, installed: Sequence[str]) -> Reading[str]:
    """The release and the file that says so.

    ABSENT where neither a kernel nor modules are to be seen (a container), HIDDEN where GRUB is told a number of an entry.
    """
    named = _by_grub(root)
    if named is not None:
        return named
    entries = _by_entries(root)
    if entries is not None:
        return entries
    matches = (_KERNEL_FILE.fullmatch(name) for name in root.listdir("/boot") if _NO_KERNEL.fullmatch(name) is None)
    files = [match["release"] for match in matches if match is not None]
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
    """GRUB_DEFAULT or the saved entry, where it names a release, or an entry by its number; None where it does neither."""
    where, choice = _GRUB, ""
    more = [f"{_GRUB_MORE}/{name}" for name in root.listdir(_GRUB_MORE) if name.endswith(".cfg")]
    for file in [_GRUB, *more[:_GRUB_FILES]]:  # each is sourced after the other, so that the last one counts
        for found in re.finditer(r"^[ \t]*GRUB_DEFAULT=(.*)$", root.read(file).value or "", re.MULTILINE):
            where, choice = file, found[1].strip().strip("\"'")
    if choice == "saved":
        for where in ("/boot/grub2/grubenv", "/boot/grub/grubenv"):
            saved = re.search(r"^saved_entry=(.*)$", root.read(where).value or "", re.MULTILINE)
            if saved is not None:
                choice = saved[1].strip()
                break
    if _NUMBERED.fullmatch(choice) and choice != "0":
        return missing(Unknown.HIDDEN, where, f"GRUB boots its entry {choice}")
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
