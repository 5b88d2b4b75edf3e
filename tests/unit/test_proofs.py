"""When a proof expires: with each of its conditions, compared whole."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bedplate.model.proof import Conditions, Judgement, Proof
from bedplate.plan.proofs import why_expired

NOW = Conditions(kernel="6.12.1", driver="nvidia 570.86", engine="llama.cpp 11669", machine="EPYC 9334, 2 CPUs, 24 GiB")
PROOF = Proof(
    subject="vm.stat_interval=10",
    judgement=Judgement.KEEP,
    because="",
    effects=(),
    antagonists=(),
    victim="dispatch-loop",
    kernel=NOW.kernel,
    driver=NOW.driver,
    engine=NOW.engine,
    machine=NOW.machine,
    made="2026-11-25T20:00:00Z",
    seed=1,
    command="bedplate prove",
    samples=(),
)


@pytest.mark.parametrize("what", ["kernel", "driver", "engine", "machine"])
def test_a_proof_expires_with_each_of_its_conditions(what: str) -> None:
    assert why_expired(PROOF, NOW) == ""
    assert why_expired(PROOF, replace(NOW, **{what: "new"})).startswith(f"{what}: ")


@pytest.mark.parametrize(
    ("what", "then"),
    [
        ("machine", "EPYC 9334, 2 CPUs, 24 GiB, of another make"),
        ("machine", "EPYC 9334, 2 CPUs, 48 GiB"),
        ("driver", "nvidia 570.86.15"),
        ("kernel", "6.12.1-rt"),
    ],
)
def test_what_begins_or_contains_the_same_is_not_the_same(what: str, then: str) -> None:
    proof = replace(PROOF, kernel=then) if what == "kernel" else PROOF
    proof = replace(proof, driver=then) if what == "driver" else proof
    proof = replace(proof, machine=then) if what == "machine" else proof
    assert why_expired(proof, NOW).startswith(f"{what}: {then} then, ")


def test_an_engine_that_is_not_known_now_expires_nothing() -> None:
    assert why_expired(PROOF, replace(NOW, engine="")) == ""
    assert why_expired(PROOF, replace(NOW, driver="")) == "driver: nvidia 570.86 then, none now"
