"""Ask a Debian mirror for one small file before a build relies on it: within a bound, and with apt's reason when it fails.

apt's timeouts bound a silent mirror for each of a dozen files and tries, and a mirror that sends a byte now and then not at
all; its reason stands far above the last line of what mmdebstrap prints. The question is put by apt's own helper, so that
proxies of the environment and certificates are what they are for the build.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from bedplate.act.run import run
from bedplate.errors import BuildError, CommandError
from bedplate.model.progress import Progress

HINT = "Check the network, or set BEDPLATE_MIRROR to another mirror of Debian; what was downloaded is kept."
TIMEOUT_S = 20.0  # seconds without a byte, for apt; the question may take three times as long in all
_HELPER = Path("/usr/lib/apt/apt-helper")  # package apt, which mmdebstrap needs
_SIGNED = b"-----BEGIN PGP SIGNED MESSAGE-----"
_RATE_KIB = 4096  # a second: the file has 150 KiB, and a mirror without end must not fill the disk


def check_mirror(mirror: str, suite: str, progress: Progress, *, timeout_s: float = TIMEOUT_S) -> None:
    """Raise BuildError naming the mirror and the reason when it does not give the suite's signed list of files in time.

    Only http and https mirrors are asked; nothing is asked where apt's helper is not there.
    """
    if not mirror.startswith(("http://", "https://")) or not _HELPER.is_file():
        return
    name = f"{mirror.rstrip('/')}/dists/{suite}/InRelease"
    progress.note(f"check the mirror {mirror}")
    with tempfile.TemporaryDirectory(prefix="bedplate-mirror-") as directory:
        configuration, target = Path(directory) / "apt.conf", Path(directory) / "InRelease"
        configuration.write_text(render_configuration(timeout_s))
        try:
            run([_HELPER, "download-file", name, target], timeout_s=3 * timeout_s, env={"APT_CONFIG": str(configuration)})
            begin = target.read_bytes()[: len(_SIGNED)]
        except CommandError as error:
            reason = find_reason(error.tail) if error.status is not None else f"no complete answer in {3 * timeout_s:.0f} s"
            raise BuildError(f"the mirror {mirror} cannot be used: {reason or error.message}", hint=HINT) from error
    if begin != _SIGNED:
        raise BuildError(
            f"the mirror {mirror} cannot be used: dists/{suite}/InRelease begins with {begin!r}, unlike any archive's",
            hint=f"A login page of the network may have answered instead. {HINT}",
        )


def render_configuration(timeout_s: float) -> str:
    """apt.conf(5) for one question: nothing of the host's apt, which mmdebstrap does not read either."""
    lines = [
        'Dir::Etc::Parts "/dev/null";',
        'Dir::Etc::Main "/dev/null";',
        'Acquire::Retries "0";',
        'APT::Sandbox::User "root";',
    ]
    for scheme in ("http", "https"):
        lines += [f'Acquire::{scheme}::Timeout "{max(1, round(timeout_s))}";', f'Acquire::{scheme}::Dl-Limit "{_RATE_KIB}";']
    return "\n".join(lines) + "\n"


def find_reason(output: str) -> str:
    """What apt says of the first file that failed, or "" when it says nothing of one.

    "E: Failed to fetch http://m/dists/trixie/InRelease  404  Not Found [IP: ::1 80]" -> "404 Not Found [IP: ::1 80]"; lines
    of `Err:` carry the reason in the line below.
    """
    found = re.search(r"^[EW]: Failed to fetch \S+\s+(\S.*)$", output, re.MULTILINE)
    found = found or re.search(r"^Err:\d+ .*\n\s+(\S.*)$", output, re.MULTILINE)
    return " ".join(found[1].split()) if found else ""
