"""What is read of dpkg, apt and dkms, and the document of a recording."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.tree import Link, make_root

from bedplate.errors import ReadError
from bedplate.host.record.redact import Redactor
from bedplate.host.record.trim import trim
from bedplate.host.stack.apt import parse_pins, read_releases, read_sources
from bedplate.host.stack.dkms import parse_log_error, parse_log_release, read_dkms
from bedplate.host.stack.document import DOCUMENT, DeepFacts, parse_deep, render_deep
from bedplate.host.stack.dpkg import parse_status, read_interrupted, read_packages, shorten_status
from bedplate.model.facts.reading import Unknown, known, missing
from bedplate.model.facts.stack import (
    AptPin,
    DeviceCode,
    DkmsState,
    ModuleFile,
    PythonEnvironment,
    PythonPackage,
)

FIRMWARE = ("nvidia/550.163.01/gsp_ga10x.bin", "nvidia/550.163.01/gsp_tu10x.bin")

# As dpkg 1.22 writes it.
STATUS = """\
Package: adduser
Status: install ok installed
Priority: important
Section: admin
Installed-Size: 408
Maintainer: Debian Adduser Developers <adduser@packages.debian.org>
Architecture: all
Multi-Arch: foreign
Version: 3.152
Depends: passwd (>= 1:4.17.2-5)
Conffiles:
 /etc/adduser.conf b5bbd9fd3d4e0f0c4d0b5b3b0b6f8b0f
Description: add and remove users and groups
 This package includes the 'adduser' and 'deluser' commands.
 .
 Version: 9.9 is no field here.

Package: linux-image-amd64
Status: hold ok installed
Architecture: amd64
Source: linux-signed-amd64 (6.12.118+1)
Version: 6.12.118-1
Description: Linux for 64-bit PCs (meta-package)

Package: libcuda1
Status: install ok unpacked
Architecture: amd64
Version: 1:550.163.01-2
Config-Version: 535.261.03-1
Description: NVIDIA CUDA Driver Library

Package: somebody-elses-secret
Status: install reinstreq half-installed
Architecture: amd64
Version: 2
Description: x

Package: nvidia-smi
Status: deinstall ok config-files
Architecture: amd64
Version: 550.163.01-2
Description: x
"""


def test_packages_of_the_stack_and_unfinished_ones_are_read() -> None:
    packages = {package.name: package for package in parse_status(STATUS)}
    assert sorted(packages) == ["libcuda1", "linux-image-amd64", "nvidia-smi", "somebody-elses-secret"]
    assert packages["linux-image-amd64"].want == "hold"
    assert (packages["libcuda1"].state, packages["libcuda1"].upstream) == ("unpacked", "550.163.01")
    assert packages["somebody-elses-secret"].needs_reinstall
    assert not packages["nvidia-smi"].is_installed and not packages["somebody-elses-secret"].is_installed


def test_a_recording_of_the_status_reads_the_same_and_holds_nothing_else() -> None:
    short = shorten_status(STATUS)
    assert list(parse_status(short)) == list(parse_status(STATUS))
    assert "adduser" not in short and "Description" not in short
    assert trim("/var/lib/dpkg/status", STATUS.encode(), Redactor()).decode() == short


def test_a_status_that_is_not_there_is_no_empty_one(tmp_path: Path) -> None:
    assert read_packages(make_root(tmp_path / "a", {})).unknown is Unknown.ABSENT
    assert read_packages(make_root(tmp_path / "b", {"/var/lib/dpkg/status": ""})).value == ()
    root = make_root(tmp_path / "c", {"/var/lib/dpkg/updates/0001": "", "/var/lib/dpkg/updates/tmp.i": ""})
    assert read_interrupted(root) == ("/var/lib/dpkg/updates/0001",)


STANZAS = """\
# written by the installer
Types: deb deb-src
URIs: http://archive.example/debian
Suites: trixie
 trixie-updates
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBFit2ioBEADhWpZ8

Types: deb
URIs: https://user:password@vendor.example/cuda/
Suites: /
Enabled: no

