"""Facts and findings to show and to give away, by the rules by which recordings are made: one place before any rendering.

A secret is hidden in all of them. Names of hosts and people are replaced where a recording replaces them too: in command
lines, mounts and files of settings; what says where a device is stays, since a report is there to be acted on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, cast

from bedplate.host.record.kernel_log import redact_message, shown_name
from bedplate.host.record.redact import Redactor
from bedplate.host.record.trim import redact_argv, redact_mount, redact_parameters, trim
from bedplate.host.secrets.secret_names import HIDDEN
from bedplate.host.secrets.secrets import hide_secrets_in
from bedplate.model.audit import Audit
from bedplate.model.facts.finding import Finding
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.kernel_log import KernelLog
from bedplate.model.facts.reading import Reading
from bedplate.model.facts.stack import InstalledStack

T = TypeVar("T")
_NUMBERS = {int, float, bool, type(None)}


def redact_facts(facts: HostFacts, redactor: Redactor) -> HostFacts:
    """The facts as they would be read in a recording of the machine, but for numbers of devices and names of places."""
    engines = tuple(
        replace(
            engine,
            argv=redact_argv(engine.argv, redactor),
            model_paths=tuple(redactor.path(path) for path in engine.model_paths),
        )
        for engine in facts.engines
    )
    accelerators = tuple(
        replace(accelerator, processes=tuple((pid, redactor.path(name), size) for pid, name, size in accelerator.processes))
        for accelerator in facts.accelerators
    )
    return hide_in_facts(
        replace(
            facts,
            engines=engines,
            accelerators=accelerators,
            kernel=replace(facts.kernel, cmdline=redact_parameters(facts.kernel.cmdline, redactor)),
            frameworks=replace(
                facts.frameworks,
                environment=tuple((name, redactor.path(value)) for name, value in facts.frameworks.environment),
            ),
            engine_notes=tuple(
                replace(note, text=redactor.words(note.text), source=redactor.words(note.source))
                for note in facts.engine_notes
            ),
            mounts=tuple(redact_mount(mount, redactor) for mount in facts.mounts),
            knobs=tuple(_redact_setting(reading, redactor) for reading in facts.knobs),
            kernel_log=_redact_log(facts.kernel_log, redactor),
            stack=_redact_stack(facts.stack, redactor),
        )
    )


def redact_quotes(conclusions: Audit, facts: HostFacts, redactor: Redactor) -> Audit:
    """What was concluded of these facts, with the messages of the kernel that it quotes as a recording has them."""
    events = facts.kernel_log.events
    quotes = {event.text: redact_message(event.text, redactor) for event in events}
    quotes |= {event.subject: redactor.words(event.subject) for event in events}
    changed = {raw: clean for raw, clean in quotes.items() if raw != clean and len(raw) > 3}
    if changed:
        conclusions = hide_everywhere(conclusions, _Hider(changed))
    hidden = {event.process for event in events if shown_name(event.process) != event.process}
    return replace(conclusions, findings=tuple(_without_names(finding, hidden) for finding in conclusions.findings))


def _without_names(finding: Finding, names: Collection[str]) -> Finding:
    """A finding of the kernel's log whose title names a process that is nobody's business."""
    name = next((name for name in names if finding.id.startswith("kernel.") and name in finding.title), None)
    return finding if name is None else replace(finding, title=finding.title.replace(name, "A process"))


def _redact_log(log: KernelLog, redactor: Redactor) -> KernelLog:
    events = tuple(
        replace(
            event,
            text=redact_message(event.text, redactor),
            subject=redactor.words(event.subject),
            process=shown_name(event.process),
        )
        for event in log.events
    )
    return replace(log, events=events)


def _redact_stack(stack: InstalledStack, redactor: Redactor) -> InstalledStack:
    """Without names of people in paths, and of hosts in the sources of packages and in the pins that name them."""
    sources = stack.sources
    if sources.value is not None:
        sources = replace(sources, value=tuple(replace(source, uri=redactor.words(source.uri)) for source in sources.value))
    pins = tuple(
        replace(pin, value=_redact_origin(pin.value, redactor) if pin.kind == "origin" else redactor.words(pin.value))
        for pin in stack.pins
    )
    return hide_everywhere(replace(stack, sources=sources, pins=pins), redactor.path)


def _redact_origin(value: str, redactor: Redactor) -> str:
    host = value.strip("\"'")
    return value.replace(host, redactor.host(host)) if host else value


def hide_in_facts(facts: HostFacts) -> HostFacts:
    """The facts without what looks like a secret by itself, in whatever field; identifiers stay.

    Files of settings stay as they are: a secret of theirs is known by the rule of the file only, over several lines.
    """
    return replace(hide_everywhere(replace(facts, knobs=()), _Hider({})), knobs=facts.knobs)


def hide_in_conclusions(conclusions: T, facts: HostFacts, *, rows: Iterable[Any] = ()) -> T:
    """What was concluded of these facts, as they were read, without the secrets that it quotes of them.

    rows are those of the catalogue: a text that stands in one, word for word, is of no machine, and stays.
    """
    return hide_everywhere(conclusions, _Hider(_find_quotes(facts), rows=tuple(rows)))


def _texts_in(value: Any) -> Iterator[str]:
    """Every text in rows: dataclasses and tuples."""
    if isinstance(value, str):
        yield value
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from _texts_in(getattr(value, field.name))
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _texts_in(part)


class _Hider:
    """Hides in texts: what is known to hold a secret, wherever it is quoted, and what looks like one."""

    def __init__(self, quotes: dict[str, str], *, rows: tuple[Any, ...] = ()) -> None:
        self._quotes = sorted(quotes.items(), key=lambda quote: -len(quote[0]))
        self._rows = rows
        self._own: frozenset[str] | None = None
        self._seen: dict[str, str] = {}

    def __call__(self, text: str) -> str:
        clean = self._seen.get(text)
        if clean is None:
            clean = text
            for raw, hidden in self._quotes:
                clean = clean.replace(raw, hidden)
            clean = "\n".join(hide_secrets_in(line) for line in clean.split("\n"))
            clean = self._seen[text] = text if clean == text or self._is_own(text) else clean
        return clean

    def _is_own(self, text: str) -> bool:
        """Whether a row has the text; the thousands of texts of all rows are gathered when it is first asked, seldom."""
        if self._own is None:
            self._own = frozenset(_texts_in(self._rows))
        return text in self._own


def hide_everywhere(value: T, hide: Callable[[str], str]) -> T:
    """The same value, of dataclasses and tuples, with each text in it hidden; parts without a change stay as they are."""
    return cast(T, _hide(value, hide))


def _hide(value: Any, hide: Callable[[str], str]) -> Any:
    if type(value) is str:
        return hide(value)
    if type(value) is tuple:
        if not set(map(type, value)) - _NUMBERS:  # CPUs by the thousand
            return value
        parts = tuple([_hide(part, hide) for part in value])
        return parts if any(part is not old for part, old in zip(parts, value, strict=True)) else value
    if not is_dataclass(value) or isinstance(value, type):
        return value
    changed = {}
    for field in fields(value):
        old = getattr(value, field.name)
        if (new := _hide(old, hide)) is not old:
            changed[field.name] = new
    return replace(value, **changed) if changed else value


def _redact_setting(reading: Reading[str], redactor: Redactor) -> Reading[str]:
    """A file that a knob is read in, by the rule of its path; its text is its beginning, which may be cut anywhere."""
    value = reading.value if reading.value is None else _trim_text(reading.source, reading.value, redactor)
    text = (
        value if reading.text == reading.value and value is not None else _trim_text(reading.source, reading.text, redactor)
    )
    return replace(reading, source=redactor.path(reading.source), value=value, text=text)


def _trim_text(path: str, text: str, redactor: Redactor) -> str:
    if not text:
        return text
    data = text.encode("utf-8", errors="surrogateescape")
    return trim(path, data, redactor).decode("utf-8", errors="surrogateescape").rstrip("\n")


def _find_quotes(facts: HostFacts) -> dict[str, str]:
    """What a recording hides a secret in, and what it has in its place: parameters, lines of settings, sources of mounts."""
    redactor = Redactor()
    quotes = {word: " ".join(redact_parameters((word,), redactor)) for word in facts.kernel.cmdline}
    for mount in facts.mounts:
        clean = redact_mount(mount, redactor)
        quotes[mount.source] = clean.source
        quotes[mount.point] = clean.point
    files = (reading for reading in facts.knobs if reading.value and not reading.source.startswith(("/proc/", "/sys/")))
    for reading in files:
        if reading.value and HIDDEN in (clean_text := _trim_text(reading.source, reading.value, redactor)):
            quotes[reading.value] = clean_text
            quotes |= {line: _trim_text(reading.source, line, redactor) for line in reading.value.splitlines()}
    return {raw: clean for raw, clean in quotes.items() if HIDDEN in clean and raw != clean and len(raw) > 3}
