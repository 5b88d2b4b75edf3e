"""The one door to the service manager of this host: `systemctl` and `systemd-run`, each with a time limit.

By the commands and not over D-Bus: our image runs no bus, and systemctl then speaks to process 1 over its private socket.
What is asked is always this host's manager. Everything here raises CommandError when it refuses or is not there, and
CommandTimeout, which is one too, when it does not answer in time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bedplate.errors import CommandError

if TYPE_CHECKING:
    from bedplate.model.system import Unit

ANSWER_S = 60.0
"""Beside an engine that keeps all CPUs busy and outweighs everything, the service manager has a hundredth of them."""


def is_running(top: Path = Path("/")) -> bool:
    """Whether process 1 is a systemd that can be asked; in most containers it is not. By sd_booted(3), below `top`."""
    return (top / "run/systemd/system").is_dir()


def reload_units(*, timeout_s: float = ANSWER_S) -> None:
    """Let it read all unit files again (`daemon-reload`)."""
    _command("daemon-reload", timeout_s=timeout_s)


def start(units: Sequence[str], *, wait: bool = True) -> None:
    """Start units, all in one call; without `wait` it returns once the jobs are queued."""
    _command("start", *_no_block(wait=wait), *units)


def stop(units: Sequence[str], *, wait: bool = True) -> None:
    """Stop units, all in one call; without `wait` it returns once the jobs are queued."""
    _command("stop", *_no_block(wait=wait), *units)


def kill(unit: str, signal: str) -> None:
    """Send a signal, "KILL", to every process in the control group of a unit."""
    _command("kill", "--kill-whom=all", f"--signal={signal}", unit)


def restart(units: Sequence[str], *, wait: bool = True) -> None:
    """Stop and start units, those that do not run too; a timer that is started again counts anew."""
    _command("restart", *_no_block(wait=wait), *units)


def reload_or_restart(units: Sequence[str], *, wait: bool = True) -> None:
    """Let units read their configuration again; those that cannot, and those that do not run, are restarted."""
    _command("reload-or-restart", *_no_block(wait=wait), *units)


def enable(unit: str) -> None:
    """Start a unit now and at each boot, as its [Install] section says."""
    _command("--quiet", "enable", "--now", unit)


def disable(unit: str) -> None:
    """Stop a unit now, and start it at no boot any more."""
    _command("--quiet", "disable", "--now", unit)


def set_runtime_properties(unit: str, values: Mapping[str, str]) -> None:
    """Set resource-control properties until the next boot, all in one call; "" gives one its default again.

    They stand in /run/systemd/system.control and outrank the unit's own files (systemd.resource-control(5)).
    """
    _command("set-property", "--runtime", unit, *(f"{name}={value}" for name, value in values.items()))


def show(units: Sequence[str], properties: Sequence[str], *, timeout_s: float = ANSWER_S) -> dict[str, dict[str, str]]:
    """Properties by unit, in systemd's own words, by one call for all; a unit that is not loaded is "inactive".

    CommandError also when it answers for more or fewer units than were asked for.
    """
    if not units:
        return {}
    text = _question("show", "--no-pager", f"--property={','.join(properties)}", "--", *units, timeout_s=timeout_s)
    blocks = text.strip("\n").split("\n\n")
    if len(blocks) != len(units):
        raise CommandError(f"systemctl show: asked for {len(units)} units, got {len(blocks)}", status=0)
    return {
        unit: dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        for unit, block in zip(units, blocks, strict=True)
    }


def list_units(*words: str, timeout_s: float = ANSWER_S) -> tuple[Unit, ...]:
    """Loaded units that patterns and options of `systemctl list-units` choose: ("bedplate-*", "--all").

    Raises ValueError, KeyError or TypeError when the answer is no such table.
    """
    from bedplate.host.system.system import parse_units  # with what it brings, not for a boot that starts engines

    return parse_units(_question("list-units", "--output=json", *words, timeout_s=timeout_s))


def start_in_slice(name: str, argv: Sequence[str], *, timeout_s: float) -> None:
    """Start a program as a unit of its own in a slice; how the program ends, or that it did not start, is not seen."""
    from bedplate.act.run import run

    # With default dependencies it would wait for basic.target during a boot, and --wait needs a D-Bus daemon, which our
    # image does not run.
    words = ["systemd-run", "--quiet", "--collect", f"--slice={name}", "--property=DefaultDependencies=no"]
    run([*words, *argv], timeout_s=timeout_s, ok=range(256))


def can_make_scopes() -> bool:
    """Whether this host has what `scope_argv` needs: the program and the service manager. It also takes root."""
    from bedplate.act.run import find_program

    return find_program("systemd-run") is not None and is_running()


def scope_argv(
    argv: Sequence[str], *, slice_name: str, unit: str | None = None, properties: Sequence[str] = ()
) -> tuple[str, ...]:
    """The words that start a program in a scope below a slice: systemd-run joins it and then becomes the program.

    unit: the scope's name, by default one that systemd makes up. properties: ("IOWeight=10000",).
    """
    named = (f"--unit={unit}",) if unit is not None else ()
    settings = (word for setting in properties for word in ("-p", setting))
    return ("systemd-run", "--scope", "--quiet", "--collect", f"--slice={slice_name}", *named, *settings, "--", *argv)


def _no_block(*, wait: bool) -> tuple[str, ...]:
    return () if wait else ("--no-block",)


def _command(*words: str, timeout_s: float = ANSWER_S) -> None:
    from bedplate.act.run import run  # 5 ms that only a real call needs

    run(["systemctl", *words], timeout_s=timeout_s)


def _question(*words: str, timeout_s: float) -> str:
    from bedplate.act.run import run

    return run(["systemctl", *words], timeout_s=timeout_s, split=True).output  # without what it warns of
