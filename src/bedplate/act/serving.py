"""Write what the engines' template unit and the front read, and start them. All of it lies in /run: a boot forgets it.

No generator and no daemon-reload: the template reads fixed paths made from its instance name, and a drop-in written before
an instance is first named is found when systemd loads it (it looks again once a unit directory has a new time stamp).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from bedplate.act import systemd
from bedplate.act.files import write_whole
from bedplate.act.lock import wait_lock
from bedplate.errors import BedplateError, CommandError, ModelRefused
from bedplate.host.root.root import Root
from bedplate.model.instance import ENGINE_DIRECTORY, FRONT_SCRIPT, instance_of, layer_root_of, layer_unit_of, unit_of
from bedplate.model.launch import EnginePlan, Launch, Limits, Placement

FRONT_CONFIGURATION = "/run/bedplate/haproxy.cfg"
FRONT_TOKENS = "/run/bedplate/haproxy-tokens.cfg"
"""Which engines have made a token, for the moment of a reload; without content at any other time."""
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
    plan: EnginePlan
    memory_ceiling_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingChange:
    """Instances of engines, by what becomes of them; each set is sorted."""

    new: tuple[str, ...]
    same: tuple[str, ...]
    changed: tuple[str, ...]
    """They are to be run with another model, layer or other limits."""
    gone: tuple[str, ...]
    """They are run and not wanted any more."""


@contextmanager
def hold_serving(root: Root) -> Iterator[None]:
    """Wait until nobody else prepares: at a boot bedplate-serve.service and bedplate-serve-var.service can both.

    The lock is on the directory itself; the kernel drops it when its holder ends.
    """
    directory = root.at(_STATE)
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        wait_lock(descriptor)
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


def compare_serving(root: Root, served: Sequence[Served]) -> ServingChange:
    """What differs between these engines and what is written; changes nothing."""
    directory = root.at(ENGINE_DIRECTORY)
    before = {path.stem for path in directory.glob("*.env")}
    wanted = {instance_of(engine.model): engine for engine in served}
    same = {name for name in before & wanted.keys() if _is_written(root, name, wanted[name])}
    return ServingChange(
        new=tuple(sorted(wanted.keys() - before)),
        same=tuple(sorted(same)),
        changed=tuple(sorted((before & wanted.keys()) - same)),
        gone=tuple(sorted(before - wanted.keys())),
    )


def write_engines(root: Root, served: Sequence[Served]) -> None:
    """Write environment, link, drop-ins and plan of each engine. Files that are as wanted are not touched."""
    for engine in served:
        name = instance_of(engine.model)
        _link(root.at(f"{ENGINE_DIRECTORY}/{name}.model"), engine.plan.path)
        _write(root.at(_dropin_of(name)), render_dropin(engine))
        if engine.launch.drop_in:
            _link(root.at(_settings_of(name)), engine.launch.drop_in)
        else:
            root.at(_settings_of(name)).unlink(missing_ok=True)
        _write(root.at(f"{ENGINE_DIRECTORY}/{name}.plan"), json.dumps(asdict(engine.plan)) + "\n")
        _write(root.at(f"{ENGINE_DIRECTORY}/{name}.env"), render_environment(engine.launch))


def remove_engines(root: Root, instances: Sequence[str]) -> None:
    """Remove what is written of these engines: one that runs goes on, and is not started again when it ends."""
    for name in instances:
        for suffix in ("env", "plan", "model"):
            root.at(f"{ENGINE_DIRECTORY}/{name}.{suffix}").unlink(missing_ok=True)
        root.at(_dropin_of(name)).unlink(missing_ok=True)
        root.at(_settings_of(name)).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontTexts:
    """What the front's process is started with."""

    configuration: str
    script: str
    """Lua, which the configuration loads."""
    tokens: str
    """A second file of configuration: which engines have made a token."""


def is_front_written(root: Root, texts: FrontTexts) -> bool:
    """Whether the files of the front hold these texts."""
    return all(_is_text(root.at(path), text) for path, text in _front_files(texts))


def write_front_texts(root: Root, texts: FrontTexts) -> None:
    """Write the files of the front, those that differ."""
    for path, text in _front_files(texts):
        _write(root.at(path), text)


