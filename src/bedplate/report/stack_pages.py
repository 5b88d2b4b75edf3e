"""The pages of the reference that are made of the rows of the stack: what is known to go together, and what is not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bedplate.model.stack import CheckedBy, FactKind, ModuleBuild, StackCatalogue, StackDevice, StackFact, StackRelease
from bedplate.report.markdown import link_addresses, one_line, table_row

CHECKED = {
    CheckedBy.BUILT: "built or run by the authors",
    CheckedBy.METADATA: "read in the package, its metadata or an archive's list",
    CheckedBy.DOCUMENT: "stated by the vendor",
    CheckedBy.THREAD: "reported in a public thread",
}
_MATRIX = """\
What the resolver knows of kernels, drivers, frameworks and engines: the rows of `src/bedplate/catalog/stack/*.toml`. Files
in `/etc/bedplate/catalog.d` add rows ([how](../how-to/stack-rows.md)). A kernel is taken only with a driver whose module was
seen to build for it, so each row of the module table has an upper end. Nothing here was tried on a GPU unless a row says so.
"""
_KNOWN_BAD = """\
Combinations that should work and do not, each with its evidence. The resolver takes none of them, and names the row when a
wish is not possible because of it.
"""


def render_support_matrix(catalogue: StackCatalogue) -> str:
    """The page of devices, module builds, releases and rules, as Markdown; ends with a line end."""
    lines = ["# Support matrix", "", one_line(_MATRIX)]
    lines += ["| checked | meaning |", "|---|---|", *(f"| {name.value} | {text} |" for name, text in CHECKED.items()), ""]
    lines += ["## Accelerators", "", "| id | device | PCI ids | properties | needs | checked |", "|---|---|---|---|---|---|"]
    for device in catalogue.devices:
        lines.append(table_row(device.id, device.title, ", ".join(device.pci), *_terms(device), _checked(device)))
    lines += [
        "",
        "## Kernel modules that were seen to build",
        "",
        "| module | kernel | checked | evidence |",
        "|---|---|---|---|",
    ]
    lines += [
        table_row(_conditions(build.module), f"`{build.kernel.bounds}`", _checked(build), _evidence(build))
        for build in catalogue.modules
        if build.builds
    ]
    lines += ["", "## Sources", "", "| id | source | group | allowed |", "|---|---|---|---|"]
    for source in catalogue.sources:
        allowed = "always" if source.always else "by default" if source.default else "when the wish names it"
        lines.append(table_row(source.id, source.title, source.group, allowed))
    lines += ["", "## Releases", ""]
    for component in catalogue.components:
        releases = [release for release in catalogue.releases if release.component == component.id]
        lines += [f"### {component.id}", ""]
        if component.title != component.id:
            lines += [f"{component.title[0].upper()}{component.title[1:]}.", ""]
        lines += ["| version | source | properties | needs | checked |", "|---|---|---|---|---|"]
        lines += [_release(release) for release in releases]
        lines.append("")
    lines += ["## Rules", "", "| id | rule | when | needs | checked |", "|---|---|---|---|---|"]
    lines += [_fact(fact) for fact in catalogue.facts if fact.kind is FactKind.RULE]
    lines += ["", "## Cautions", "", "| id | caution | when | needs | checked |", "|---|---|---|---|---|"]
    lines += [_fact(fact) for fact in catalogue.facts if fact.kind is FactKind.CAUTION]
    return "\n".join(lines) + "\n"


def render_known_bad(catalogue: StackCatalogue) -> str:
    """The page of known-bad combinations, as Markdown; ends with a line end."""
    lines = ["# Known-bad combinations", "", one_line(_KNOWN_BAD).strip()]
    for fact in catalogue.facts:
        if fact.kind is FactKind.KNOWN_BAD:
            excluded = (
                f"{_conditions(fact.when)} without {_conditions(fact.needs)}" if fact.needs else _conditions(fact.when)
            )
            lines += _section(fact.id, fact.because, excluded, fact.advice, fact)
    for build in catalogue.modules:
        if not build.builds:
            lines += _section(build.id, build.because, f"{_conditions(build.module)}; `{build.kernel}`", "", build)
    return "\n".join(lines) + "\n"


def _section(id: str, because: str, excluded: str, advice: str, row: StackFact | ModuleBuild) -> Iterator[str]:
    yield from ("", f"## {id}", "", f"{because[0].upper()}{because[1:]}.", "")
    yield f"- Excluded: {excluded}"
    if advice:
        yield f"- Instead: {advice}"
    yield f"- Checked: {_checked(row)}"
    yield f"- Evidence: {_evidence(row)}"


def _release(release: StackRelease) -> str:
    return table_row(release.version, release.source, *_terms(release), _checked(release))


def _terms(row: StackDevice | StackRelease) -> tuple[str, str]:
    """The cells of its properties and of what it needs."""
    properties = "; ".join(f"{name}: {', '.join(values)}" for name, values in row.properties.items())
    return properties, "; ".join(f"`{need}`" for need in row.needs)


def _fact(fact: StackFact) -> str:
    return table_row(fact.id, fact.because, _conditions(fact.when), _conditions(fact.needs), _checked(fact))


def _conditions(conditions: Iterable[object]) -> str:
    return ", ".join(f"`{condition}`" for condition in conditions)


def _evidence(row: StackFact | ModuleBuild) -> str:
    return link_addresses("; ".join(row.evidence))


def _checked(row: StackDevice | StackRelease | StackFact | ModuleBuild) -> str:
    return f"{row.checked}, {row.date}"
