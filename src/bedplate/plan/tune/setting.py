"""One setting as a person names it, and the plan that makes just this one: what `bedplate prove --setting` tries out.

vm.swappiness, /proc/sys/vm/swappiness, /sys/kernel/mm/..., /proc/irq/24/smp_affinity_list, neighbour.slice:CPUWeight,
cmdline:isolcpus
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from bedplate.errors import UsageError
from bedplate.model.facts.groups import Groups
from bedplate.model.facts.host import HostFacts
from bedplate.model.knob import ChangeNeed, Grade, Knob
from bedplate.model.knob_value import NUMERIC, Compare, Parse, parse_value
from bedplate.model.tuning import UNIT_PROPERTIES, Change, Means, Plan, Policy, Setting, Skip
from bedplate.plan.cpu_shares import MOST
from bedplate.plan.rules.files import SYSCTL, KnobFiles
from bedplate.plan.tune.builder import is_held, read_property, writable
from bedplate.plan.tune.refusals import UNIT_NEEDS, find_refusals

_FORMS = "Name a sysctl (vm.swappiness), a file (/sys/...), a unit's property (neighbour.slice:CPUWeight) or cmdline:NAME."
_ROOTS = ("/proc/sys/", "/sys/", "/proc/irq/")
_DANGEROUS = (
    *(
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/kernel/hotplug",
        "/proc/sys/kernel/poweroff_cmd",
    ),
    *("/proc/sys/kernel/sysrq", "/proc/sys/kernel/panic*", "/proc/sys/kernel/modules_disabled", "/proc/sys/kernel/kexec*"),
    *(
        "/proc/sys/fs/binfmt_misc/*",
        "/proc/sys/vm/panic_on_oom",
        "/proc/sys/vm/drop_caches",
        "/proc/sys/vm/overcommit_kbytes",
    ),
    *("/sys/power/*", "/sys/kernel/reboot/*", "/sys/kernel/kexec*", "/sys/kernel/security/*", "/sys/kernel/debug/*"),
    *(
        "/sys/firmware/*",
        "/sys/fs/selinux/*",
        "/sys/fs/bpf/*",
        "/sys/*/remove",
        "/sys/*/rescan",
        "/sys/*/reset",
        "/sys/*/delete",
    ),
    *("/sys/*/unbind", "/sys/*/bind", "/sys/*/online", "/sys/*/uevent", "/sys/*/cgroup.kill", "/sys/*/cgroup.freeze"),
    *("/sys/*/cgroup.procs", "/sys/*/cgroup.threads", "/sys/*/authorized*", "/sys/*/driver_override", "/sys/*/sriov_numvfs"),
)
"""Files that start programs, stop machines or take devices away: no experiment is worth one of them."""
_SYSCTL_NAME = re.compile(r"[a-z][a-z0-9_]*[./][\w.:@/-]+")
_UNIT_NAME = re.compile(r"[\w.@:\\-]+\.(?:slice|service|scope)")
_PROPERTY = re.compile(
    r"(?:Startup|Default)?(?:CPU|Memory|IO|Allowed)\w+|(?:Managed)?OOM\w+|Limit[A-Z]+|TasksMax|Nice|NUMA(?:Policy|Mask)|Slice"
)
_PARAMETER = re.compile(r"[A-Za-z][\w.-]*")
_MOST_CHARACTERS = 1024


def parse_setting(text: str) -> Setting:
    """The setting of a name; str(parse_setting(text)) names it again. Raises UsageError that says what was expected."""
    name = text.strip()
    if not name or len(name) > _MOST_CHARACTERS or any(ord(letter) < 33 for letter in name):
        raise UsageError(f"setting {text[:80]!r}: is empty, too long, or has white space in it", hint=_FORMS)
    if name.startswith("cmdline:"):
        return _parse_parameter(name.removeprefix("cmdline:"))
    if name.startswith("/"):
        return _parse_file(name)
    if ":" in name and _UNIT_NAME.fullmatch(name.rpartition(":")[0]):
        unit, _, key = name.rpartition(":")
        if not _PROPERTY.fullmatch(key):
            near = ", ".join(UNIT_PROPERTIES)
            raise UsageError(f"setting {name!r}: {key!r} is not a resource control property", hint=f"Known: {near}.")
        return Setting(means=Means.UNIT, name=unit, key=key)
    if _SYSCTL_NAME.fullmatch(name):
        separator = re.search(r"[./]", name)
        if separator is not None and separator[0] == ".":  # sysctl.d(5): the first one says which separates
            name = name.translate(str.maketrans("./", "/."))
        return _parse_file(SYSCTL + name)
    raise UsageError(f"setting {text!r}: is not a sysctl, a file, a unit property or a kernel parameter", hint=_FORMS)


def _parse_parameter(name: str) -> Setting:
    if not _PARAMETER.fullmatch(name):
        raise UsageError(
            f"setting 'cmdline:{name}': expected the name of a kernel parameter, without its value", hint=_FORMS
        )
    return Setting(means=Means.CMDLINE, name=name)


def _parse_file(path: str) -> Setting:
    parts = path.split("/")[1:]
    if any(part in ("", ".", "..") for part in parts) or any(letter in path for letter in "*?[\\"):
        raise UsageError(f"setting {path!r}: expected a plain absolute path, without '..', '//' and wildcards", hint=_FORMS)
    if not path.startswith(_ROOTS):
        raise UsageError(
            f"setting {path!r}: is not below /proc/sys, /sys or /proc/irq",
            hint="bedplate sets only kernel files; change other files with the program that owns them.",
        )
    if any(fnmatchcase(path, pattern) for pattern in _DANGEROUS):
        raise UsageError(
            f"setting {path!r}: can start programs, stop the machine or remove devices",
            hint="bedplate never tests it; change it by hand if you must.",
        )
    return Setting(means=Means.FILE, name=path)


def plan_setting(setting: Setting, value: str, facts: HostFacts, groups: Groups, knobs: Iterable[Knob]) -> Plan:
    """The plan of one change; a skip instead where the value holds already. Raises UsageError for an impossible value."""
    from bedplate.plan.tune import describe_host

    value = value.strip()
    knob = knob_of(setting, knobs)
    parse = parse_of(setting, value, knob)
    _check_value(setting, value, parse)
    old = _read_old(setting, facts, groups)
    _check_kind(setting, value, old, knob)
    if old is not None and parse is Parse.NUMBER and not _is_parsed(old, parse) and _is_parsed(old, Parse.FLAG):
        parse = Parse.FLAG  # "1" is written, "Y" is read
    compare = compare_of(value, parse) if setting.means is not Means.CMDLINE or value else Compare.ABSENT
    name = knob.id if knob is not None else str(setting)
    changes: tuple[Change, ...] = ()
    skips: tuple[Skip, ...] = ()
    if old is not None and is_held(old, value, parse, compare):
        skips = (Skip(knob=name, reason=f"holds already: {setting} is {old}"),)
    else:
        changes = (
            Change(
                setting=setting,
                knob=name,
                old=old,
                new=value,
                parse=parse,
                compare=compare,
                because=f"you asked for it: {knob.problem}"
                if knob is not None
                else "you asked for it; the catalog does not list it",
                grade=knob.grade if knob is not None else Grade.N,
                sources=knob.sources if knob is not None else (),
                needs=_needs(setting),
            ),
        )
    refusals = find_refusals(facts, groups, changes)
    if setting.means is not Means.UNIT:  # a file of the kernel needs neither control groups nor a service manager
        refusals = tuple(refusal for refusal in refusals if refusal.what not in (*UNIT_NEEDS, "recording"))
    return Plan(policy=Policy.SHARED_HOST, changes=changes, skips=skips, refusals=refusals, host=describe_host(facts))


def plan_knob(knob: Knob, facts: HostFacts, groups: Groups, knobs: Iterable[Knob]) -> Plan:
    """The plan that tries one row of the catalog: the first wanted value that is not there yet, in every file of its
    first check.

    Raises UsageError for a row that no file or parameter decides; what plan_tuning computes is to be asked there.
    """
    files = KnobFiles(facts)
    for check in knob.check:
        candidates = ([check.set] if check.set else []) + list(check.want)
        for reading in (found for path in check.paths for found in files.find(path)):
            if (
                reading.value is None
                or not reading.source.startswith(_ROOTS)
                or reading.source.startswith("/sys/fs/cgroup/")
            ):
                continue
            setting = parse_setting(reading.source)
            for value in candidates:
                if not is_held(reading.value, value, check.parse, Compare.EQUAL):
                    return plan_setting(setting, value, facts, groups, knobs)
    raise UsageError(
        f"knob {knob.id}: the catalog names no file to switch for it, or every wanted value is already set",
        hint="Name the setting itself: bedplate prove --setting NAME=VALUE.",
    )


def knob_of(setting: Setting, knobs: Iterable[Knob]) -> Knob | None:
    """The first row of the catalog that reads this setting; for a unit's property the one that names it; None without."""
    for knob in knobs:
        for check in knob.check:
            if setting.means is Means.CMDLINE and check.parameter == setting.name:
                return knob
            if setting.means is Means.FILE and any(_matches(setting.name, path) for path in check.paths):
                return knob
        if setting.means is Means.UNIT and f"{setting.key}=" in knob.interface:
            return knob
    return None


