"""Parameters of the kernel's command line: they take effect at the next boot, and only through a file that lasts.

Where GRUB boots as Debian and Ubuntu have it, that is a snippet which update-grub reads after /etc/default/grub; elsewhere a
file below /etc/bedplate/cmdline.d, for whoever makes the command line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from bedplate.act.tuning.kinds.generated_file import make_head, want_files
from bedplate.act.tuning.kinds.kind import Command, SettingKind, TextsBefore, report
from bedplate.act.tuning.meaning import satisfies
from bedplate.act.tuning.place import Place
from bedplate.act.tuning.services import Services
from bedplate.act.tuning.step import AppliedValue, Step, StepContext, Wanted
from bedplate.host.root.root import Root
from bedplate.model.knob_value import Compare
from bedplate.model.tuning import Change, Held, Means, Setting, Verified

_CMDLINE = "/proc/cmdline"
_GRUB_DIRECTORY = "/etc/default/grub.d"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,80}", re.ASCII)
_VALUE = re.compile(r"[A-Za-z0-9_.,:/+=-]*", re.ASCII)
_GRUB_S = 300.0
_FILES = {"psi=1": tuple(f"/proc/pressure/{name}" for name in ("cpu", "memory", "io", "irq"))}
"""Files that the kernel has only with a parameter (accounting/psi.rst); the planner sees by them whether it is in effect."""


class KernelParameter(SettingKind):
    """A word of the command line, "isolcpus=1", which is added, changed, or must not be there (Compare.ABSENT)."""

    needs_boot = True
    generated = ("etc/default/grub.d/80-bedplate.cfg", "etc/bedplate/cmdline.d/80-bedplate.conf")

    def owns(self, setting: Setting) -> bool:
        return setting.means is Means.CMDLINE

    def refuse(self, place: Place, services: Services) -> str | None:
        return None if place.persist else "the plan sets kernel parameters, which needs --persist"

    def check(self, change: Change, root: Root) -> str | None:
        if not _NAME.fullmatch(change.setting.name) or not _VALUE.fullmatch(change.new):
            return f"cmdline: {change.setting.name}={change.new!r} is not valid on a kernel command line"
        return None

    def plan_targets(self, changes: Sequence[Change], place: Place, digest: str) -> Iterator[Wanted]:
        if not place.persist:
            return iter(())
        head = make_head(digest)
        added = " ".join(_word(change) for change in changes if change.compare is not Compare.ABSENT)
        gone = [change.setting.name for change in changes if change.compare is Compare.ABSENT]
        if place.root.exists("/etc/default/grub"):
            return want_files({f"{_GRUB_DIRECTORY}/{place.stem}.cfg": head + _grub_lines(added, gone)})
        lines = [*(f"# Must not exist: {name}" for name in gone), *([added] if added else [])]
        return want_files({f"/etc/bedplate/cmdline.d/{place.stem}.conf": head + "\n".join([*lines, ""])})

    def satisfies(self, change: Change, text: str) -> bool | None:
        return satisfies(change, text, _CMDLINE)

    def verify(
        self, changes: Sequence[Change], *, root: Root, services: Services, since_s: float | None
    ) -> tuple[Verified, ...]:
        line = root.read(_CMDLINE).value
        if line is None:
            return tuple(report(change, Held.UNKNOWN, None, f"{_CMDLINE} cannot be read") for change in changes)
        return tuple(_verify(change, line.split()) for change in changes)

    def texts_before(self, changes: Sequence[Change], values: Sequence[AppliedValue], root: Root) -> TextsBefore:
        """The command line without parameters that took effect at a boot since; files that came with them are not there."""
        line = (root.read(_CMDLINE).value or "").split()
        words = line
        texts: TextsBefore = {}
        for change in changes:
            now = [word for word in words if _name_of(word) == change.setting.name]
            if now == ([] if change.compare is Compare.ABSENT else [_word(change)]):
                words = [word for word in words if word not in now]
                if change.old is not None:
                    words += [_render(change.setting.name, change.old)]
                elif now:
                    texts |= dict.fromkeys(_FILES.get(now[0], ()))
        return texts | {_CMDLINE: " ".join(words)} if words != line else texts


class BootMenu(Command):
    """The boot loader's configuration is made again of its snippets, by update-grub."""

    journal_name = "grub"

    def describe(self, step: Step) -> str:
        return "write the boot menu again"

    def is_due(self, steps: Sequence[Step]) -> bool:
        return any(step.target.path.startswith(_GRUB_DIRECTORY) for step in steps)

    def write(self, step: Step, context: StepContext) -> str:
        from bedplate.act.run import find_program, run

        program = find_program("update-grub")
        if program is not None:
            run([program], timeout_s=_GRUB_S)
        return ""


KERNEL_PARAMETER = KernelParameter()
BOOT_MENU = BootMenu()


def _verify(change: Change, words: Sequence[str]) -> Verified:
    if change.compare is Compare.ABSENT:
        left = [word for word in words if _name_of(word) == change.setting.name]
        if left:
            return report(change, Held.PENDING, " ".join(left), "is removed at the next boot")
        return report(change, Held.HOLDS, None)
    if _word(change) in words:
        return report(change, Held.HOLDS, _word(change))
    return report(change, Held.PENDING, None, "takes effect at the next boot")


def _word(change: Change) -> str:
    return _render(change.setting.name, change.new)


def _render(name: str, value: str) -> str:
    return f"{name}={value}" if value else name


def _name_of(word: str) -> str:
    return word.partition("=")[0]


def _grub_lines(words: str, gone: list[str]) -> str:
    """Shell that update-grub reads after /etc/default/grub: parameters that go leave both variables, with any value."""
    lines = []
    if gone:
        names = "|".join(re.escape(name) for name in gone)
        for variable in ("GRUB_CMDLINE_LINUX", "GRUB_CMDLINE_LINUX_DEFAULT"):
            kept = f"tr ' ' '\\n' | grep -Ev '^({names})(=.*)?$' | paste -sd ' '"
            lines.append(f'{variable}="$(printf %s "${variable}" | {kept})"')
    if words:
        lines.append(f'GRUB_CMDLINE_LINUX_DEFAULT="$GRUB_CMDLINE_LINUX_DEFAULT {words}"')
    return "\n".join([*lines, ""])
