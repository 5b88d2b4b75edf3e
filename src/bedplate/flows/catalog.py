"""Bundles of rows: import, list, show and remove them, and sign them for others.

A bundle is verified before it is parsed, compared with the one of its name that is in force, and loaded together with all
other rows; only then it is put into its place.
"""

from __future__ import annotations

import hashlib
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bedplate.act.bundles import drop_bundle, hold_bundles, put_bundle
from bedplate.act.files import write_report
from bedplate.act.signatures import make_signing_key, read_public_key, sign_bytes, verify_bytes
from bedplate.catalog.bundle import (
    REFERENCE,
    BundleContent,
    SignedText,
    TrustedKey,
    compare_rows,
    identify_bundle,
    is_bundle_name,
    parse_bundle,
    parse_trusted_keys,
    render_key,
    render_signature,
    split_signature,
)
from bedplate.catalog.drop_ins import BUNDLES, DROP_INS, RowFile, RowKind, read_bundles, read_drop_ins
from bedplate.catalog.models import read_model_rows
from bedplate.catalog.stack import read_stack
from bedplate.catalog.strict import read_data, read_regular
from bedplate.errors import BedplateError, DataError, ReadError, UsageError
from bedplate.model.bundle import BundleChange, CatalogBundle, ListedBundle

TRUSTED_KEYS = Path("/etc/bedplate/catalog.keys")
_DAY_S = 86_400
_CORRECT = f"Nothing was signed. Correct the file, and sign it again; {REFERENCE} says what it holds."
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogPlaces:
    """Where a machine has its rows and the keys that it trusts."""

    drop_ins: Path = DROP_INS
    keys: Path = TRUSTED_KEYS

    @property
    def bundles(self) -> Path:
        """The directory of what was imported."""
        return self.drop_ins / BUNDLES


def find_places(root: Path) -> CatalogPlaces:
    """The places below another root directory."""
    return CatalogPlaces(drop_ins=root / DROP_INS.relative_to("/"), keys=root / TRUSTED_KEYS.relative_to("/"))


