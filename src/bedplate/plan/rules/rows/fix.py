"""Commands that set a knob right and those that bring the old value back, for the distribution at hand.

Whatever was read from the machine is quoted before it stands in a command: a recording may come from anywhere.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence

from bedplate.model.facts.host import HostFacts
from bedplate.model.knob import Knob
from bedplate.model.knob_value import Compare
from bedplate.plan.rules.files import CMDLINE, SYSCTL, BootSetting, KnobFiles, sysctl_name
from bedplate.plan.rules.formulas import FORMULAS
from bedplate.plan.rules.rows.judge import Comparison, DeadSetting
from bedplate.plan.rules.rule import Result
from bedplate.plan.rules.terms import DRAIN_FOR_REBOOT

_PLACEHOLDER = re.compile(r"\{(want|target|old|path|name|text|id|old:[^{}]+)\}")
_GRUBBY = ("fedora", "rhel", "rocky", "almalinux", "centos", "ol")
_GRUB = ("debian", "ubuntu", "linuxmint", "pop")
_SHOWN_PATHS = 16  # files that are named one by one in a command
_MOST = 8  # places that commands are written for; the finding names all of them


def make_fix(
    knob: Knob, results: Sequence[Result], facts: HostFacts, files: KnobFiles
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(fix, undo) of what failed of a row; undo has the values that were read."""
    dead = tuple(result.setting for result in results if isinstance(result, DeadSetting))
    if dead:
        return _dead(dead)
    failed = [result for result in results if isinstance(result, Comparison) and result.sample is not None]
    own = [result for result in failed if not _writes_itself(result)]
    fix: list[str] = []
    undo: list[str] = []
    target = (FORMULAS[knob.target](facts) if knob.target else None) or "?"
    if knob.fix:
        for result in own or failed:
            fix += [_fill(line, result, knob, target, files) for line in knob.fix]
            undo += [_fill(line, result, knob, target, files) for line in knob.undo]
            if len(fix) >= _MOST * len(knob.fix) and len(own or failed) > _MOST:
                fix.append(f"# The same for the others of {len(own or failed)}.")
                break
        failed = [result for result in failed if result not in own] if own else []
    for part in (_sysctls(knob, failed, files), _sysfs(knob, failed, files), _parameters(failed, facts)):
        fix += part[0]
        undo += part[1]
    if not fix:
        fix = [f"# {knob.wanted}"]
    if not undo:
        undo = [f"# {knob.reversible}"]
    return _once(fix), _once(undo)


def _once(lines: list[str]) -> tuple[str, ...]:
    """Each line once, where it stands last: a daemon-reload or a reboot comes after all that it is for."""
    return tuple(dict.fromkeys(reversed(lines)))[::-1]


def _writes_itself(result: Comparison) -> bool:
    """Whether commands follow from what was read: a sysctl, or a parameter of the kernel."""
    return bool(result.check.parameter) or (not result.check.fact and result.path.startswith(SYSCTL))


def _old(result: Comparison) -> str:
    value = result.sample.reading.value if result.sample is not None else None
    return " ".join(value.split()) if value is not None else ""


def _fill(line: str, result: Comparison, knob: Knob, target: str, files: KnobFiles) -> str:
    comment = line.startswith("#")

    def value(found: re.Match[str]) -> str:
        key = found[1]
        if key.startswith("old:"):
            text = files.read(key.removeprefix("old:")).value or "OLD-VALUE"
        else:
            sample = result.sample
            text = {
                "want": result.want,
                "target": target,
                "old": _old(result),
                "path": result.path,
                "name": (sample.name or sample.where) if sample is not None else "",
                "text": f"{sample.where}: {sample.reading.text}" if sample is not None else "",
                "id": _file_name(knob),
            }[key]
        text = " ".join(text.split())
        return text if comment or re.fullmatch(r"[\w.:/,@%+=-]*", text) else shlex.quote(text)

    return _PLACEHOLDER.sub(value, line)


def _file_name(knob: Knob) -> str:
    return "bedplate-" + knob.id.replace(".", "-").replace("_", "-")


def _sysctls(knob: Knob, failed: Iterable[Comparison], files: KnobFiles) -> tuple[list[str], list[str]]:
    fix, undo, lines = [], [], []
    for result in failed:
        if result.check.fact or not result.path.startswith(SYSCTL) or not result.want:
            continue
        name = sysctl_name(result.path)
        fix.append(f"sysctl -w {shlex.quote(f'{name}={result.want}')}")
        undo.append(f"sysctl -w {shlex.quote(f'{name}={_old(result)}')}")
        lines.append(f"{name} = {result.want}")
        for setting in files.set_at_boot(result.path)[-1:]:
            if setting.value != result.want:
                value = " ".join(setting.value.split())[:80]
                fix.append(f"# At boot {setting.source} sets it to {value}: change that line.")
    if lines:
        where = f"/etc/sysctl.d/80-{_file_name(knob)}.conf"
        fix.append(f"printf '%s\\n' {' '.join(shlex.quote(line) for line in lines)} > {where}")
        undo.append(f"rm {where}")
    return fix, undo


