"""Which files of a repository make the model that is wanted, by their names and sizes alone. Pure.

What the files are is read from their beginnings afterwards; here only few are chosen, since a repository of GGUF files has
the same model twenty times.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from bedplate.errors import ModelRefused, UsageError
from bedplate.model.launch import Format
from bedplate.model.pulling import Repository, RepositoryFile
from bedplate.model.units import render_size
from bedplate.weights.gguf_set import NO_FILE, PART_NAME

_SHOWN = 40
_SMALL_BYTES = 64 << 20  # of a file beside safetensors: tokenizer.json of the largest vocabulary has 35 MB
_BESIDE = re.compile(r".+\.(json|jinja|txt|model|md)|LICENSE.*|NOTICE.*", re.IGNORECASE)  # as of weights/source.py


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The files to fetch, the first part of the model before the others."""

    format: Format
    files: tuple[RepositoryFile, ...]

    @property
    def size_bytes(self) -> int:
        """Of all files together."""
        return sum(file.size_bytes for file in self.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Offer:
    """One model among GGUF files: a whole file, or all parts that are there."""

    label: str
    parts: tuple[RepositoryFile, ...]
    wanted: int

    def describe(self) -> str:
        """ "4.1 GiB: model-Q4_K_M.gguf"."""
        count = f" in {self.wanted} parts" if self.wanted > 1 else ""
        return f"{render_size(sum(part.size_bytes for part in self.parts))}{count}: {self.label}"


def choose_files(repository: Repository, *, pattern: str = "", projector: str = "") -> Choice:
    """The one model of a repository, or the one that `pattern` names: a path, a part of one ("Q4_K_M"), or "*Q4_K_M*".

    projector: a file's name, "none", or "" for the only one. Raises ModelRefused that lists what is there where that is not
    one model, UsageError for a pattern or projector that nothing has.
    """
    where = str(repository.source)
    offers, projectors = _list_gguf(repository.files)
    if not offers:
        if pattern or projector:
            raise UsageError(f"{where}: has no GGUF model; --file and --mmproj choose among those")
        return Choice(format=Format.SAFETENSORS, files=_safetensors(repository))
    offer = _choose(offers, pattern, where)
    if len(offer.parts) != offer.wanted:
        raise ModelRefused(
            f"{where}: {offer.label}: has {len(offer.parts)} of {offer.wanted} parts", hint="Choose another with --file."
        )
    seeing = _choose_projector(projectors, projector, where)
    files = (*offer.parts, *((seeing,) if seeing is not None else ()))
    if len({file.name for file in files}) != len(files):
        raise ModelRefused(f"{where}: {offer.label}: two of its files have the same name")
    return Choice(format=Format.GGUF, files=files)


def _list_gguf(files: Sequence[RepositoryFile]) -> tuple[list[_Offer], list[RepositoryFile]]:
    parts: dict[str, list[RepositoryFile]] = {}
    counts: dict[str, int] = {}
    projectors: list[RepositoryFile] = []
    for file in files:
        name = file.name.lower()
        if not name.endswith(".gguf") or "imatrix" in name:
            continue
        if "mmproj" in name:
            projectors.append(file)
            continue
        found = PART_NAME.fullmatch(file.name)
        directory = file.path.removesuffix(file.name)
        label = f"{directory}{found[1]}-00001-of-{found[3]}.gguf" if found is not None else file.path
        counts[label] = int(found[3]) if found is not None else 1
        parts.setdefault(label, []).append(file)
    offers = [_Offer(label=label, parts=tuple(parts[label]), wanted=counts[label]) for label in parts]
    return offers, projectors


def _choose(offers: Sequence[_Offer], pattern: str, where: str) -> _Offer:
    found = list(offers)
    if pattern:
        wanted = pattern.lower()
        names = {offer.label: [part.path.lower() for part in offer.parts] for offer in offers}
        ends = (wanted, f"{wanted}.gguf")
        found = [
            offer for offer in offers if any(path in ends or path.rpartition("/")[2] in ends for path in names[offer.label])
        ]
        glob = wanted if re.search(r"[*?\[]", wanted) else f"*{wanted}*"
        found = found or [offer for offer in offers if any(fnmatchcase(path, glob) for path in names[offer.label])]
        if not found:
            raise UsageError(f"--file {pattern}: no model in {where} has this in its name; {_listed(offers)}")
    if len(found) == 1:
        return found[0]
    raise ModelRefused(
        f"{where}: has {len(found)} models{f' with {pattern} in their names' if pattern else ''}; {_listed(found)}",
        hint=f"Choose one: bedplate model pull {where} --file={sorted(found, key=_size)[0].label}",
    )


def _size(offer: _Offer) -> int:
    return sum(part.size_bytes for part in offer.parts)


def _listed(offers: Sequence[_Offer]) -> str:
    lines = [offer.describe() for offer in sorted(offers, key=_size)[:_SHOWN]]
    more = [f"and {len(offers) - _SHOWN} more"] if len(offers) > _SHOWN else []
    return "\n  ".join(["there are:", *lines, *more])


def _choose_projector(projectors: Sequence[RepositoryFile], wanted: str, where: str) -> RepositoryFile | None:
    if wanted == NO_FILE or (not projectors and not wanted):
        return None
    names = ", ".join(file.path for file in projectors) or "none"
    if wanted:
        for file in projectors:
            if wanted in (file.path, file.name):
                return file
        raise UsageError(f"--mmproj {wanted}: is not a projector in {where}; it has: {names}")
    if len(projectors) > 1:
        raise ModelRefused(
            f"{where}: {len(projectors)} projectors (mmproj): {names}",
            hint=f"Choose one with --mmproj NAME, or none with --mmproj {NO_FILE}.",
        )
    return projectors[0]


def _safetensors(repository: Repository) -> tuple[RepositoryFile, ...]:
    """What Transformers reads: the weights at the top, with what is small beside them. Code and pickles stay out."""
    top = [file for file in repository.files if "/" not in file.path]
    weights = [file for file in top if file.name.endswith(".safetensors")]
    if len(weights) > 1:  # Mistral's second layout of the same weights; weights/safetensors.py leaves it out as well
        weights = [file for file in weights if not file.name.startswith("consolidated")] or weights
    if not weights or not any(file.name == "config.json" for file in top):
        kinds = sorted({file.name.rpartition(".")[2] for file in repository.files if "." in file.name})[:20]
        raise ModelRefused(
            f"{repository.source}: has no GGUF file, and no safetensors beside a config.json; it has: {', '.join(kinds)}",
            hint="Look for the same model as GGUF. Pickles (.bin, .pt) are not fetched: loading one can run any code.",
        )
    beside = [file for file in top if _BESIDE.fullmatch(file.name) and file.size_bytes <= _SMALL_BYTES]
    return (*beside, *weights)