def write_front_tokens(root: Root, tokens: str) -> None:
    """Write the second file of configuration alone, for a reload of what is written already."""
    _write(root.at(FRONT_TOKENS), tokens)


def _front_files(texts: FrontTexts) -> tuple[tuple[str, str], ...]:
    """The tokens first: after a kill between two of them the next rollout finds that a reload is under way."""
    return (FRONT_TOKENS, texts.tokens), (FRONT_SCRIPT, texts.script), (FRONT_CONFIGURATION, texts.configuration)


def read_plans(root: Root) -> dict[str, EnginePlan]:
    """What the engines that are written were planned with, by instance; one that cannot be read is left out, and its engine
    is planned anew."""
    plans: dict[str, EnginePlan] = {}
    for file in root.listdir(ENGINE_DIRECTORY):
        if not file.endswith(".plan"):
            continue
        try:
            row = json.loads(root.read_text(f"{ENGINE_DIRECTORY}/{file}") or "")
            placement = row["placement"] | {"cpus": tuple(row["placement"]["cpus"])}
            plans[file.removesuffix(".plan")] = EnginePlan(
                sha256=row["sha256"],
                path=row["path"],
                limits=Limits(**row["limits"]),
                placement=Placement(**placement),
                engine=row.get("engine", "llamacpp"),
            )
        except (ValueError, KeyError, TypeError):
            continue
    return plans


def start_serving(instances: Sequence[str]) -> None:
    """Ask systemd for the engines, the front and the supervisor, in one call and without waiting for it."""
    systemd.start((*(unit_of(name) for name in instances), FRONT_UNIT, SUPERVISOR_UNIT), wait=False)


def find_engines() -> tuple[str, ...]:
    """Instances whose units run or start, sorted, whether they are still written or not. Raises CommandError."""
    prefix, _, suffix = unit_of("*").partition("*")
    units = systemd.list_units(unit_of("*"), "--state=active,activating,reloading")
    return tuple(sorted(unit.name.removeprefix(prefix).removesuffix(suffix) for unit in units))


def stop_engines(instances: Sequence[str]) -> int:
    """Stop these engines, and return when they have ended; the bytes of memory that they held. Raises CommandError when
    their control groups are not empty then."""
    units = [unit_of(name) for name in instances]
    groups = [shown.get("ControlGroup", "") for shown in systemd.show(units, ["ControlGroup"]).values()]
    places = [Path("/sys/fs/cgroup") / group.lstrip("/") for group in groups if group]
    held = sum(_read_count(place / "memory.current") for place in places)
    systemd.stop(units)
    for place in places:
        if place.exists() and _read_count(place / "pids.current") > 0:
            raise CommandError(f"{place.name}: processes are left although it was stopped", status=None)
    return held


def _read_count(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


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


def _is_written(root: Root, instance: str, engine: Served) -> bool:
    link = root.at(f"{ENGINE_DIRECTORY}/{instance}.model")
    return (
        link.is_symlink()
        and str(link.readlink()) == engine.plan.path
        and _is_text(root.at(f"{ENGINE_DIRECTORY}/{instance}.env"), render_environment(engine.launch))
        and _is_text(root.at(_dropin_of(instance)), render_dropin(engine))
        and _target(root.at(_settings_of(instance))) == engine.launch.drop_in
    )


def _target(path: Path) -> str:
    """Where a link leads; "" where there is none."""
    return str(path.readlink()) if path.is_symlink() else ""


def _is_text(path: Path, text: str) -> bool:
    try:
        return path.read_text() == text
    except FileNotFoundError:
        return False


def _dropin_of(instance: str) -> str:
    return f"{_DROPINS}/{unit_of(instance)}.d/50-bedplate.conf"


def _settings_of(instance: str) -> str:
    """A link to the drop-in of the engine, which is a file of the image."""
    return f"{_DROPINS}/{unit_of(instance)}.d/10-engine.conf"


def _write(path: Path, text: str) -> bool:
    """Whether the file had to be written."""
    if _is_text(path, text):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text, sync=False)  # in /run
    return True


def _link(path: Path, target: str) -> None:
    if path.is_symlink() and str(path.readlink()) == target:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(target)
