"""Write what the engines' template unit and the front read, and start them. All of it lies in /run: a boot forgets it.

No generator and no daemon-reload: the template reads fixed paths made from its instance name, and a drop-in written before
an instance is first named is found when systemd loads it (it looks again once a unit directory has a new time stamp).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bedplate.errors import BedplateError, ModelRefused
from bedplate.host.root import Root
from bedplate.model.instance import ENGINE_DIRECTORY, instance_of
from bedplate.model.launch import Launch

FRONT_CONFIGURATION = "/run/bedplate/haproxy.cfg"
FRONT_UNIT = "bedplate-haproxy.service"
_DROPINS = "/run/systemd/system"
_SYSTEMCTL_S = 60.0
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


def write_serving(root: Root, served: Sequence[Served], front: str) -> Written:
    """Write environment, links and drop-in of each engine, and the front's configuration; remove those of engines no longer
    served. Files that are as wanted are not touched."""
    directory = root.at(ENGINE_DIRECTORY)
    directory.mkdir(parents=True, exist_ok=True)
    before = {path.stem for path in directory.glob("*.env")}
    changed: list[str] = []
    same: list[str] = []
    for one in served:
        name = instance_of(one.model)
        dropin = root.at(f"{_DROPINS}/bedplate-engine@{name}.service.d/50-memory.conf")
        differs = [
            _link(directory / f"{name}.raw", one.layer),
            _link(directory / f"{name}.model", one.model_file),
            _write(directory / f"{name}.env", render_environment(one.launch)),
            _write(dropin, render_memory(one)),
        ]
        (changed if any(differs) else same).append(name)
    gone = sorted(before - {*changed, *same})
    for name in gone:
        for suffix in ("env", "raw", "model"):
            (directory / f"{name}.{suffix}").unlink(missing_ok=True)
        root.at(f"{_DROPINS}/bedplate-engine@{name}.service.d/50-memory.conf").unlink(missing_ok=True)
    front_changed = _write(root.at(FRONT_CONFIGURATION), front)
    return Written(changed=tuple(changed), same=tuple(same), gone=tuple(gone), front_changed=front_changed)


def start_serving(written: Written, *, front_runs: bool) -> None:
    """Ask systemd for what was written, without waiting for it. At a boot this is one call of systemctl."""
    from bedplate.act.run import run  # 5 ms that only a real start needs

    units = [f"bedplate-engine@{name}.service" for name in written.changed]
    if front_runs:  # not a boot: instances may be loaded with the drop-in of before
        run(["systemctl", "daemon-reload"], timeout_s=_SYSTEMCTL_S)
        if written.gone:
            stopped = [f"bedplate-engine@{name}.service" for name in written.gone]
            run(["systemctl", "stop", "--no-block", *stopped], timeout_s=_SYSTEMCTL_S)
        if units:
            run(["systemctl", "restart", "--no-block", *units], timeout_s=_SYSTEMCTL_S)
        if written.front_changed:
            run(["systemctl", "reload-or-restart", "--no-block", FRONT_UNIT], timeout_s=_SYSTEMCTL_S)
        units = []
    units += [f"bedplate-engine@{name}.service" for name in written.same]
    run(["systemctl", "start", "--no-block", *units, FRONT_UNIT], timeout_s=_SYSTEMCTL_S)


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
        raise BedplateError(f"{path}: wrote madvise, the kernel says {told}")


def render_environment(launch: Launch) -> str:
    """An EnvironmentFile= (systemd.exec(5)); the command line stands in one variable that systemd splits at blanks.

    The path of the program is the same in every layer and stands in the unit; argv[0] is the engine's own name, by which
    people and tools know it. Raises ModelRefused for a word that would need quotes.
    """
    for word in (*launch.argv, *(value for _, value in launch.env)):
        if not word or _UNSAFE & set(word):
            raise ModelRefused(f"{word!r} cannot be an argument of an engine: blanks, quotes and $ % ; # \\ are not taken")
    lines = [f"{name}={value}" for name, value in launch.env]
    return "\n".join([*lines, f'BEDPLATE_ENGINE_ARGV="{" ".join(launch.argv)}"']) + "\n"


def render_memory(served: Served) -> str:
    """The drop-in with the bounds that were computed: a floor against reclaim, and a ceiling against leaks."""
    return (
        "# Written by `bedplate serve prepare`.\n[Service]\n"
        f"MemoryLow={served.launch.memory_bytes}\nMemoryMax={served.memory_ceiling_bytes}\n"
    )


def _write(path: Path, text: str) -> bool:
    """Whether the file had to be written."""
    try:
        if path.read_text() == text:
            return False
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text)
    fresh.chmod(0o644)
    fresh.replace(path)
    return True


def _link(path: Path, target: str) -> bool:
    """Whether the link had to be made."""
    if path.is_symlink():
        if str(path.readlink()) == target:
            return False
        path.unlink()
    path.symlink_to(target)
    return True
