"""The machine.toml that is served: never one that a boot is about to take back, and no edit by hand without a word.

Serving starts beside `bedplate config restore`, and both restart each other's units, so neither can wait for the other. What
tells a boot from an apply that runs is the timer: an apply arms it before it writes the first file, and that of an image is
gone after a boot (act/configuration/timer.py). Nothing is written here.
"""

from __future__ import annotations

from dataclasses import dataclass

from bedplate.act.configuration import timer
from bedplate.act.configuration.place import ConfigPlace
from bedplate.act.configuration.records import read_in_force, read_journal
from bedplate.errors import ReadError
from bedplate.host.root.root import Root
from bedplate.model.config_change import AppliedConfig
from bedplate.model.machine_config import MACHINE_FILES


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedConfig:
    """The text of /var's machine.toml that counts for serving."""

    text: str | None
    """None: no such file."""
    remarks: tuple[str, ...] = ()
    """What a person must see: a sentence for each record that is damaged, and for a file that was edited by hand."""


def read_served_config(root: Root) -> ServedConfig:
    """The first of MACHINE_FILES as `bedplate config restore` leaves it after a boot. Raises ReadError for that file alone.

    A damaged record does not keep the machine from serving: the file counts as it stands, and a remark says so.
    """
    path = MACHINE_FILES[0]
    place = ConfigPlace(top=root.at("/"))
    text = root.read_text(path)
    try:
        record, journal = read_in_force(place), read_journal(place)
    except ReadError as error:
        return ServedConfig(text=text, remarks=(f"{error.message}; {path} counts as it stands. {error.hint}",))
    if not timer.is_armed(place):
        if record is not None and record.waits:
            return ServedConfig(text=_before(record))
        if journal is not None and journal.after is not None and journal.after.waits and journal.after != record:
            old = {change.path: change.old for change in journal.changes}
            return ServedConfig(text=old.get(path, text))
    if record is None or journal is not None or _same(text, record.text):
        return ServedConfig(text=text)
    state = "is gone" if text is None else "was edited by hand"
    way_out = "Put it back: bedplate config restore. Or apply what you want: bedplate config apply FILE"
    remark = f"{path}: {state}: it differs from configuration {record.identity.number}, which is in force. {way_out}"
    return ServedConfig(text=text, remarks=(remark,))


def _before(record: AppliedConfig) -> str | None:
    """The text that comes back when this configuration is taken back."""
    if record.previous is not None:
        return record.previous.text
    return next((owned.before for owned in record.files if owned.file.path == MACHINE_FILES[0]), None)


def _same(text: str | None, wanted: str) -> bool:
    return text is not None and text.rstrip() == wanted.rstrip()
