"""An ordinary Debian 13 server as a virtual machine, on which bedplate is used in place: for tests and for measurements.

`python -m bench.inplace COMMAND` boots one, runs a command in it as root, and powers it off. In Python:

    from bench.inplace import GuestOptions, running_guest

    with running_guest(paths, progress, directory=tmp_path) as guest:
        guest.run("bedplate tune plan --json", timeout_s=120).output
        guest.run("stress-ng --cpu 2 --timeout 10", timeout_s=60)

The image is built once for its inputs (about three minutes) into the cache; each guest has an overlay of its own over it.
The checkout's `src/bedplate` is packed when a guest starts and unpacked in it, so that sources change without a rebuild.
"""

from bedplate.image.console import ConsoleResult
from bench.inplace.guest import Guest, GuestOptions, running_guest
from bench.inplace.image import build_inplace

__all__ = ["ConsoleResult", "Guest", "GuestOptions", "build_inplace", "running_guest"]
