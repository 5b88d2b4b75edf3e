"""Recipe -> the files that mkosi reads. Pure text; what each setting is for stands beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bedplate.host.system.var import LABEL as VAR_LABEL
from bedplate.image.keys import Keys
from bedplate.image.recipe import Recipe

# Partition types and labels of one slot, in the order they stand on the disk.
_SLOT = ("root-verity-sig", "root-verity", "root")

Setting = str | tuple[str, ...] | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where a build finds its inputs and leaves its results; everything mkosi sees lies under `work`."""

    work: Path
    tools: Path
    base: Path
    """Where mkosi keeps the root with nothing but packages in it, and the package index: `image/base.py`."""
    initrd: Path
    trees: tuple[Path, ...]
    """Copied over the root in this order."""
    image_version: str
    seed: str
    """A UUID that all partition UUIDs and file system ids are derived from."""
    keys: Keys
    repository: Path
    """The flat package repository of exactly the locked files."""
    kernel_release: str
    incremental: bool


def _ini(sections: dict[str, dict[str, Setting]]) -> str:
    lines: list[str] = []
    for section, settings in sections.items():
        lines.append(f"[{section}]")
        for key, value in settings.items():
            if isinstance(value, bool):
                value = "yes" if value else "no"
            if isinstance(value, tuple):
                value = "".join(f"\n        {item}" for item in value)
            lines.append(f"{key}={value}")
        lines.append("")
    return "\n".join(lines)


def render_base_settings(recipe: Recipe, *, kernel_release: str) -> dict[str, dict[str, Setting]]:
    """The settings that decide what the installed packages are, by section: part of mkosi.conf and of the base's key."""
    return {
        "Distribution": {"Distribution": "debian", "Release": recipe.suite},
        "Build": {"Environment": f"SOURCE_DATE_EPOCH={recipe.source_date_epoch}"},
        "Content": {
            "SourceDateEpoch": str(recipe.source_date_epoch),
            "WithDocs": False,
            "Packages": (*recipe.packages, f"linux-binary-{kernel_release}", f"linux-modules-{kernel_release}"),
        },
    }


def render_mkosi(recipe: Recipe, layout: Layout) -> str:
    """Text of mkosi.conf for the operating system image (mkosi(1)); equal inputs give equal text."""
    keys = layout.keys
    base = render_base_settings(recipe, kernel_release=layout.kernel_release)
    return _ini(
        {
            "Distribution": {
                **base["Distribution"],
                "LocalMirror": f"file://{layout.repository}",
            },
            "Output": {
                "Format": "disk",
                "ImageId": recipe.id,
                "ImageVersion": layout.image_version,
                "OutputDirectory": str(layout.work / "output"),
                "SplitArtifacts": ("uki", "kernel", "initrd"),
                "Seed": layout.seed,
                "ManifestFormat": "",
                "RepartDirectories": str(layout.work / "repart"),
            },
            "Build": {
                **base["Build"],
                "ToolsTree": str(layout.tools),
                "CacheDirectory": str(layout.base / "tree"),
                "PackageCacheDirectory": str(layout.base / "packages"),
                "WorkspaceDirectory": str(layout.work / "workspace"),
                "BuildSources": "",
                "Incremental": layout.incremental,
                "WithNetwork": False,
                "History": False,
                "SandboxTrees": str(layout.work / "sandbox"),
            },
            "Content": {
                **base["Content"],
                "Bootable": True,
                "Bootloader": "systemd-boot",
                "BiosBootloader": "none",
                "ShimBootloader": "none",
                "UnifiedKernelImages": True,
                "Initrds": str(layout.initrd),
                "KernelModulesInitrd": False,
                "CleanPackageMetadata": True,
                "Locale": "C.UTF-8",
                "Hostname": recipe.hostname,
                "RootShell": "/bin/sh",
                "ExtraTrees": tuple(str(tree) for tree in layout.trees),
                "RemoveFiles": recipe.remove,
                "PostInstallationScripts": str(layout.work / "postinst"),
                "FinalizeScripts": str(layout.work / "finalize"),
                "KernelCommandLine": recipe.command_line,
            },
            "Validation": {
                "SecureBoot": True,
                "SecureBootAutoEnroll": True,
                "SecureBootKey": str(keys.owner_key),
                "SecureBootCertificate": str(keys.owner_certificate),
                "Verity": True,
                "VerityKey": str(keys.owner_key),
                "VerityCertificate": str(keys.owner_certificate),
                "SignExpectedPcr": True,
                "SignExpectedPcrKey": str(keys.pcr_key),
                "SignExpectedPcrCertificate": str(keys.pcr_certificate),
            },
        }
    )


def render_sources(repository: Path) -> str:
    """The only apt source that a build sees. Trusted: every file of it was checked against the lock."""
    return f"Types: deb\nURIs: file://{repository}\nSuites: ./\nTrusted: yes\n"