Types: deb-src
URIs: http://source.example/debian
Suites: trixie
"""

LINES = """\
# deb http://commented.example/debian trixie main
deb [arch=amd64 signed-by=/x.gpg] http://one.example/debian trixie main contrib
deb-src http://one.example/debian trixie main
deb file:/srv/mirror trixie main
# deb https://off.example/cuda / # disabled on upgrade to trixie
"""


def test_sources_are_read_in_both_forms(tmp_path: Path) -> None:
    root = make_root(
        tmp_path,
        {
            "/etc/apt/sources.list": LINES,
            "/etc/apt/sources.list.d/debian.sources": STANZAS,
            "/etc/apt/sources.list.d/old.list.distUpgrade": "deb http://old.example/ x",
        },
    )
    sources = read_sources(root).value or ()
    assert [(source.uri, source.suite, source.enabled, source.directory) for source in sources] == [
        ("http://one.example/debian", "trixie", True, None),
        ("file:/srv/mirror", "trixie", True, False),
        ("https://off.example/cuda", "/", False, None),
        ("http://archive.example/debian", "trixie", True, None),
        ("http://archive.example/debian", "trixie-updates", True, None),
        ("https://user:password@vendor.example/cuda/", "/", False, None),
    ]
    (tmp_path / "srv/mirror").mkdir(parents=True)
    assert [source.directory for source in read_sources(root).value or ()][1] is True


def test_sources_that_cannot_all_be_read_are_not_known(tmp_path: Path) -> None:
    assert read_sources(make_root(tmp_path / "a", {})).unknown is Unknown.ABSENT
    partly = make_root(tmp_path / "b", {"/etc/apt/sources.list": LINES}, absent=Unknown.NOT_RECORDED)
    assert read_sources(partly).unknown is Unknown.NOT_RECORDED
    root = make_root(tmp_path / "c", {"/etc/apt/sources.list": LINES, "/etc/apt/sources.list.d/a.list/x": ""})
    assert read_sources(root).unknown is Unknown.MALFORMED


def test_recorded_sources_hold_no_host_no_password_and_no_key(tmp_path: Path) -> None:
    redactor = Redactor()
    kept = trim("/etc/apt/sources.list.d/debian.sources", STANZAS.encode(), redactor).decode()
    pins = trim("/etc/apt/preferences.d/x", b'# why\nPackage: *\nPin: origin "vendor.example"\n', redactor).decode()
    assert "example" not in kept and "password" not in kept and "PGP" not in kept and "installer" not in kept
    host = kept.partition("@")[2].partition("/")[0] or kept.rpartition("://")[2].partition("/")[0]
    assert " trixie-updates" in kept
    assert f'origin "{host}"' in pins.replace("host-", "host-"), (kept, pins)
    assert "why" not in pins


def test_pins_are_read_and_what_is_none_is_left_out() -> None:
    text = (
        "Explanation: x\nPackage: nvidia-* libcuda1\nPin: release o=Debian,n=trixie-backports\nPin-Priority: 600\n\n"
        'Package: *\nPin: origin ""\nPin-Priority: -1\n\nPackage: x\nPin: version 1.*\n\nPin: nothing\n'
    )
    assert list(parse_pins(text, "/p")) == [
        AptPin(
            file="/p",
            package="nvidia-* libcuda1",
            kind="release",
            value="o=Debian,n=trixie-backports",
            priority=600,
        ),
        AptPin(file="/p", package="*", kind="origin", value='""', priority=-1),
    ]


def test_heads_of_release_files_are_read(tmp_path: Path) -> None:
    head = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n"
    signed = head + "Origin: Debian\nLabel: Debian\nSuite: stable\nCodename: trixie\n"
    root = make_root(
        tmp_path, {"/var/lib/apt/lists/a_InRelease": signed + "MD5Sum:\n Suite: no\n", "/var/lib/apt/lists/lock": ""}
    )
    (release,) = read_releases(root)
    assert (release.origin, release.suite, release.codename) == ("Debian", "stable", "trixie")


def dkms_tree(**builds: str) -> dict[str, str | bytes | Link]:
    top = "/var/lib/dkms/nvidia-current/550.163.01"
    entries: dict[str, str | bytes | Link] = {f"{top}/source/dkms.conf": ""}
    for release, state in builds.items():
        release = release.replace("_", ".")
        if state != "failed":
            entries[f"{top}/{release}/x86_64/module/nvidia-current.ko.xz"] = ""
        entries[f"{top}/{release}/x86_64/log/make.log"] = ""
        if state == "installed":
            entries[f"/var/lib/dkms/nvidia-current/kernel-{release}-x86_64"] = Link(f"550.163.01/{release}/x86_64")
    return entries


def test_what_dkms_built_is_read_as_dkms_status_says_it(tmp_path: Path) -> None:
    entries = dkms_tree(**{"6_1": "installed", "6_2": "built", "6_3": "failed"})
    entries["/var/lib/dkms/nvidia-current/550.163.01/build/make.log"] = (
        "DKMS make.log for nvidia-current-550.163.01 for kernel 6.12.118+deb13-amd64 (x86_64)"
    )
    entries["/var/lib/dkms/mok.key"] = "secret"
    (module,) = read_dkms(make_root(tmp_path, entries)).value or ()
    assert module.versions == ("550.163.01",)
    assert [(build.release, build.state) for build in module.builds] == [
        ("6.1", DkmsState.INSTALLED),
        ("6.2", DkmsState.BUILT),
        ("6.3", DkmsState.FAILED),
        ("6.12.118+deb13-amd64", DkmsState.FAILED),
    ]
    assert parse_log_release("make: nothing") == ""


LOG = """\
DKMS make.log for nvidia-current-open-550.163.01 for kernel 6.12.118+deb13-amd64 (x86_64)
Sat Nov 28 10:11:12 UTC 2026
/build/nvidia/nv.c:10:2: warning: an error: would follow [-Werror=x]
/build/nvidia/nv-pci.c:237:9: error: too few arguments to function 'pci_resize_resource'
  237 |     r = pci_resize_resource(pci_dev, NV_GPU_BAR1, requested_size);
