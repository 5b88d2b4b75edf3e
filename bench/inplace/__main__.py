"""Boot an ordinary Debian 13 with bedplate on it, run a command there as root, and power it off; its status is ours.

python -m bench.inplace "bedplate doctor"
python -m bench.inplace --parallel --scratch-mb-per-s 200 "fio --version; stress-ng --cpu 2 --timeout 5"
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from bedplate.act.paths import find_paths
from bedplate.cli.terminal import terminal_progress
from bedplate.errors import BedplateError
from bedplate.model.units import MIB
from bench.inplace.guest import GuestOptions, running_guest


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.inplace", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("command", help="for the shell of the guest")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--memory-mib", type=int, default=2048)
    parser.add_argument("--parallel", action="store_true", help="a thread of this host for each CPU")
    parser.add_argument("--scratch-mb-per-s", type=int, help="limit of the scratch disk")
    parser.add_argument("--data", type=Path, help="raw image of an ext4 file system, mounted at /data")
    parser.add_argument("--wait-serving", action="store_true", help="run the command when llama-server answers")
    parser.add_argument("--timeout", type=float, default=600.0, metavar="SECONDS", help="of the command")
    arguments = parser.parse_args()
    limit = arguments.scratch_mb_per_s
    options = GuestOptions(
        cpus=arguments.cpus,
        memory_bytes=arguments.memory_mib * MIB,
        parallel=arguments.parallel,
        scratch_bytes_per_s=None if limit is None else limit * 1_000_000,
        data=arguments.data,
    )
    paths = find_paths()
    (paths.cache / "bench").mkdir(parents=True, exist_ok=True)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="guest-", dir=paths.cache / "bench") as directory,
            terminal_progress() as progress,
            running_guest(paths, progress, directory=Path(directory), options=options) as guest,
        ):
            if arguments.wait_serving:
                guest.wait_serving()
            answer = guest.run(arguments.command, timeout_s=arguments.timeout, ok=False)
            print(answer.output, end="")
            guest.power_off()
            return answer.status
    except BedplateError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
