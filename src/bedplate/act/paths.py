"""The two directories that bedplate writes to, and what lies where in them."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from bedplate.errors import PreflightError, UsageError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
STATE_HINT = "Fix this, or give bedplate other directories: BEDPLATE_STATE_DIR=DIR (and BEDPLATE_CACHE_DIR=DIR)."


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """cache can be deleted at any time and is made again; state holds keys, images, models and the machine."""

    cache: Path
    state: Path

    @property
    def tools(self) -> Path:
        """The Debian tree with the programs that builds run (image/tools.py). It gets this name only when it is whole."""
        return self.cache / "tools"

    @property
    def packages(self) -> Path:
        """The pool of .deb files of all locks, and one apt directory for each suite (image/packages.py)."""
        return self.cache / "packages"

    @property
    def work(self) -> Path:
        """What builds make on their way. A killed build leaves it; the next one makes it anew or goes on from it."""
        return self.cache / "work"

    @property
    def keys(self) -> Path:
        """The owner's private keys and certificates (image/keys.py); `bedplate clean` leaves it, unless --keys is given."""
        return self.state / "keys"

    @property
    def client_keys(self) -> Path:
        """Keys of clients that go into each image that is built (`bedplate key add` on a host)."""
        return self.keys / "client-keys.toml"

    @property
    def config_keys(self) -> Path:
        """Public keys that may sign a machine's configuration; each image that is built has them (`config make-key`)."""
        return self.keys / "config.keys"

    @property
    def images(self) -> Path:
        """One directory for each published image, named by its version; those whose names begin with a dot are half-made."""
        return self.state / "images"

    @property
    def engines(self) -> Path:
        """Disk images of engine layers, and beside each NAME.json, which names the one that counts."""
        return self.state / "engines"

    @property
    def drivers(self) -> Path:
        """Disk images of driver layers, and beside each NAME.json, which names the one that counts."""
        return self.state / "drivers"

    @property
    def models(self) -> Path:
        """The store of models (weights/store.py): `bedplate model` fills it, `bedplate up` takes from it what it serves."""
        return self.state / "models"

    @property
    def machine(self) -> Path:
        """Everything of the one virtual machine: its disk, TPM, sockets, logs, and machine.json while it runs."""
        return self.state / "machine"

    @property
    def logs(self) -> Path:
        """One file NAME.log for each kind of work that writes one: what `bedplate logs NAME` shows."""
        return self.state / "logs"


def check_paths(paths: Paths) -> None:
    """Raise PreflightError where one of the two is there and cannot be listed: to a search it would look empty."""
    for directory in (paths.cache, paths.state):
        try:
            os.scandir(directory).close()
        except FileNotFoundError:
            continue
        except OSError as error:
            explained = explain_os_error(error, paths)
            if explained is None:
                raise
            raise explained from error


def find_paths(environment: dict[str, str] | None = None) -> Paths:
    """Directories by BEDPLATE_CACHE_DIR and BEDPLATE_STATE_DIR, else XDG, else ~/.cache and ~/.local/state.

    In a booted image they are in /var, where `bedplate serve prepare` looks for models, and not in root's home.
    Raises UsageError when both are one, PreflightError for a relative one where the working directory was removed.
    """
    env = dict(os.environ) if environment is None else environment
    home = Path(env.get("HOME") or "/root")
    caches, states = env.get("XDG_CACHE_HOME") or home / ".cache", env.get("XDG_STATE_HOME") or home / ".local/state"
    if _is_booted_image():
        caches, states = "/var/cache", "/var/lib"
    cache = env.get("BEDPLATE_CACHE_DIR") or Path(caches) / "bedplate"
    state = env.get("BEDPLATE_STATE_DIR") or Path(states) / "bedplate"
    try:
        found = Paths(cache=Path(cache).absolute(), state=Path(state).absolute())
    except FileNotFoundError as error:
        relative = " and ".join(str(path) for path in (cache, state) if not Path(path).is_absolute())
        raise PreflightError(
            f"{relative}: is relative to the working directory, which was removed",
            hint="Change to an existing directory, or set BEDPLATE_CACHE_DIR and BEDPLATE_STATE_DIR to absolute paths.",
        ) from error
    if found.cache.resolve() == found.state.resolve():  # each has a lock of its own: a command would wait for itself
        raise UsageError(
            f"{found.cache} is both the cache and the state directory, expected two directories",
            hint="Set BEDPLATE_CACHE_DIR or BEDPLATE_STATE_DIR to another directory.",
        )
    return found


def _is_booted_image() -> bool:
    if not Path("/usr/lib/bedplate/image.json").exists():
        return False  # nearly every call: what would say more takes longer to load than all else here
    from bedplate.host.root.root import Root
    from bedplate.host.system.booted import is_bedplate_system

    return is_bedplate_system(Root())


def explain_os_error(error: OSError, paths: Paths) -> PreflightError | None:
    """What it says of the two directories, a full disk or a file of another user, with the way out; None for all else.

    OSError EROFS of "/ro/bedplate" -> "/ro/bedplate: Read-only file system", and the variable that moves the directory.
    """
    reason = "is not a directory" if error.errno in (errno.ENOTDIR, errno.EEXIST) else error.strerror or str(error)
    named = [_absolute(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    if error.errno == errno.ENOTDIR:  # the path goes through the file, which is what must be named
        named = [next(there for there in (path, *path.parents) if os.path.lexists(there)) for path in named]
    for directory, variable in ((paths.cache, "BEDPLATE_CACHE_DIR"), (paths.state, "BEDPLATE_STATE_DIR")):
        for path in named:
            above = directory.is_relative_to(path) and path != Path("/")  # it, or what it lies in, cannot be made
            if above or path.is_relative_to(directory):
                return PreflightError(
                    f"{path}: {reason}",
                    hint=f"Fix this, or choose another directory: {variable}=DIR (now {directory}).",
                )
    if isinstance(error, PermissionError) and named:
        return PreflightError(f"{named[0]}: {reason}", hint="Run the command as root, or as the owner of this file.")
    if error.errno not in _FULL:
        return None
    where = ", ".join(str(path) for path in named) or f"a file in {paths.cache} or {paths.state}"
    return PreflightError(f"{where}: {reason}", hint=f"Free some space. {STATE_HINT}")


def is_full(error: OSError) -> bool:
    """Whether it says that a disk takes no more: what is written is not wrong."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def _absolute(name: str | bytes) -> Path:
    path = Path(os.fsdecode(name))
    try:
        return path.absolute()
    except FileNotFoundError:  # the working directory was removed
        return path
