"""What a tree holds is compared with its lock by versions, by lists of checksums and by files; each difference is named."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from bedplate.errors import BuildError
from bedplate.image.contents import (
    Contents,
    find_changed_files,
    find_differences,
    parse_checksums,
    parse_status,
    parse_verify,
    verify_contents,
)
from bedplate.image.packages import Lock, Package

STATUS = """\
Package: openssl
Status: install ok installed
Maintainer: Debian
Architecture: amd64
Version: 3.5.1-1
Description: Secure Sockets Layer
 Version: of no package

Package: apt
Status: deinstall ok config-files
Architecture: amd64
Version: 3.0.3

Package: adduser
Status: install ok installed
Architecture: all
Version: 3.152
"""
HELD = (
    Contents(name="adduser", version="3.152", architecture="all", checksums="0a  usr/sbin/adduser\n"),
    Contents(name="openssl", version="3.5.1-1", architecture="amd64", checksums="0b  usr/bin/openssl\n"),
)


def locked(contents: Contents) -> Package:
    return Package(
        name=contents.name,
        version=contents.version,
        architecture=contents.architecture,
        sha256="0" * 64,
        size_bytes=1,
        file=f"{contents.name}.deb",
        stanza="",
    )


LOCK = Lock(request="", suite="trixie", packages=tuple(locked(package) for package in HELD))


def test_the_status_file_names_what_is_installed() -> None:
    assert parse_status(STATUS) == tuple(replace(package, checksums="") for package in HELD)


def test_a_half_installed_package_is_refused() -> None:
    with pytest.raises(BuildError, match=r"half installed: openssl \(half-configured\)"):
        parse_status(STATUS.replace("install ok installed", "install ok half-configured", 1))


def test_checksums_are_by_package_without_its_architecture() -> None:
    text = "== libc6:amd64\n0a  usr/lib/libc.so.6\n0b  usr/lib/libm.so.6\n== openssl\n0c  usr/bin/openssl\n"
    assert parse_checksums(text) == {
        "libc6": "0a  usr/lib/libc.so.6\n0b  usr/lib/libm.so.6\n",
        "openssl": "0c  usr/bin/openssl\n",
    }


def test_verify_complains_of_what_is_not_meant() -> None:
    text = (
        "missing     /usr/share/doc/openssl/changelog.gz\n"
        "missing     /usr/share/man/man1\n"
        "missing     /usr/share/documents\n"
        "??5??????   /etc/ours.conf\n"
        "??5?????? c /etc/of-a-script.conf\n"
        "missing   c /etc/gone.conf\n"
        "??5??????   /usr/bin/openssl\n"
        "??5??????   /usr/share/doc/openssl/README\n"
    )
    assert parse_verify(text, ours={"etc/ours.conf"}) == (
        "/usr/share/documents (missing)",
        "/etc/gone.conf (missing)",
        "/usr/bin/openssl (changed)",
        "/usr/share/doc/openssl/README (changed)",
    )


def test_agreement_has_no_differences() -> None:
    assert find_differences(LOCK, HELD, HELD) == ()


@pytest.mark.parametrize(
    ("held", "told"),
    [
        (HELD[:1], "openssl: missing, the lock has 3.5.1-1"),
        (
            (*HELD, replace(HELD[0], name="perl", version="5.40")),
            "perl: 5.40 is installed, the lock has no such package",
        ),
        (
            (HELD[0], replace(HELD[1], version="3.5.0-1")),
            "openssl: 3.5.0-1 (amd64) is installed, the lock has 3.5.1-1 (amd64)",
        ),
        (
            (HELD[0], replace(HELD[1], checksums="0c  usr/bin/openssl\n")),
            "openssl: 3.5.1-1 is installed, but from another .deb than the one in the lock",
        ),
    ],
)
def test_each_difference_names_package_and_both_versions(held: tuple[Contents, ...], told: str) -> None:
    assert find_differences(LOCK, held, HELD) == (told,)


def test_files_that_are_gone_or_changed_are_found(tmp_path: Path) -> None:
    for name in ("same", "other", "gone"):
        (tmp_path / name).write_text(name)
    sums = "".join(f"{hashlib.md5(name.encode()).hexdigest()}  {name}\n" for name in ("same", "other", "gone"))
    package = replace(HELD[0], checksums=sums)
    assert find_changed_files(tmp_path, [package]) == ()
    (tmp_path / "other").write_text("changed")
    (tmp_path / "gone").unlink()
    assert find_changed_files(tmp_path, [package]) == ("/other (changed)", "/gone (missing)")


def test_a_difference_fails_the_build_and_many_are_counted() -> None:
    verify_contents("the root", (), hint="")
    with pytest.raises(BuildError, match=r"^the root does not match the package lock: p0; .*; p9 and 2 more$"):
        verify_contents("the root", [f"p{index}" for index in range(12)], hint="")
