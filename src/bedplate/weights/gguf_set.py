"""Which GGUF files make one model: the parts of a split one, one of several quantisations, and what belongs beside it.

A repository of GGUF files holds a model in many quantisations, each in one file or in parts, and beside them a projector
(mmproj) for images, adapters and importance matrices. What the files are is read from their headers; of names only that of
parts counts, since engines find the other parts by it.
"""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bedplate.errors import BedplateError, ModelRefused, UsageError
from bedplate.model.modelfile import FileRole, GgufFile, Header
from bedplate.model.units import render_size
from bedplate.weights.gguf import check_tokenizer, quantisation_of, read_gguf_file

PART_NAME = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")
"""How engines find the parts of a split model (llama_split_prefix() of llama.h): PREFIX-00001-of-00003.gguf."""
NO_FILE = "none"
"""Instead of a projector's name: leave out one that lies beside the model."""
_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufSet:
    """One model of GGUF files."""

    header: Header
    """Of all parts together."""
    parts: tuple[Path, ...]
    """The file that an engine is given first."""
    projector: Path | None
    adapters: tuple[Path, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """All that goes into the store."""
        return (*self.parts, *((self.projector,) if self.projector is not None else ()), *self.adapters)


@dataclass(slots=True, kw_only=True)
class _Model:
    """A model among the files: its parts by number, and why a file of it cannot be taken."""

    label: str
    parts: dict[int, tuple[Path, GgufFile]] = field(default_factory=dict)
    wanted: int = 1
    problem: BedplateError | None = None

    @property
    def size_bytes(self) -> int:
        return sum(file.header.size_bytes for _, file in self.parts.values())

    def describe(self) -> str:
        """ "Q4_K_M, 4.1 GiB: model-Q4_K_M.gguf"."""
        headers = [file.header for _, file in self.parts.values()]
        what = quantisation_of([tensor for header in headers for tensor in header.tensors]) or "no weights"
        count = f" in {self.wanted} parts" if self.wanted > 1 else ""
        return f"{what}, {render_size(self.size_bytes)}{count}: {self.label}"


def find_gguf_set(
    files: Sequence[Path],
    where: str,
    *,
    within: tuple[Path, ...] = (),
    choice: str = "",
    projector: str = "",
    adapters: Sequence[Path] = (),
) -> GgufSet:
    """The one model among files of a directory, or the one that `choice` names: a file, or a part of its name ("Q4_K_M").

    projector: a file's name, NO_FILE, or "" for the only one that is there. adapters: LoRA files, wherever they lie. within:
    as of open_regular. Raises ModelRefused for no model, several of which none is chosen, and files that are not whole.
    """
    models: dict[str, _Model] = {}
    projectors: dict[Path, GgufFile] = {}
    refused: list[BedplateError] = []
    broken: list[tuple[Path, BedplateError]] = []
    for path in dict.fromkeys(files):
        try:
            file = read_gguf_file(path, within=within)
        except BedplateError as error:
            refused.append(error)
            broken.append((path, error))
            models[path.name] = _Model(label=path.name, problem=error)
            continue
        if file.role is FileRole.PROJECTOR:
            projectors[path] = file
        elif file.role is FileRole.MODEL:
            _take_part(models, path, file)
    model = _choose(models, choice, where, refused)
    parts = _check_parts(model, where, {path.name: problem for path, problem in broken})
    loras = tuple(_check_adapter(path, within, parts[0][1]) for path in adapters)
    seen = _choose_projector(tuple(projectors), projector, where)
    if seen is not None:
        _check_fit(seen, projectors[seen], parts[0][1])
    return GgufSet(header=_join(parts, seen, loras), parts=tuple(path for path, _ in parts), projector=seen, adapters=loras)


def list_adapters(files: Sequence[Path]) -> tuple[Path, ...]:
    """Those of the files that are LoRA adapters; files that cannot be read are none."""
    found: list[Path] = []
    for path in files:
        with contextlib.suppress(BedplateError):
            if read_gguf_file(path).role is FileRole.ADAPTER:
                found.append(path)
    return tuple(found)


def siblings_of(path: Path) -> tuple[Path, ...]:
    """All files of the directory that are parts of the same split model as this one; the file alone where it is whole."""
    found = PART_NAME.fullmatch(path.name)
    if found is None:
        return (path,)
    prefix, count = found[1], found[3]
    return tuple(
        sorted(
            other
            for other in path.absolute().parent.iterdir()
            if (match := PART_NAME.fullmatch(other.name)) is not None and (match[1], match[3]) == (prefix, count)
        )
    )


def _take_part(models: dict[str, _Model], path: Path, file: GgufFile) -> None:
    if file.parts == 1:
        models[path.name] = _Model(label=path.name, parts={1: (path, file)})
        return
    named = PART_NAME.fullmatch(path.name)
    if named is None or (int(named[2]), int(named[3])) != (file.part, file.parts):  # engines want ".gguf" in small letters
        expected = f"NAME-{file.part:05d}-of-{file.parts:05d}.gguf"
        problem = ModelRefused(
            f"{path.name}: is part {file.part} of {file.parts}, which engines find only under the name {expected}",
            hint="Give the file this name.",
        )
        models[path.name] = _Model(label=path.name, problem=problem)
        return
    first = f"{named[1]}-00001-of-{named[3]}.gguf"
    model = models.setdefault(f"parts of {first}", _Model(label=first, wanted=file.parts))
    model.parts[file.part] = (path, file)


def _choose(models: dict[str, _Model], choice: str, where: str, refused: Sequence[BedplateError]) -> _Model:
    there = list(models.values())
    if choice:
        wanted = choice.lower()
        found = [model for model in there if wanted in (model.label.lower(), model.label.lower().removesuffix(".gguf"))]
        found = found or [model for model in there if any(path.name == choice for path, _ in model.parts.values())]
        found = found or [model for model in there if wanted in model.label.lower()]
        if not found:
            raise UsageError(f"--file {choice}: no model in {where} has this in its name; {_listed(there)}")
    else:
        found = there
    found = [model for model in found if model.problem is None] or found
    if len(found) == 1:
        return found[0]
    if not any(model.problem is None for model in found) and (problems := [*refused, *(model.problem for model in found)]):
        raise next(problem for problem in problems if problem is not None)
    if not found:
        raise ModelRefused(f"{where}: contains no model", hint="Add a GGUF file, or a directory that holds a model.")
    raise ModelRefused(
        f"{where}: contains {len(found)} models; {_listed(found)}",
        hint=f"Choose one: bedplate model add {shlex.quote(where)} --file={shlex.quote(found[0].label)}",
    )


def _listed(models: Sequence[_Model]) -> str:
    whole = [model for model in models if model.problem is None]
    lines = [model.describe() for model in sorted(whole, key=lambda model: model.size_bytes)[:_SHOWN]]
    more = [f"and {len(whole) - _SHOWN} more"] if len(whole) > _SHOWN else []
    return "\n  ".join(["there are:", *lines, *more]) if lines else "there is none"


def _check_parts(model: _Model, where: str, broken: dict[str, BedplateError]) -> list[tuple[Path, GgufFile]]:
    if model.problem is not None:
        raise model.problem
    missing = [number for number in range(1, model.wanted + 1) if number not in model.parts]
    for number in missing:
        if (problem := broken.get(model.label.replace("-00001-of-", f"-{number:05d}-of-"))) is not None:
            raise problem
    if missing:
        names = ", ".join(model.label.replace("-00001-of-", f"-{number:05d}-of-") for number in missing[:5])
        raise ModelRefused(
            f"{where}: {len(missing)} of {model.wanted} parts are missing: {names}", hint="Download the missing parts."
        )
    parts = [model.parts[number] for number in sorted(model.parts)]
    wanted = parts[0][1].tensors_in_all
    found = sum(len(file.header.tensors) for _, file in parts)
    if model.wanted > 1 and wanted and wanted != found:
        raise ModelRefused(
            f"{where}: the parts of {model.label} hold {found} tensors, the first part announces {wanted}",
            hint="The parts belong to different models, or one is damaged; download them again.",
        )
    check_tokenizer(parts[0][1], parts[0][0].name)
    return parts


def _check_adapter(path: Path, within: tuple[Path, ...], model: GgufFile) -> Path:
    file = read_gguf_file(path, within=within if any(path.is_relative_to(directory) for directory in within) else ())
    if file.role is not FileRole.ADAPTER:
        raise ModelRefused(f"{path}: is a {file.role}, not a LoRA adapter", hint="Give the adapter with --lora.")
    if file.header.architecture != model.header.architecture:
        raise ModelRefused(
            f"{path}: was made for a model of architecture {file.header.architecture!r}, this one is of"
            f" {model.header.architecture!r}",
            hint="Add it with the model that it was made for.",
        )
    return path


def _choose_projector(projectors: Sequence[Path], wanted: str, where: str) -> Path | None:
    if wanted == NO_FILE:
        return None
    names = ", ".join(path.name for path in projectors) or "none"
    if wanted:
        for path in projectors:
            if wanted == path.name or Path(wanted) == path:
                return path
        raise UsageError(f"--mmproj {wanted}: is not a projector in {where}; it has: {names}")
    if len(projectors) > 1:
        raise ModelRefused(
            f"{where}: {len(projectors)} projectors (mmproj): {names}",
            hint=f"Choose one with --mmproj NAME, or none with --mmproj {NO_FILE}.",
        )
    return projectors[0] if projectors else None


def _check_fit(path: Path, projector: GgufFile, model: GgufFile) -> None:
    """Raise ModelRefused for a projector whose vectors are not as long as those of the model.

    Files of before 2025 have another length in the header (CLIP's own, 768), so that a layer outside of the encoder's blocks
    that has the model's length counts as well. Source: mtmd_context of llama.cpp, which compares both and ends.
    """
    wanted, made = model.embedding_length, projector.embedding_length
    if not wanted or not made or wanted == made:
        return
    behind = (tensor for tensor in projector.header.tensors if not tensor.name.startswith(("v.blk.", "a.blk.")))
    if not any(wanted in tensor.shape for tensor in behind):
        raise ModelRefused(
            f"{path}: makes vectors of {made} numbers, the model reads vectors of {wanted}: it is another model's projector",
            hint=f"Get the projector of this model, or leave it out with --mmproj {NO_FILE}.",
        )


def _join(parts: Sequence[tuple[Path, GgufFile]], projector: Path | None, adapters: Sequence[Path]) -> Header:
    """The first part's header with what all parts hold; sizes with what is loaded beside them."""
    headers = [file.header for _, file in parts]
    tensors = tuple(tensor for header in headers for tensor in header.tensors)
    beside = sum(path.stat().st_size for path in (*((projector,) if projector is not None else ()), *adapters))
    return replace(
        headers[0],
        parameters=sum(header.parameters for header in headers),
        quantisation=headers[0].quantisation if len(parts) == 1 else quantisation_of(tensors),
        size_bytes=sum(header.size_bytes for header in headers) + beside,
        tensors=tensors,
    )