def _sysfs(knob: Knob, failed: Iterable[Comparison], files: KnobFiles) -> tuple[list[str], list[str]]:
    """echo into files of /sys, and a tmpfiles.d line that does it again at boot; files of one value together."""
    fix: list[str] = []
    undo: list[str] = []
    lines: list[str] = []
    writable = [result for result in failed if result.want and result.path.startswith("/sys/")]
    by_want: dict[tuple[str, tuple[str, ...]], list[Comparison]] = {}
    for result in writable:
        by_want.setdefault((result.want, result.check.paths), []).append(result)
    for (want, globs), results in by_want.items():
        patterns = _patterns([result.path for result in results], globs, files)
        fix += [_echo(want, patterns)]
        # cgroups are made anew by systemd after tmpfiles have run.
        lines += [f"w {pattern} - - - - {want}" for pattern in patterns if not pattern.startswith("/sys/fs/cgroup/")]
        by_old: dict[str, list[str]] = {}
        for result in results:
            by_old.setdefault(_chosen(_old(result)), []).append(result.path)
        undo += [_echo(old, _patterns(paths, globs, files)) for old, paths in by_old.items()]
    if lines:
        where = f"/etc/tmpfiles.d/80-{_file_name(knob)}.conf"
        shown = " ".join(shlex.quote(line) for line in lines[:_SHOWN_PATHS])
        fix.append(f"printf '%s\\n' {shown} > {where}")
        undo.append(f"rm {where}")
    return fix, undo


def _chosen(text: str) -> str:
    """What to write to get a choice back: "always [madvise] never" -> "madvise"."""
    found = re.findall(r"\[([^\[\]\s]+)\]", text)
    return found[0] if len(found) == 1 else text


def _patterns(paths: list[str], globs: tuple[str, ...], files: KnobFiles) -> list[str]:
    """The glob that names exactly these files, else the files."""
    for pattern in globs:
        if "*" in pattern and {reading.source for reading in files.find(pattern)} == set(paths) and len(paths) > 1:
            return [pattern]
    return paths


def _echo(value: str, paths: list[str]) -> str:
    quoted = shlex.quote(value)
    if len(paths) == 1 and "*" not in paths[0]:
        return f"echo {quoted} > {shlex.quote(paths[0])}"
    names = " ".join(path if re.fullmatch(r"[\w.:/*@-]+", path) else shlex.quote(path) for path in paths)
    return f'for f in {names}; do echo {quoted} > "$f"; done'


def _parameters(failed: Iterable[Comparison], facts: HostFacts) -> tuple[list[str], list[str]]:
    """A change of the kernel command line, in the way of the distribution."""
    remove, add = [], []
    for result in failed:
        if result.check.parameter and result.sample is not None:
            word = result.sample.reading.text
            remove += [word] if result.sample.reading.value is not None else []
            if result.want and result.check.compare is not Compare.NOT_CONTAINS:
                add.append(f"{result.check.parameter}={result.want}")
    if not remove and not add:
        return [], []
    return _command_line(facts.os.id, remove, add), _command_line(facts.os.id, add, remove)


def _command_line(distribution: str, remove: list[str], add: list[str]) -> list[str]:
    remove, add = [" ".join(word.split()) for word in remove], [" ".join(word.split()) for word in add]
    words = [f"remove {' '.join(remove)}"] if remove else []
    words += [f"add {' '.join(add)}"] if add else []
    what = " and ".join(words)
    if distribution in _GRUBBY:
        flags = [f"--remove-args={shlex.quote(' '.join(remove))}"] if remove else []
        flags += [f"--args={shlex.quote(' '.join(add))}"] if add else []
        return [f"grubby --update-kernel=ALL {' '.join(flags)}", DRAIN_FOR_REBOOT, "reboot"]
    if distribution in _GRUB:
        return [
            f"# In GRUB_CMDLINE_LINUX and GRUB_CMDLINE_LINUX_DEFAULT of /etc/default/grub {what}.",
            "update-grub",
            DRAIN_FOR_REBOOT,
            "reboot",
        ]
    return [f"# In the boot loader's kernel command line {what}.", DRAIN_FOR_REBOOT, "reboot"]


def _dead(dead: tuple[BootSetting, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    fix: list[str] = []
    undo: list[str] = []
    for source in dict.fromkeys(setting.source for setting in dead):
        names = [sysctl_name(setting.path) for setting in dead if setting.source == source]
        if source == CMDLINE:
            words = " ".join(f"sysctl.{name}" for name in names)
            fix.append(f"# Remove {words} from the kernel command line.")
            undo.append(f"# Add {words} to the kernel command line again.")
        elif source.startswith("/usr/lib/"):
            copy = "/etc/sysctl.d/" + source.rpartition("/")[2]
            fix.append(f"# {source} belongs to a package: a copy in /etc without the lines replaces it.")
            fix.append(f"sed {_expressions(names)} {shlex.quote(source)} > {shlex.quote(copy)}")
            undo.append(f"rm {shlex.quote(copy)}")
        else:
            fix.append(f"sed -i.bedplate {_expressions(names)} {shlex.quote(source)}")
            undo.append(f"mv {shlex.quote(source + '.bedplate')} {shlex.quote(source)}")
    return tuple(fix), tuple(undo)


def _expressions(names: list[str]) -> str:
    """Arguments of sed that delete the lines of these sysctls, written with dots or slashes."""
    patterns = ["[./]".join(re.split(r"\.", name)) for name in names]
    return " ".join(f"-e {shlex.quote(f'/^[[:space:]]*-*{pattern}[[:space:]]*=/d')}" for pattern in patterns)
