"""Write what the engines' template unit and the front read, and start them. All of it lies in /run: a boot forgets it.

No generator and no daemon-reload: the template reads fixed paths made from its instance name, and a drop-in written before
an instance is first named is found when systemd loads it (it looks again once a unit directory has a new time stamp).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bedplate.act import systemd
from bedplate.act.files import write_whole
from bedplate.errors import BedplateError, CommandError, ModelRefused
from bedplate.host.root.root import Root
from bedplate.model.instance import ENGINE_DIRECTORY, instance_of, layer_root_of, layer_unit_of, unit_of
from bedplate.model.launch import Launch

FRONT_CONFIGURATION = "/run/bedplate/haproxy.cfg"
FRONT_SCRIPT = "/run/bedplate/request.lua"
FRONT_UNIT = "bedplate-haproxy.service"
SUPERVISOR_UNIT = "bedplate-supervise.service"
"""Ordered after the rest of the boot, so that to ask for it costs the first token nothing."""
_DROPINS = "/run/systemd/system"
_STATE = "/run/bedplate"
LAYER_POLICY = "root=signed:=absent+unused"
"""systemd.image-policy(7): a root whose verity hash is signed, and nothing else is used."""
_VERIFY_S = 60.0
_HUGE_PAGES = "/sys/kernel/mm/transparent_hugepage/enabled"
# What systemd would read as something else in an EnvironmentFile= value, or when it splits $BEDPLATE_ENGINE_ARGV.
_UNSAFE = frozenset(" \t\n\"'\\$%`;#")


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One engine to be run. layer and model_file are paths on this host."""

    model: str
    launch: Launch
    layer: str
    model_file: str
    memory_ceiling_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What changed since the last time: instances to start again, to leave, to stop."""

    changed: tuple[str, ...]
    same: tuple[str, ...]
    gone: tuple[str, ...]
    front_changed: bool


@contextmanager
def hold_serving(root: Root) -> Iterator[None]:
    """Wait until nobody else prepares: at a boot bedplate-serve.service and bedplate-serve-var.service can both.

    The lock is on the directory itself; the kernel drops it when its holder ends.
    """
    directory = root.at(_STATE)
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def is_mounted_layer(path: str) -> bool:
    """Whether bedplate-layer@.service has mounted this disk or file, and so verified it."""
    return Path(layer_root_of(path)).is_mount()


def is_any_layer_mounted() -> bool:
    """Whether some engine layer is mounted on this host; False too where no unit has ever mounted one."""
    place = Path(layer_root_of("/x")).parent
    return place.is_dir() and any(root.is_mount() for root in place.iterdir())


def is_signed_layer(path: str) -> bool:
    """Whether this disk or file verifies as bedplate-layer@.service demands it: it is mounted for a moment, for nobody else.

    One that its unit has mounted has verified; a second verity device of it would disturb the first (decision 0023). One
    that a stranger has signed makes systemd-dissect ask for a passphrase, which nobody gives, and counts as not signed when
    the time is over.
    """
    from bedplate.act.run import run

    if is_mounted_layer(path):
        return True
    unit = layer_unit_of(path)
    state = systemd.show((unit,), ("ActiveState", "NRestarts"))[unit]
    if state == {"ActiveState": "activating", "NRestarts": "0"}:  # its unit mounts it just now, and has not failed yet
        return True
    # What follows --with is the image and a command, and no option any more.
    argv = ["systemd-dissect", "--read-only", f"--image-policy={LAYER_POLICY}", "--with", path, "/bin/true"]
    try:
        run(argv, timeout_s=_VERIFY_S, env={"DM_DISABLE_UDEV": "1", "TMPDIR": _STATE})
    except CommandError:
        return False
    return True


def write_serving(root: Root, served: Sequence[Served], front: str, script: str) -> Written:
    """Write environment, links and drop-in of each engine, and the front's configuration and script; remove those of engines
    no longer served. Files that are as wanted are not touched."""
    directory = root.at(ENGINE_DIRECTORY)
    directory.mkdir(parents=True, exist_ok=True)
    before = {path.stem for path in directory.glob("*.env")}
    changed: list[str] = []
    same: list[str] = []
    for engine in served:
        name = instance_of(engine.model)
        differs = [
            _link(directory / f"{name}.model", engine.model_file),
            _write(directory / f"{name}.env", render_environment(engine.launch)),
            _write(root.at(_dropin_of(name)), render_dropin(engine)),
        ]
        (changed if any(differs) else same).append(name)
    gone = sorted(before - {*changed, *same})
    for name in gone:
        for suffix in ("env", "model"):
            (directory / f"{name}.{suffix}").unlink(missing_ok=True)
        root.at(_dropin_of(name)).unlink(missing_ok=True)
    front_changed = any([_write(root.at(FRONT_SCRIPT), script), _write(root.at(FRONT_CONFIGURATION), front)])
    return Written(changed=tuple(changed), same=tuple(same), gone=tuple(gone), front_changed=front_changed)


def start_serving(written: Written, *, front_runs: bool) -> None:
    """Ask systemd for what was written, without waiting for it. At a boot this is one call of systemctl."""
    units = [unit_of(name) for name in written.changed]
    if front_runs:  # not a boot: instances may be loaded with the drop-in of before
        systemd.reload_units()
        if written.gone:
            systemd.stop([unit_of(name) for name in written.gone], wait=False)
        if units:
            systemd.restart(units, wait=False)
        if written.front_changed:
            systemd.reload_or_restart((FRONT_UNIT,), wait=False)
        units = []
    units += [unit_of(name) for name in written.same]
    systemd.start((*units, FRONT_UNIT, SUPERVISOR_UNIT), wait=False)


def offer_huge_pages(root: Root) -> None:
    """Let programs that ask for transparent huge pages have them; engines do, by malloc's tunable.

    The image boots without: khugepaged's reserve is 50 MB and more (mm/khugepaged.c, set_recommended_min_free_kbytes), which
    a host without an engine has no use for. A mode that somebody chose is left alone. Raises BedplateError when the kernel
    does not take it.
    """
    path = root.at(_HUGE_PAGES)
    if not path.exists() or "[never]" not in path.read_text():
        return
    path.write_text("madvise")
    if "[madvise]" not in (told := path.read_text().strip()):
        raise BedplateError(f"{path}: wrote madvise, the kernel shows {told}")


def render_environment(launch: Launch) -> str:
    """An EnvironmentFile= (systemd.exec(5)); the command line stands in one variable that systemd splits at blanks.

    The path of the program is the same in every layer and stands in the unit; argv[0] is the engine's own name, by which
    people and tools know it. Raises ModelRefused for a word that would need quotes.
    """
    for word in (*launch.argv, *(value for _, value in launch.env)):
        if not word or _UNSAFE & set(word):
            raise ModelRefused(f"{word!r} cannot be an argument of an engine: blanks, quotes and $ % ; # \\ are not allowed")
    lines = [f"{name}={value}" for name, value in launch.env]
    return "\n".join([*lines, f'BEDPLATE_ENGINE_ARGV="{" ".join(launch.argv)}"']) + "\n"


def render_dropin(served: Served) -> str:
    """What differs from engine to engine: its layer, and the computed bounds, a floor against reclaim and a ceiling against
    leaks.

    The layer is mounted once, by a unit of its own, for all engines of it; the engine waits for that.
    """
    layer = layer_unit_of(served.layer)
    return (
        "# Written by `bedplate serve prepare`.\n"
        f"[Unit]\nRequires={layer}\nAfter={layer}\n"
        f"[Service]\nRootDirectory={layer_root_of(served.layer)}\n"
        f"MemoryLow={served.launch.memory_bytes}\nMemoryMax={served.memory_ceiling_bytes}\n"
    )


def _dropin_of(instance: str) -> str:
    return f"{_DROPINS}/bedplate-engine@{instance}.service.d/50-bedplate.conf"


def _write(path: Path, text: str) -> bool:
    """Whether the file had to be written."""
    try:
        if path.read_text() == text:
            return False
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text, sync=False)  # in /run
    return True


def _link(path: Path, target: str) -> bool:
    """Whether the link had to be made."""
    if path.is_symlink():
        if str(path.readlink()) == target:
            return False
        path.unlink()
    path.symlink_to(target)
    return True
