from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.host.root.root import Root
from bedplate.host.system.mirror import read_debian_mirror
from bedplate.model.buildhost import Mirror

DEB822 = """\
# made by the installer
Types: deb deb-src
URIs: http://mirror.example/debian/
Suites: bookworm bookworm-updates
Components: main non-free-firmware
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""
BOTH = Mirror(main="http://mirror.example/debian", security="http://mirror.example/debian-security")
NONE = Mirror(main=None, security=None)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, NONE),
        ({"sources.list.d/debian.sources": DEB822}, BOTH),
        (
            {
                "sources.list": "deb http://mirror.example/debian trixie main contrib # comment\n"
                "deb [arch=amd64] http://mirror.example/debian-security trixie-security main\n"
            },
            BOTH,
        ),
        ({"sources.list.d/debian.sources": DEB822.replace("Types: deb\n", "Enabled: no\nTypes: deb\n")},
         Mirror(main="http://mirror.example/debian", security=None)),
        ({"sources.list": "deb cdrom:[Debian 13]/ trixie main\n"}, NONE),
        ({"sources.list": "# deb http://mirror.example/debian trixie main\n"}, NONE),
        ({"sources.list": "deb-src http://mirror.example/debian trixie main\n"}, NONE),
        ({"sources.list": "deb http://third.example/apt trixie stable\n"}, NONE),
        ({"sources.list": "deb [signed-by=/etc/apt/keyrings/third.gpg] http://third.example/debian trixie main\n"}, NONE),
        ({"sources.list": "deb http://mirror.example/ubuntu noble main universe\n"}, NONE),
        ({"sources.list.d/notes.txt": "deb http://mirror.example/debian trixie main\n"}, NONE),
        (
            {
                "sources.list.d/inline.sources": "Types: deb\nURIs: http://third.example/debian\nSuites: trixie\n"
                "Components: main\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n"
            },
            NONE,
        ),
        (
            {"sources.list": "", "sources.list.d/a.list": "deb https://first.example/debian/ stable main\n",
             "sources.list.d/b.list": "deb https://second.example/debian stable main\n"},
            Mirror(main="https://first.example/debian", security=None),
        ),
    ],
)  # fmt: skip
def test_mirror_of_a_host(tmp_path: Path, files: dict[str, str], expected: Mirror) -> None:
    for name, text in files.items():
        file = tmp_path / "etc/apt" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert read_debian_mirror(Root(tmp_path)) == expected
