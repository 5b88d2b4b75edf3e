"""Weights from shares; and that image, catalog, audit, documentation and plans say the same weights of CPUs and I/O."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

import bedplate
from bedplate.catalog.knobs import read_knobs
from bedplate.catalog.policies import find_policy, read_policies
from bedplate.model.tuning import Policy
from bedplate.plan import io_weights
from bedplate.plan.cpu_shares import MOST, OTHERS, engine_weight, system_weight

ROW = find_policy(Policy.SHARED_HOST, read_policies())
ENGINE = engine_weight(ROW.floor_pct)
SYSTEM = system_weight(ENGINE, ROW.system_pct)
IMAGE = Path(__file__).parents[2] / "image/os"
UNITS = IMAGE / "common/usr/lib/systemd/system"
SOURCE = Path(bedplate.__file__).parent


@given(st.integers(1, 49))
def test_beside_an_engine_a_sibling_is_sure_of_its_floor(floor: int) -> None:
    engine = engine_weight(floor)
    assert floor * (OTHERS + engine) <= 100 * OTHERS
    assert 1 <= engine <= MOST
    assert floor == 1 or (floor + 0.6) * (OTHERS + engine) > 100 * OTHERS, "and of little more"


@given(st.integers(0, 49), st.integers(1, 50))
def test_the_system_is_sure_of_its_share_and_comes_before_neighbours(floor: int, share: int) -> None:
    engine = engine_weight(floor)
    system = system_weight(engine, share)
    assert 100 * system >= share * (system + engine)
    assert OTHERS < system <= MOST


STATIC: dict[str, dict[str, int | str]] = {
    "inference.slice": {"CPUWeight": ENGINE, "StartupCPUWeight": 4 * SYSTEM, "IOWeight": io_weights.ENGINE},
    "neighbour.slice": {"CPUWeight": OTHERS, "IOWeight": io_weights.OTHERS},
    "background.slice": {"CPUWeight": "idle", "IOWeight": io_weights.BACKGROUND},
    "system.slice.d/50-bedplate.conf": {"CPUWeight": SYSTEM, "IOWeight": io_weights.OTHERS},
    "user.slice.d/50-bedplate.conf": {"CPUWeight": SYSTEM},
    "init.scope.d/50-bedplate.conf": {"CPUWeight": SYSTEM},
    # Among the units of system.slice: it feeds the engines.
    "bedplate-haproxy.service": {"CPUWeight": 1000},
}
# In inference.slice, and over before the engines that wait for them start: nothing beside them goes first.
PREPARING = ("bedplate-layer@.service", "bedplate-models.service", "bedplate-serve.service", "bedplate-tune.service")


def test_the_image_has_the_weights_of_its_policy_and_no_others() -> None:
    wanted = STATIC | {name: {"CPUWeight": MOST} for name in PREPARING}
    found = {}
    for path in sorted(IMAGE.rglob("*")):
        text = path.read_text() if path.suffix in (".slice", ".service", ".scope", ".socket", ".mount", ".conf") else ""
        if settings := dict(re.findall(r"^(\w*(?:CPU|IO)Weight)=(.*)$", text, re.MULTILINE)):
            assert path.name not in PREPARING or "Slice=inference.slice\n" in text, path
            found[path.relative_to(path.parents[1] if path.parent.suffix == ".d" else path.parent).as_posix()] = settings
    assert found == {name: {key: str(value) for key, value in row.items()} for name, row in wanted.items()}


def test_the_catalog_and_the_audit_name_the_same_weight() -> None:
    (knob,) = [knob for knob in read_knobs() if knob.id == "cpu.weight"]
    audit = (SOURCE / "plan/rules/checks/cores.py").read_text()
    text = " ".join([knob.wanted, knob.persist, *knob.fix, *re.findall(r"CPUWeight=\d+", audit)])
    assert re.findall(r"CPUWeight=(\d+)", text) == [str(ENGINE)] * 3
    assert knob.wanted.startswith(f"{ENGINE} for the engine and {OTHERS} for neighbours")
    assert f"{ROW.floor_pct} % of busy CPUs" in knob.wanted
    assert f"{SYSTEM} for the service manager" in knob.wanted and f"leaves them {ROW.system_pct} %" in knob.wanted


def test_the_catalog_names_the_weights_of_a_disk_that_plans_set() -> None:
    (knob,) = [knob for knob in read_knobs() if knob.id == "io.cost"]
    assert re.findall(r"IOWeight=(\d+)", " ".join([*knob.fix, *knob.undo])) == [str(io_weights.ENGINE)]
    assert (
        f"IOWeight {io_weights.ENGINE} for the engine, {io_weights.OTHERS} for neighbours, "
        f"{io_weights.BACKGROUND} for background work"
    ) in knob.wanted


def test_the_page_about_tuning_names_the_same_weights() -> None:
    text = (Path(__file__).parents[2] / "docs/explanation/tuning.md").read_text()
    assert f"({ENGINE} for {ROW.floor_pct} %, {MOST} without one)" in text
    assert f"{OTHERS} on neighbours, {SYSTEM} on the service manager and logins, `idle` on background work" in text


def test_only_two_modules_of_the_plans_state_weights() -> None:
    """All others name them; what a knob's row says is held above."""
    wrong = [
        f"{path.relative_to(SOURCE)}:{node.lineno}: {node.value}"
        for path in sorted([*(SOURCE / "plan").rglob("*.py"), *(SOURCE / "prove").rglob("*.py")])
        if path.name not in ("cpu_shares.py", "io_weights.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
        and (node.value in (ENGINE, SYSTEM) or (isinstance(node.value, str) and re.search(r"(CPU|IO)Weight=\d", node.value)))
        and "CPUQuota= " not in str(node.value)  # the audit's fix, which is compared above
    ]
    assert wrong == []


def test_a_neighbour_of_the_image_ends_at_its_bound_where_nothing_can_be_swapped() -> None:
    text = (UNITS / "neighbour.slice").read_text()
    bounds = dict(re.findall(r"^(Memory\w+)=(\d+%)$", text, re.MULTILINE))
    assert bounds["MemoryHigh"] == bounds["MemoryMax"]