make[3]: *** [/usr/src/linux-headers-6.12/scripts/Makefile.build:229: nv-pci.o] Error 1
"""


def test_a_failed_build_says_why() -> None:
    error = "/build/nvidia/nv-pci.c:237:9: error: too few arguments to function 'pci_resize_resource'"
    assert parse_log_error(LOG) == error
    assert parse_log_error("make[1]: *** No rule to make target 'modules'.  Stop.\n").startswith("make[1]: ***")
    assert parse_log_error("no errors: none\n") == ""
    short = trim("/var/lib/dkms/a/1/build/make.log", LOG.encode(), Redactor()).decode()
    assert (parse_log_release(short), parse_log_error(short)) == (parse_log_release(LOG), error)
    assert short.count("\n") == 2


DEEP = DeepFacts(
    module_files=(
        ModuleFile(
            path="/lib/modules/6.12/nvidia.ko",
            release="6.12",
            name="nvidia",
            version=known("550.163.01", "/lib/modules/6.12/nvidia.ko"),
            vermagic=missing(Unknown.ABSENT, "/x"),
            firmware=FIRMWARE,
            firmware_missing=None,
        ),
    ),
    environments=(
        PythonEnvironment(
            path="/home/alice/venv",
            is_virtual=True,
            interpreter=known("/usr/bin/python3.13", "/home/alice/venv/bin/python"),
            packages=(PythonPackage(name="torch", version="2.10.0", path="/home/alice/venv/lib/t.dist-info"),),
            leftovers=(),
            torch=None,
            requirements=(),
            code=(DeviceCode(path="/x", architectures=("sm_80",), intermediate=()),),
        ),
    ),
    denied=("/root",),
)


def test_the_document_holds_the_facts_and_no_name() -> None:
    assert parse_deep(render_deep(DEEP)) == DEEP
    text = trim(DOCUMENT, render_deep(DEEP).encode(), Redactor(users=("alice",))).decode()
    assert "alice" not in text
    assert parse_deep(text).environments[0].path == "/home/user-1/venv"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("bedplate-stack/1", "bedplate-stack/2"),
        ('"is_virtual": true', '"is_virtual": "yes"'),
        ('"torch": null', '"torch": 5'),
        ('"release"', '"releaze"'),
        ('"unknown": "absent"', '"unknown": "perhaps"'),
        ('"denied": [', '"denied": [{}, '),
    ],
)
def test_a_document_of_another_shape_is_refused(old: str, new: str) -> None:
    text = render_deep(DEEP)
    assert old in text
    with pytest.raises(ReadError):
        parse_deep(text.replace(old, new))


def test_packages_without_which_a_system_does_not_run_are_read() -> None:
    """dpkg writes Essential and Protected between the name and the status; lib/dpkg/parse.c, fieldinfos."""
    text = (
        "Package: libc-bin\nEssential: yes\nStatus: install ok half-configured\nVersion: 2.41-12\n\n"
        "Package: init\nProtected: yes\nStatus: install ok unpacked\nArchitecture: amd64\nVersion: 1.69\n"
    )
    assert [(package.name, package.version) for package in parse_status(text)] == [("libc-bin", "2.41-12"), ("init", "1.69")]
    assert list(parse_status(shorten_status(text)))[1] == list(parse_status(text))[1]
