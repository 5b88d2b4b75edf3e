"""The subject of all rules of a machine: its facts, and the files among them by path."""

from __future__ import annotations

from dataclasses import dataclass

from bedplate.model.facts.host import HostFacts
from bedplate.plan.rules.files import KnobFiles
from bedplate.plan.rules.order import in_order


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedMachine:
    """A machine as rules judge it; make_machine gives it facts in an order that does not depend on the reader."""

    facts: HostFacts
    files: KnobFiles


def make_machine(facts: HostFacts) -> JudgedMachine:
    """The facts in one order, with their files looked up by path: made once, and used by every rule."""
    ordered = in_order(facts)
    return JudgedMachine(facts=ordered, files=KnobFiles(ordered))