def _matches(path: str, pattern: str) -> bool:
    return path.count("/") == pattern.count("/") and fnmatchcase(path, pattern)


def parse_of(setting: Setting, value: str, knob: Knob | None) -> Parse:
    """How the effective value is understood: as the catalog says, else as the value looks."""
    if setting.means is Means.CMDLINE:
        return Parse.WORDS
    if setting.means is Means.UNIT:
        known = UNIT_PROPERTIES.get(setting.key)
        return known.parse if known is not None and value != "idle" else Parse.WORDS
    if knob is not None:
        for check in knob.check:
            if any(_matches(setting.name, path) for path in check.paths) and _is_parsed(value, check.parse):
                return check.parse
    for parse in (Parse.NUMBER, Parse.BYTES, Parse.CHOICE):
        if _is_parsed(value, parse):
            return parse
    return Parse.WORDS


def compare_of(value: str, parse: Parse) -> Compare:
    """A line for one device among those of others is to be among them; all else is to be equal."""
    return Compare.CONTAINS if parse is Parse.WORDS and re.match(r"\d+:\d+ ", value) else Compare.EQUAL


def _is_parsed(text: str, parse: Parse) -> bool:
    try:
        parse_value(text, parse)
    except ValueError:
        return False
    return True


def _check_value(setting: Setting, value: str, parse: Parse) -> None:
    if len(value) > _MOST_CHARACTERS or any(ord(letter) < 32 for letter in value):
        raise UsageError(f"{setting}: the value {value[:40]!r} is too long or has control characters")
    if not value and setting.means is Means.FILE:
        raise UsageError(f"{setting}: no value is given", hint=f"Write {setting}=VALUE.")
    if setting.means is not Means.UNIT or not value:
        return
    if not _is_parsed(value, parse):
        raise UsageError(f"{setting}: got {value!r}, expected a value such as {_example(setting)}")
    if setting.key.endswith(("CPUWeight", "IOWeight")) and value != "idle" and not 1 <= float(value) <= MOST:
        raise UsageError(f"{setting}: got {value}, expected a weight from 1 to {MOST}, or idle")


