"""python -m bench.stack_check [--rounds N] [--json]: how long `bedplate stack check` and `doctor` take on a large host.

The host is that of tests/stack, made larger: 2,000 packages in dpkg's status, 20 Python environments with PyTorch and vLLM
(2,000 pieces of GPU code each; half of the environments have one version, half another), and NVIDIA's module with its real
size (23 MB, packed with xz as dkms leaves it on Debian 13). A process for each run, from fork to end, with the start of the
interpreter; rounds are interleaved. Prints a table in Markdown.

The goals: 1 s for `stack check`, 0.5 s for `doctor`, on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from tests.stack.binaries import make_cuda_library, make_elf
from tests.stack.host import DKMS, DRIVER, SITE, StackHost, make_host

from bench.doctor import Command, measure_rounds, render_table

_PACKAGES, _ENVIRONMENTS, _PIECES = 2000, 20, 2000
_MODULE_BYTES = 23 << 20
_ROUNDS = 7
_STANZA = """\
Package: {name}
Status: install ok installed
Priority: optional
Section: libs
Installed-Size: 1234
Maintainer: Somebody <somebody@example.org>
Architecture: amd64
Multi-Arch: same
Source: something
Version: 1.2.3-4
Depends: libc6 (>= 2.38), libgcc-s1 (>= 3.0), libstdc++6 (>= 14), zlib1g (>= 1:1.2.11)
Conffiles:
 /etc/{name}.conf 0cc175b9c0f1b6a831c399e269772661
Description: a library that does something
 {words}
Homepage: https://something.example/

"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.stack_check", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=_ROUNDS, metavar="N", help=f"runs of each, interleaved ({_ROUNDS})")
    parser.add_argument("--json", action="store_true", help="print all samples")
    parser.add_argument("--make", metavar="DIR", type=Path, help="only write the large host below this directory")
    arguments = parser.parse_args()
    if arguments.make is not None:
        make_large_host(arguments.make)
        return 0
    with tempfile.TemporaryDirectory(prefix="bedplate-bench-") as directory:
        host = Path(directory) / "host"
        # Another process makes it, so that its memory does not stand for that of the runs.
        subprocess.run([sys.executable, "-m", "bench.stack_check", "--make", host], check=True)
        commands = list(plan(host))
        samples = measure_rounds(commands, arguments.rounds)
    if arguments.json:
        print(json.dumps([asdict(sample) for sample in samples], indent=1))
        return 0
    print("\n".join(render_table([command.what for command in commands], samples)))
    print(f"\n`python -m bench.stack_check`, {time.strftime('%Y-%m-%d', time.gmtime())}; {os.cpu_count()} CPUs,")
    print(f"Python {platform.python_version()}, load average {os.getloadavg()[0]:.1f}.")
    return 0


def plan(host: Path) -> list[Command]:
    """What is timed: both verbs on this machine and on the large host."""
    rows = [(("stack", "check"), "stack check"), (("doctor",), "doctor")]
    places = [((), "this machine"), (("--from", str(host)), "2,000 packages, 20 environments")]
    return [
        Command(what=f"{name}, {place}", argv=(sys.executable, "-m", "bedplate.cli.main", *verb, *source))
        for source, place in places
        for verb, name in rows
    ]


def make_large_host(top: Path) -> None:
    """The host below `top`."""
    host = make_host(top)
    status = host.at("/var/lib/dpkg/status")
    words = "which is described in a few words " * 20
    with status.open("a") as file:
        for number in range(_PACKAGES):
            file.write(_STANZA.format(name=f"libsomething{number}", words=words))
    libraries = [make_cuda_library((75, 80, 86, 90, 100, 120), ptx, pieces=_PIECES) for ptx in ((120,), ())]
    for number in range(_ENVIRONMENTS):
        _add_environment(host, f"/opt/engine-{number}", libraries[number % 2])
    for release in (host.running, host.following):
        packed = lzma.compress(_make_large_module(release), preset=1)
        host.write(f"/lib/modules/{release}/updates/dkms/{DKMS}.ko.xz", packed)


def _add_environment(host: StackHost, path: str, library: bytes) -> None:
    site = SITE.replace("/opt/vllm", path)
    host.write(f"{path}/pyvenv.cfg", "home = /usr/bin\n")
    host.link(f"{path}/bin/python", "/usr/bin/python3.13")
    for name in [f"package{number}" for number in range(150)]:
        host.write_wheel(name, "1.0", site=site)
    host.write_wheel("vllm", "0.19.1", "Requires-Dist: torch==2.10.0\n" + "Requires-Dist: x\n" * 500, site=site)
    host.write_wheel("torch", "2.10.0", site=site)
    host.write_torch("2.10.0+cu128", "12.8", site=site)
    for name in ("torch/lib/libtorch_cuda.so", "vllm/_C.abi3.so", "vllm/_moe_C.abi3.so"):
        host.write(f"{site}/{name}", library)


def _make_large_module(release: str) -> bytes:
    """Code that packs to a fifth, as that of the real module does, and its .modinfo behind it."""
    dice = random.Random(7)
    words = [dice.randbytes(8) for _ in range(4096)]
    code = b"".join(dice.choices(words, k=_MODULE_BYTES // 8))
    names = [f"nvidia/{DRIVER}/gsp_{family}.bin" for family in ("ga10x", "tu10x")]
    texts = [f"version={DRIVER}", *(f"firmware={name}" for name in names), f"vermagic={release} SMP "]
    return make_elf({".text": code, ".modinfo": b"".join(text.encode() + b"\0" for text in texts)})


if __name__ == "__main__":
    sys.exit(main())