def render_build_partitions(recipe: Recipe, layout: Layout) -> dict[str, str]:
    """File name -> repart.d(5) definition of the disk as it is built: the ESP and the first slot."""
    slots = recipe.slots
    compressed = (
        f"Compression={recipe.compression}\nCompressionLevel={recipe.compression_level}\n" if recipe.compression else ""
    )
    return {
        "00-esp.conf": "[Partition]\nType=esp\nFormat=vfat\nCopyFiles=/boot:/\nCopyFiles=/efi:/\n"
        + _fixed(f"{slots.esp_mib}M"),
        "10-root-verity-sig.conf": (
            "[Partition]\nType=root-verity-sig\nLabel=%M_%A_sig\nVerity=signature\nVerityMatchKey=root\n"
        ),
        "11-root-verity.conf": (
            "[Partition]\nType=root-verity\nLabel=%M_%A_verity\nVerity=hash\nVerityMatchKey=root\n"
            + _fixed(f"{slots.verity_mib}M")
        ),
        "12-root.conf": (
            f"[Partition]\nType=root\nLabel=%M_%A\nFormat=erofs\n{compressed}CopyFiles=/\n"
            # The machine boots the kernel from the ESP; the copy here is only what the UKI is made from.
            f"ExcludeFiles=/usr/lib/modules/{layout.kernel_release}/vmlinuz\nExcludeFilesTarget=/boot/\nExcludeFilesTarget=/efi/\n"
            f"Verity=data\nVerityMatchKey=root\n{_fixed(f'{slots.root_mib}M')}"
        ),
    }


def render_boot_partitions(recipe: Recipe) -> dict[str, str]:
    """repart definitions inside the image: what the first boot adds, the second slot and an encrypted /var."""
    sizes = {"root-verity-sig": "16K", "root-verity": f"{recipe.slots.verity_mib}M", "root": f"{recipe.slots.root_mib}M"}
    files = {"00-esp.conf": "[Partition]\nType=esp\n"}
    for slot, tens in (("a", 10), ("b", 20)):
        for index, kind in enumerate(_SLOT):
            files[f"{tens + index}-{kind}-{slot}.conf"] = f"[Partition]\nType={kind}\nLabel=_empty\n{_fixed(sizes[kind])}"
    files["40-var.conf"] = (
        f"[Partition]\nType=var\nLabel={VAR_LABEL}\nFormat=ext4\nEncrypt=tpm2\nFactoryReset=yes\nSizeMinBytes=512M\n"
    )
    return files


def render_postinst() -> str:
    """The script that notes which packages the root holds while dpkg's records are in it, for `image/contents.py`."""
    return """\
#!/bin/sh
# Runs in the tools tree, before anything is removed. mkosi puts a dpkg before ours on PATH that runs in the root.
set -eu
cd "$BUILDROOT/var/lib/dpkg"
cp status "$OUTPUTDIR/root.status"
for file in info/*.md5sums; do
    name=${file##*/}
    echo "== ${name%.md5sums}"
    cat "$file"
done >"$OUTPUTDIR/root.checksums"
/usr/bin/dpkg --root="$BUILDROOT" --verify >"$OUTPUTDIR/root.verify"
"""


def render_finalize(recipe: Recipe) -> str:
    """The last script over the root: what no package may leave and what must not differ between two builds."""
    return f"""\
#!/bin/sh
# Runs in the tools tree, whose Python is the image's own version.
set -eu
cd "$BUILDROOT"
rm -rf var/* run/* tmp/* etc/machine-id   # /var is another file system; tmpfiles.d fills it
rm -f etc/resolv.conf etc/ld.so.cache.old usr/lib/udev/hwdb.bin etc/udev/hwdb.bin
ln -s ../run/systemd/resolve/stub-resolv.conf etc/resolv.conf
# Names and time are not needed to serve: they start beside it, not before the first unit.
sed -i -E '/^(Before|WantedBy)=/s/ ?sysinit[.]target//; s/^WantedBy=$/WantedBy=multi-user.target/' \
    usr/lib/systemd/system/systemd-resolved.service usr/lib/systemd/system/systemd-timesyncd.service
# Without /var what needs none goes on: basic.target would take everything behind it along.
sed -i 's/^RequiresMountsFor=/WantsMountsFor=/' usr/lib/systemd/system/basic.target
for unit in resolved timesyncd; do
    rm -f "etc/systemd/system/sysinit.target.wants/systemd-$unit.service"
    ln -sf "../systemd-$unit.service" "usr/lib/systemd/system/multi-user.target.wants/systemd-$unit.service"
done
: >etc/machine-id   # the initrd writes the machine's own into the overlay
mkdir -p efi boot var/tmp var/lib var/log var/cache
chmod 1777 var/tmp
# Nobody logs in, so that nobody changes to another user.
find . -xdev -type f -perm /6000 -exec chmod ug-s {{}} +
# Byte code that is never checked against its source: the root is verified as a whole. Debian's own .pyc carry mtimes.
find usr/lib/python3 usr/lib/python3.[0-9]* -name __pycache__ -prune -exec rm -rf {{}} +
for directory in usr/lib/python3.[0-9]* usr/lib/python3 usr/lib/bedplate; do
    SOURCE_DATE_EPOCH={recipe.source_date_epoch} python3 -m compileall -q -j1 -o0 \\
        --invalidation-mode unchecked-hash -s "$BUILDROOT" -p / "$BUILDROOT/$directory" || true
done
"""


def _fixed(size: str) -> str:
    return f"SizeMinBytes={size}\nSizeMaxBytes={size}\n"