def _check_kind(setting: Setting, value: str, old: str | None, knob: Knob | None) -> None:
    """Refuse a word for a file of numbers: by its row of the catalog, else by what stands in it.

    The kernel would refuse it too, but only when it is written, in the middle of an experiment.
    """
    if setting.means is not Means.FILE:
        return
    checks = [check for check in knob.check if any(_matches(setting.name, path) for path in check.paths)] if knob else []
    if checks:
        wrong = all(check.parse in NUMERIC and not _is_parsed(value, check.parse) for check in checks)
    else:  # a list of CPUs (0-3) and several numbers stand where one stood
        known = any(_is_parsed(value, parse) for parse in (Parse.NUMBER, Parse.BYTES, Parse.FLAG)) or value == "n/a"
        holds_number = old is not None and _is_parsed(old, Parse.NUMBER) and any(letter.isdigit() for letter in old)
        wrong = holds_number and not known and not any(letter.isdigit() for letter in value)
    if wrong:
        holds = f", which holds {old}" if old is not None else ""
        raise UsageError(f"{setting}: got {value!r}, expected a number{holds}")


def _example(setting: Setting) -> str:
    if setting.key.startswith("Memory"):
        return "536870912, 512M or infinity"
    return "100" if setting.key.endswith("Weight") else "0-3,8"


def _read_old(setting: Setting, facts: HostFacts, groups: Groups) -> str | None:
    if setting.means is Means.FILE:
        told = KnobFiles(facts).read(setting.name).value
        return writable(told) if told is not None else None
    if setting.means is Means.CMDLINE:
        words = [word.partition("=") for word in facts.kernel.cmdline]
        return next((value for name, _, value in words if name.replace("-", "_") == setting.name.replace("-", "_")), None)
    path = next((group.path for group in groups.groups if group.unit == setting.name), "/" + setting.name)
    return read_property(groups, path, setting.key)


def _needs(setting: Setting) -> tuple[ChangeNeed, ...]:
    if setting.means is Means.CMDLINE:
        return (ChangeNeed.ROOT, ChangeNeed.REBOOT)
    if setting.means is Means.UNIT and setting.key not in UNIT_PROPERTIES:
        return (ChangeNeed.ROOT, ChangeNeed.ENGINE_RESTART)
    return (ChangeNeed.ROOT,)