def import_bundle(path: Path, places: CatalogPlaces, *, dry_run: bool = False) -> BundleChange:
    """Put a bundle in force, whole or not at all; with dry_run only say what that would do.

    Raises ReadError for a bundle that is unsigned, signed by a key that is not trusted, changed or damaged; DataError for
    rows that are wrong or contradict others; UsageError for one that is older than what is in force; PreflightError without
    openssl; BusyError beside another import.
    """
    text = read_data(path)
    signed = split_signature(text, name=str(path))
    keys = read_trusted_keys(places)
    names = _trusted_names(signed, keys, str(path), places)
    verify_bytes(signed.content.encode(), signed.signature, signed.public, what=str(path))
    content = parse_bundle(text, name=str(path))
    _check_name(content, names, signed, str(path), places)
    bundle = identify_bundle(content, text)
    if dry_run:
        return _judge(path, text, content, bundle, places)
    with _writing(places.bundles), hold_bundles(places.bundles):
        change = _judge(path, text, content, bundle, places)
        if change.rows or change.replaced != bundle:
            put_bundle(places.bundles, bundle.name, text)
    return change


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Say of an OSError what could not be written; what is changed is whole or as it was."""
    try:
        yield
    except OSError as error:
        name = error.filename if isinstance(error.filename, str) else path
        hint = "Run the command as root." if isinstance(error, PermissionError) else None
        raise BedplateError(f"{name}: cannot write: {error.strerror or error}", hint=hint) from error


def _judge(path: Path, text: str, content: BundleContent, bundle: CatalogBundle, places: CatalogPlaces) -> BundleChange:
    """The change that the bundle makes to what is in force now. Raises UsageError, DataError, ReadError."""
    present = {Path(file.name).stem: file for file in read_bundles(places.drop_ins)}
    before = _read_present(present.get(bundle.name))
    replaced = before[1] if before is not None else None
    if replaced is not None:
        _refuse_older(path, bundle, replaced)
    candidate = RowFile(name=str(path), text=text)
    others = [file for name, file in sorted(present.items()) if name != bundle.name]
    try:
        _load(places.drop_ins, [*others, candidate])
    except DataError as error:
        raise DataError(error.problems, hint=f"Nothing was imported. {_import_hint(error, others, places)}") from error
    rows = compare_rows(before[0] if before is not None else None, content)
    return BundleChange(bundle=bundle, note=content.head.note, replaced=replaced, rows=rows)


def _import_hint(error: DataError, others: Sequence[RowFile], places: CatalogPlaces) -> str:
    """What to do about the problems: only its publisher can correct a bundle, and the owner what the owner has beside it."""
    owned = [*(path.name for path in places.drop_ins.glob("*.toml")), *(Path(file.name).name for file in others)]
    if any(f"{name}:" in problem for problem in error.problems for name in owned):
        return error.hint or ""
    return f"Whoever publishes it must correct the bundle; {REFERENCE} says what it holds."


def _read_present(file: RowFile | None) -> tuple[BundleContent, CatalogBundle] | None:
    """The bundle that is in force; None where there is none. Raises DataError: nothing says then which of two is newer."""
    if file is None:
        return None
    content = parse_bundle(file.text, name=file.name)
    return content, identify_bundle(content, file.text)


def _refuse_older(path: Path, bundle: CatalogBundle, replaced: CatalogBundle) -> None:
    hint = f"To go back, remove it first: bedplate catalog remove {bundle.name}"
    if bundle.sequence < replaced.sequence:
        raise UsageError(f"{path}: is {bundle.label}, older than {replaced.label}, which is in force", hint=hint)
    if bundle.sequence == replaced.sequence and bundle.sha256 != replaced.sha256:
        raise UsageError(
            f"{path}: is {bundle.label} with other content than the one of that number that is in force"
            f" (sha256 {bundle.sha256[:12]}, in force {replaced.sha256[:12]})",
            hint="Whoever publishes it must raise the sequence.",
        )
    if bundle.date < replaced.date:
        raise UsageError(
            f"{path}: is {bundle.label}, dated before {replaced.label}, which is in force",
            hint="Whoever publishes it must correct the date.",
        )


def _load(drop_ins: Path | None, bundles: Sequence[RowFile]) -> None:
    """Load all rows with these bundles, as `stack` and `fit` will. Raises DataError with the problems of all loaders."""
    problems: dict[str, None] = {}
    hints: list[str] = []
    for load in (
        lambda: read_stack(drop_ins=drop_ins, bundles=bundles),
        lambda: read_model_rows(read_drop_ins(RowKind.MODELS, drop_ins, bundles=bundles)),
    ):
        try:
            load()
        except DataError as error:
            problems.update(dict.fromkeys(error.problems))
            hints.append(error.hint or "")
    if problems:
        raise DataError(tuple(problems), hint=hints[0])


def read_trusted_keys(places: CatalogPlaces) -> tuple[TrustedKey, ...]:
    """The keys of catalog.keys; () where it is not there. Raises DataError, ReadError, also where others may write it."""
    path = places.keys
    try:
        status = path.stat()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ReadError(f"{path}: cannot read: {error.strerror}") from error
    if stat.S_ISREG(status.st_mode) and status.st_mode & _WRITABLE_BY_OTHERS:
        raise ReadError(
            f"{path}: has the mode {stat.S_IMODE(status.st_mode):04o}, so others than its owner could add a key",
            hint=f"Check its lines, then: chmod 0644 {path}",
        )
    return parse_trusted_keys(read_regular(path), name=str(path))


def _trusted_names(signed: SignedText, keys: Sequence[TrustedKey], name: str, places: CatalogPlaces) -> tuple[str, ...]:
    """The bundles that the key may sign. Raises ReadError for a key that is not trusted at all."""
    names = tuple(sorted({key.name for key in keys if key.public == signed.public}))
    if not names:
        raise ReadError(
            f"{name}: is signed with the key {render_key(signed.public)}, which {places.keys} does not have",
            hint=f"Compare it with what its publisher says in another place, then add it; {REFERENCE} says how.",
        )
    return names


def _check_name(content: BundleContent, names: Sequence[str], signed: SignedText, name: str, places: CatalogPlaces) -> None:
    bundle = content.head.name
    if bundle not in names:
        raise ReadError(
            f"{name}: is a bundle {bundle}, and {places.keys} trusts its key for {', '.join(names)} only",
            hint=f"If this key may sign it, add the line: {bundle} ed25519 {render_key(signed.public)}",
        )


def list_bundles(places: CatalogPlaces) -> tuple[ListedBundle, ...]:
    """The bundles that are in force, by name, each verified again. Raises ReadError, DataError, PreflightError."""
    keys = read_trusted_keys(places)
    return tuple(_listed(file, keys, places) for file in read_bundles(places.drop_ins))


def show_bundle(name: str, places: CatalogPlaces) -> ListedBundle:
    """One bundle that is in force. Raises UsageError where there is none of the name, else as `list_bundles`."""
    return _listed(_find(name, places), read_trusted_keys(places), places)


def _listed(file: RowFile, keys: Sequence[TrustedKey], places: CatalogPlaces) -> ListedBundle:
    stem = Path(file.name).stem
    bundle = CatalogBundle(name=stem, sequence=0, date="unknown", sha256=hashlib.sha256(file.text.encode()).hexdigest())
    note, rows, key, doubt = "", 0, "", ""
    try:
        content = parse_bundle(file.text, name=file.name)
        bundle, note, rows = identify_bundle(content, file.text), content.head.note, content.rows
        signed = split_signature(file.text, name=file.name)
        key = render_key(signed.public)
        names = _trusted_names(signed, keys, file.name, places)
        verify_bytes(signed.content.encode(), signed.signature, signed.public, what=file.name)
        _check_name(content, names, signed, file.name, places)
    except (ReadError, DataError) as error:
        doubt = error.message
    return ListedBundle(bundle=bundle, note=note, rows=rows, key=key, doubt=doubt, text=file.text)


def _find(name: str, places: CatalogPlaces) -> RowFile:
    files = {Path(file.name).stem: file for file in read_bundles(places.drop_ins)}
    if not is_bundle_name(name) or name not in files:
        there = f"There are: {', '.join(files)}." if files else "None was imported."
        raise UsageError(f"{name[:80]!r}: no bundle of this name is in force", hint=there)
    return files[name]


def remove_bundle(name: str, places: CatalogPlaces) -> BundleChange:
    """Take a bundle out of force, also one that no loader reads any more; the rows that it had are gone at once.

    What is wrong with the rows that stay is in `problems` and no reason to keep it: removing is the way out of a conflict.
    Its sequence is forgotten, so an older one of the name can be imported afterwards. Raises UsageError where there is none
    of the name, ReadError, BusyError, OSError.
    """
    _find(name, places)
    with _writing(places.bundles), hold_bundles(places.bundles):
        file = _find(name, places)
        try:
            content = parse_bundle(file.text, name=file.name)
        except DataError:
            content = None
        others = [other for other in read_bundles(places.drop_ins) if other.name != file.name]
        try:
            _load(places.drop_ins, others)
            problems: tuple[str, ...] = ()
        except DataError as error:
            problems = error.problems
        drop_bundle(places.bundles, name)
    bundle = CatalogBundle(name=name, sequence=0, date="unknown", sha256="")
    if content is not None:
        bundle = identify_bundle(content, file.text)
    return BundleChange(bundle=bundle, note="", replaced=None, rows=compare_rows(content, None), problems=problems)


def make_publisher_key(path: Path) -> str:
    """Make a private key at `path`; returns the public one as catalog.keys has it. Raises UsageError where one is."""
    with _writing(path):
        return render_key(make_signing_key(path))


def sign_bundle(source: Path, key: Path, output: Path) -> tuple[CatalogBundle, str]:
    """Write the bundle whose text is `source`, signed; returns it and the public key.

    The rows are loaded beside those that ship before anything is signed. Raises ReadError for the text and the key,
    DataError for rows that are wrong, UsageError for a text that is signed already, PreflightError without openssl.
    """
    text = read_data(source)
    text = text if text.endswith("\n") else f"{text}\n"
    if text.rpartition("\n# signature:")[1]:
        raise UsageError(f"{source}: has a signature already", hint="Remove its last line, and raise the sequence.")
    content = parse_bundle(text, name=str(source), hint=_CORRECT)
    tomorrow = time.strftime("%Y-%m-%d", time.gmtime(time.time() + _DAY_S))  # of whoever is ahead of UTC
    if content.head.date > tomorrow:
        raise UsageError(
            f"{source}: has the date {content.head.date}, which is to come; no bundle with an earlier one could follow it",
            hint="Correct bundle.date.",
        )
    try:
        _load(None, [RowFile(name=str(source), text=text)])
    except DataError as error:
        raise DataError(error.problems, hint=_CORRECT) from error
    public = read_public_key(key)
    signed = text + render_signature(public, sign_bytes(text.encode(), key))
    split_signature(signed, name=str(source))
    with _writing(output):
        write_report(output, signed)
    return identify_bundle(content, signed), render_key(public)
