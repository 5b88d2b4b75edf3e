"""Records of proofs: one JSON file each, what is still valid of them, and what expired and why."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bedplate.act.files import write_whole
from bedplate.act.paths import STATE_HINT
from bedplate.catalog.strict import build_row
from bedplate.errors import PreflightError, ReadError
from bedplate.model.proof import Conditions, Judgement, Proof
from bedplate.plan.proofs import why_expired

DIRECTORY = Path("/var/lib/bedplate/proofs")
_SCHEMA = 1
_LIMIT_BYTES = 64 << 20
_MOST = 1024  # records that are read; the newest
_DIGITS = 6  # of seconds: microseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One proof and the file that keeps it; `expired` is "" too where it was read without conditions to compare with."""

    path: Path
    proof: Proof
    expired: str
    """Why it does not hold any more; "" when it does."""


def render_proof(proof: Proof) -> str:
    """The record as JSON text; numbers of samples are rounded to microseconds."""
    record = {"schema": _SCHEMA, **dataclasses.asdict(proof)}
    record["samples"] = _rounded(record["samples"])  # effects keep all digits: a p of 1e-7 is not 0
    return json.dumps(record, allow_nan=False) + "\n"


def parse_proof(text: str, where: str) -> Proof:
    """The proof of a JSON text. Raises ReadError naming the file and everything that is wrong with it."""
    hint = "Remove it, and prove the change again."
    try:
        record = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ReadError(f"{where}: is not JSON: {error}", hint=hint) from error
    if not isinstance(record, dict) or record.pop("schema", None) != _SCHEMA:
        raise ReadError(f"{where}: expected an object with schema {_SCHEMA}", hint=hint)
    problems: list[str] = []
    proof = build_row(record, Proof, where=where, problems=problems)
    if proof is None:
        raise ReadError("\n".join(problems[:10]), hint=hint)
    return proof


def write_proof(proof: Proof, directory: Path) -> Path:
    """Keep it, whole or not at all; returns the file. Raises PreflightError when it cannot be written.

    The name holds the time and a digest of the record.
    """
    text = render_proof(proof)
    name = f"{proof.made.replace(':', '').replace('-', '')}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
    file = directory / name
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_whole(file, text, sync=True)
    except OSError as error:
        raise PreflightError(f"{file}: cannot be written: {error.strerror or error}", hint=STATE_HINT) from error
    return file


def read_proofs(directory: Path, now: Conditions | None = None) -> tuple[Record, ...]:
    """All records, oldest first; () without a directory. With `now`, each says whether it still holds.

    The engine is compared only where both proofs are of the same kind of victim: a plan for llama.cpp may rest on a proof by
    the dispatch loop. Raises ReadError for a file that is no record, PreflightError for the directory.
    """
    try:
        files = sorted(path for path in directory.iterdir() if path.suffix == ".json" and not path.name.startswith("."))
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise PreflightError(f"{directory}: cannot be read: {error.strerror or error}", hint=STATE_HINT) from error
    found: list[Record] = []
    for path in files[-_MOST:]:
        try:
            if path.stat().st_size > _LIMIT_BYTES:
                raise ReadError(f"{path}: is longer than {_LIMIT_BYTES >> 20} MiB")
            proof = parse_proof(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise ReadError(f"{path}: cannot be read: {error}") from error
        found.append(Record(path=path, proof=proof, expired=why_expired(proof, now) if now is not None else ""))
    return tuple(found)


def valid_proofs(directory: Path, now: Conditions) -> tuple[Proof, ...]:
    """What a plan may rest on: the newest verdict of each subject, antagonist and victim that holds here now.

    A refused experiment says nothing and replaces nothing.
    """
    newest: dict[tuple[object, ...], Proof] = {}
    for record in read_proofs(directory, now):
        proof = record.proof
        if not record.expired and proof.judgement is not Judgement.REFUSED:
            newest[proof.subject, proof.antagonists, proof.victim] = proof
    return tuple(newest.values())


def proofs_directory(state: Path) -> Path:
    """Where records are kept: of the whole machine for root, of this user else, and where BEDPLATE_STATE_DIR says so."""
    return DIRECTORY if os.geteuid() == 0 and "BEDPLATE_STATE_DIR" not in os.environ else state / "proofs"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, _DIGITS)
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return [_rounded(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")
