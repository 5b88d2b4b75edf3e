"""All kinds: whoever adds one writes its class and adds its row here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from bedplate.act.tuning.kinds.generated_file import DIRECTORY, GENERATED_FILE, find_marked
from bedplate.act.tuning.kinds.kernel_file import KERNEL_FILE
from bedplate.act.tuning.kinds.kernel_parameter import BOOT_MENU, KERNEL_PARAMETER
from bedplate.act.tuning.kinds.keyed_kernel_file import KEYED_KERNEL_FILE
from bedplate.act.tuning.kinds.kind import Command, SettingKind, StepKind
from bedplate.act.tuning.kinds.unit_property import SYSTEMD_RELOAD, UNIT_PROPERTY
from bedplate.host.root.root import Root
from bedplate.model.tuning import Change, Setting

SETTING_KINDS: tuple[SettingKind, ...] = (UNIT_PROPERTY, KEYED_KERNEL_FILE, KERNEL_FILE, KERNEL_PARAMETER)
"""In the order in which their generated files are written. Of two that own a setting the first counts."""

COMMANDS: tuple[Command, ...] = (SYSTEMD_RELOAD, BOOT_MENU)
"""In the order in which they run."""

STEP_KINDS: tuple[StepKind, ...] = (DIRECTORY, GENERATED_FILE, *COMMANDS, KEYED_KERNEL_FILE, KERNEL_FILE)
"""Of two with one name in journals the first that owns the path counts."""


def kind_of(setting: Setting) -> SettingKind:
    """The kind that checks, makes and verifies this setting."""
    return next(kind for kind in SETTING_KINDS if kind.owns(setting))


def by_kind(changes: Sequence[Change]) -> Iterator[tuple[SettingKind, list[Change]]]:
    """Each kind that has any of the changes, with those, in the order of the registry."""
    for kind in SETTING_KINDS:
        found = [change for change in changes if kind_of(change.setting) is kind]
        if found:
            yield kind, found


def step_kind(journal_name: str, path: str) -> StepKind:
    """The kind of a step of a journal. Raises ValueError for a name that this bedplate does not know."""
    for kind in STEP_KINDS:
        if kind.journal_name == journal_name and kind.owns_path(path):
            return kind
    raise ValueError(f"{journal_name!r} is not a kind of step")


def find_forgotten(root: Root) -> tuple[Path, ...]:
    """Generated files of any kind that are there, for `uninstall`: after an undo no journal knows of them."""
    return find_marked(root, [pattern for kind in SETTING_KINDS for pattern in kind.generated])
