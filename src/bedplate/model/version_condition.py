"""Conditions on one component of a stack, as rows and wishes write them: "nvidia-driver >=580", "root.glibc >=2.35".

A condition is a component, or one property of it, and alternatives divided by "|"; an alternative is bounds divided by ",".
"absent" is an alternative, too. Versions are ordered as model/versions.py orders them, with two additions: a bound without
an epoch, a packaging revision or a local part ignores that of the version ("==550.163.01" holds for 550.163.01-4~bpo13+1),
and ".0" at the end does not count ("==2.15" holds for 2.15.0).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bedplate.model.versions import compare_versions

_SUBJECT = re.compile(r"([a-z0-9][a-z0-9-]*)(?:\.([a-z][a-z0-9_-]*))?(?:\s+(.*))?", re.DOTALL)
_BOUND = re.compile(r"(==|!=|>=|<=|>|<)\s*([^\s,|<>=!]+)")
_OPERATORS = {"==": (0,), "!=": (-1, 1), ">=": (0, 1), "<=": (-1, 0), ">": (1,), "<": (-1,)}


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionBound:
    """One comparison: operator is ==, !=, >=, <=, > or <."""

    operator: str
    value: str

    def holds(self, version: str) -> bool:
        """Whether a version, or a property's value, is inside the bound: "==550.163.01" takes 550.163.01-2 and -4."""
        left, right = version, self.value
        if right.endswith(".*"):  # PEP 440: "==5.5.*" holds for 5.5 and 5.5.4
            inside = (left + ".").startswith(right[:-1])
            return inside if self.operator == "==" else not inside
        if left[:1].isdigit() and not re.search(r"[-+]", right):
            left = re.split(r"[-+]", left, maxsplit=1)[0]
            left = left if ":" in right else left.rpartition(":")[2]
            left, right = _without_zeros(left), _without_zeros(right)
        return compare_versions(left, right) in _OPERATORS[self.operator]

    def __str__(self) -> str:
        return f"{self.operator}{self.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionCondition:
    """What must hold of a component; without bounds and with absent=False it only has to be there."""

    component: str
    name: str = ""
    """The property that is compared; "" compares the version."""
    alternatives: tuple[tuple[VersionBound, ...], ...] = ((),)
    """One of them must hold; all bounds of it by the same value. ((),) holds for each value."""
    absent: bool = False
    """Whether the component may be absent."""

    def holds_for(self, values: Sequence[str]) -> bool:
        """Whether a component that is there, with these values of the property, meets the condition.

        A property without a value meets only bounds with "!=".
        """
        for bounds in self.alternatives:
            if not values and all(bound.operator == "!=" for bound in bounds):
                return True
            if any(all(bound.holds(value) for bound in bounds) for value in values):
                return True
        return False

    @property
    def subject(self) -> str:
        """The text before the bounds: "root.glibc"."""
        return f"{self.component}.{self.name}" if self.name else self.component

    @property
    def bounds(self) -> str:
        """The text behind the subject: ">=6.12, <6.13", "absent"; "" when any value is right."""
        texts = [", ".join(map(str, bounds)) for bounds in self.alternatives]
        return " | ".join([*(["absent"] if self.absent else []), *(text for text in texts if text)])

    def __str__(self) -> str:
        return f"{self.subject} {self.bounds}".strip()


def parse_condition(text: str) -> VersionCondition:
    """parse_condition("kernel >=6.12, <6.13 | ==7.3.4"); raises ValueError with what was got and what was expected."""
    found = _SUBJECT.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"got {text!r}, expected COMPONENT, or COMPONENT and bounds such as >=6.12, <6.13")
    component, name, bounds_text = found[1], found[2] or "", (found[3] or "").strip()
    if not bounds_text:
        return VersionCondition(component=component, name=name)
    parts = [part.strip() for part in bounds_text.split("|")]
    return VersionCondition(
        component=component,
        name=name,
        alternatives=tuple(_parse_bounds(part, text) for part in parts if part != "absent"),
        absent="absent" in parts,
    )


def _parse_bounds(text: str, whole: str) -> tuple[VersionBound, ...]:
    bounds: list[VersionBound] = []
    for part in text.split(","):
        found = _BOUND.fullmatch(part.strip())
        if found is None:
            raise ValueError(f"got {part.strip()!r} in {whole!r}, expected a bound such as >=6.12, ==7.3.4 or absent")
        bounds.append(VersionBound(operator=found[1], value=found[2]))
    return tuple(bounds)


def _without_zeros(version: str) -> str:
    """ "12.0.0" as "12": to a bound both are the same version."""
    while version.endswith(".0"):
        version = version.removesuffix(".0")
    return version
