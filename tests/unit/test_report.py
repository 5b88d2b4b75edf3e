"""How an audit is rendered: text that fits, JSON that its schema allows, SARIF, a page that nothing breaks out of."""

from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.facts_factory import make_block, make_engine, make_facts, make_gpu, make_link, make_nic, make_pci, make_port
from tests.unit.json_schema import problems_of
from tests.unit.report_machines import (
    FINDINGS,
    hide_nodes,
    make_finding,
    make_report,
    make_server,
    make_vm,
    with_problem,
)

from bedplate.model.audit_report import AuditReport
from bedplate.model.facts.finding import Severity
from bedplate.model.facts.reading import Unknown
from bedplate.model.wording import render_cpus
from bedplate.report.audit.document import SCHEMA_PAGE, make_document, make_schema, render_document
from bedplate.report.audit.listing import render_listing, verdict
from bedplate.report.audit.machine import DeviceView, NodeView, make_machine
from bedplate.report.audit.map import render_map
from bedplate.report.audit.page import render_page
from bedplate.report.audit.page import verdict as page_verdict
from bedplate.report.audit.sarif import make_sarif, render_sarif
from bedplate.report.audit.tree import render_tree
from bedplate.report.format import clean, link_words, memory, speed
from bedplate.report.terminal import Screen, columns

REPOSITORY = Path(__file__).parents[2]
HOSTILE = (
    "</title></style></script><script>alert(1)</script><img src=x onerror=alert(1)>"
    "\"' onload='x \x1b[31mred\x1b]0;title\x07 \u202eevil\u2066 \x00 \r\nnext\u2028line \udcff"
)


def every_node(report: AuditReport) -> list[NodeView]:
    machine = make_machine(report)
    return [node for package in machine.packages for node in package.nodes] + list(machine.apart)


def every_device(report: AuditReport) -> list[DeviceView]:
    def below(part: Any) -> list[DeviceView]:
        return [*part.devices, *(device for branch in part.branches for device in below(branch))]

    return [device for node in every_node(report) for device in below(node)]


def hostile_report() -> AuditReport:
    """The server with every text of the machine and of the findings replaced."""

    def poison(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(poison(item) for item in value)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            held = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
            keep = ("address", "parent", "id", "version")
            return dataclasses.replace(value, **{name: poison(field) for name, field in held.items() if name not in keep})
        return HOSTILE if type(value) is str else value

    poisoned: AuditReport = poison(with_problems(make_report()))
    return poisoned


def with_problems(report: AuditReport) -> AuditReport:
    return dataclasses.replace(report, facts=with_problem(report.facts))


class Page(HTMLParser):
    """The tags of a page, its ids and the addresses that it names."""

    VOID = ("meta", "br", "img", "link", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src", "action", "data", "xlink:href"):
                self.links.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag


# -- words


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("H100", "H100"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\nb\tc", "a b c"),
        ("\u202egnp", "\\u202egnp"),
        ("é 中", "é 中"),
        ("\udcff", "\\udcff"),
        ("x" * 500, "x" * 397 + "..."),
    ],
)
def test_text_of_a_machine_loses_its_power(text: str, shown: str) -> None:
    assert clean(text) == shown


@given(st.text())
def test_clean_text_is_one_printable_line(text: str) -> None:
    shown = clean(text)
    assert len(shown.splitlines()) <= 1
    assert all(char.isprintable() for char in shown if char != "\xa0" and not char.isspace())


@given(st.sets(st.integers(0, 300)))
def test_a_cpu_list_reads_back(cpus: set[int]) -> None:
    text = render_cpus(sorted(cpus))
    parts = [part.split("-") for part in text.split(",") if part]
    assert {cpu for part in parts for cpu in range(int(part[0]), int(part[-1]) + 1)} == cpus


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (1 << 30, "1.0 GiB"), (96 << 30, "96 GiB"), (2 << 40, "2.0 TiB")])
def test_memory_reads_well(size: int, text: str) -> None:
    assert memory(size) == text


def test_a_link_says_what_it_could_be() -> None:
    assert link_words(make_link()) == "32 GT/s x16"
    assert link_words(make_link(speed_gts=16.0, width=8)) == "16 GT/s x8, can 32 GT/s x16"
    assert link_words(make_link(width=8)) == "32 GT/s x8, can x16"
    # the slot cannot do more: the link is what it should be
    assert link_words(make_link(speed_gts=16.0, port_max_speed_gts=16.0)) == "16 GT/s x16"
    assert speed(None, None) == ""


# -- the machine


def test_every_device_is_in_the_tree_once_under_its_node() -> None:
    report = make_report()
    nodes = every_node(report)
    assert [node.title for node in nodes] == ["NUMA node 0", "NUMA node 1"]
    gpus = [
        [device.label for branch in node.branches for device in branch.devices if device.kind == "GPU"] for node in nodes
    ]
    assert gpus == [["GPU 0", "GPU 1", "GPU 2", "GPU 3"], ["GPU 4", "GPU 5", "GPU 6", "GPU 7"]]
    assert sorted(device.label for device in every_device(report)) == sorted(
        [f"GPU {number}" for number in range(8)]
        + [f"ens{number}" for number in range(8)]
        + [f"nvme{number}n1" for number in range(8)]
    )


def test_findings_about_ports_mark_the_links_below_them() -> None:
    marked = {device.label: device.link.marks for device in every_device(make_report()) if device.link.marks}
    assert marked == {"GPU 0": (3,), "ens0": (3,), "GPU 1": (3,), "ens1": (3,), "GPU 5": (2,)}
    assert [device.label for device in every_device(make_report()) if device.link.bad] == ["GPU 5"]


def test_findings_mark_nodes_and_devices_by_name() -> None:
    report = make_report()
    assert [node.marks for node in every_node(report)] == [(), (5,)]
    assert {device.label: device.marks for device in every_device(report) if device.marks} == {"ens0": (5,)}


def test_a_finding_about_a_bridge_with_nothing_below_is_still_shown() -> None:
    facts = make_facts(pci=(make_port("0000:00:01.0"),), blocks=())
    report = make_report(facts, make_finding("pci.x", Severity.LOW, "x", "0000:00:01.0"))
    assert [(device.kind, device.address, device.marks) for device in every_device(report)] == [("other", "00:01.0", (1,))]


def test_devices_whose_node_is_hidden_stand_apart() -> None:
    report = make_report(hide_nodes(make_server()))
    machine = make_machine(report)
    (apart,) = machine.apart
    assert apart.title == "NUMA node unknown"
    assert apart.details == ("the platform does not report it (numa_node -1)",)
    assert len(apart.branches) == 8
    assert all(not node.branches for package in machine.packages for node in package.nodes)


def test_a_machine_with_one_node_has_no_unknown_place() -> None:
    report = make_report(make_vm())
    assert make_machine(report).apart == ()
    assert [device.label for device in every_device(report)] == ["eth0"]


def test_functions_of_one_adapter_are_one_device() -> None:
    ports = tuple(make_pci(f"0000:01:00.{number}", class_code=0x020000, name="NIC") for number in range(2))
    nics = tuple(make_nic(f"eth{number}", address=f"0000:01:00.{number}") for number in range(2))
    (one,) = every_device(make_report(make_facts(pci=ports, network=nics, blocks=())))
    assert (one.label, one.count, one.details) == ("eth0 eth1", 2, ("2 ports", "400 Gb/s"))


def test_many_like_disks_are_one_and_a_marked_one_is_not_among_them() -> None:
    pci = tuple(make_pci(f"0000:{number:02x}:00.0", class_code=0x010802, name="SSD") for number in range(1, 25))
    blocks = tuple(make_block(f"nvme{number}n1", address=f"0000:{number:02x}:00.0", mounts=()) for number in range(1, 25))
    found = make_finding("block.slow", Severity.LOW, "slow", "nvme7n1")
    devices = every_device(make_report(make_facts(pci=pci, blocks=blocks), found))
    assert sorted((device.label, device.count, device.marks) for device in devices) == [
        ("23 disks", 23, ()),
        ("nvme7n1", 1, (1,)),
    ]


def test_a_loop_of_bridges_ends() -> None:
    pci = (
        make_port("0000:00:01.0", parent="0000:00:02.0"),
        make_port("0000:00:02.0", parent="0000:00:01.0"),
        make_port("0000:00:03.0", parent="0000:00:03.0"),
        make_pci("0000:04:00.0", parent="0000:00:03.0"),
    )
    facts = make_facts(pci=pci, accelerators=(make_gpu(0, "0000:04:00.0"),), blocks=())
    assert [device.label for device in every_device(make_report(facts))] == ["GPU 0"]


def test_accelerators_are_shown_without_a_pci_tree() -> None:
    facts = dataclasses.replace(make_server(), pci=(), network=(), blocks=())
    devices = every_device(make_report(facts))
    assert [device.label for device in devices] == [f"GPU {number}" for number in range(8)]


# -- the terminal


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
@pytest.mark.parametrize("utf8", [True, False])
@pytest.mark.parametrize("facts", [make_server(), make_vm(), hide_nodes(make_server())], ids=["server", "vm", "hidden"])
def test_the_tree_fits_and_loses_nothing(width: int, utf8: bool, facts: Any) -> None:
    report = make_report(facts, *FINDINGS)
    text = render_tree(report, Screen(width=width, utf8=utf8))
    assert max(columns(line) for line in text.splitlines()) <= width
    assert utf8 or text.isascii()
    joined = re.sub(r"[\s│├└─|`]+", "", text)
    assert all(f"[{number}]" in text for number in range(1, len(FINDINGS) + 1))
    assert all(device.name.replace(" ", "") in joined for device in every_device(report))


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_list_fits_but_for_commands(width: int) -> None:
    report = with_problems(make_report())
    for verbose in (False, True):
        text = render_listing(report, Screen(width=width), threshold=Severity.MEDIUM, verbose=verbose)
        long = [line for line in text.splitlines() if columns(line) > width]
        assert all(verbose and line.strip() in FINDINGS[0].fix for line in long)


def test_fix_and_undo_stand_whole_with_verbose_only() -> None:
    report = make_report(make_vm(), make_finding("a.b", Severity.HIGH, "t", fix=("one --x", "two"), undo=("back",)))
    brief = render_listing(report, Screen(), threshold=None, verbose=False)
    whole = render_listing(report, Screen(), threshold=None, verbose=True)
    assert "one --x (+1 line: --verbose)" in brief
    assert "back" not in brief
    assert [line.strip() for line in whole.splitlines() if re.search(r"fix|two|undo", line)] == [
        "fix       one --x",
        "two",
        "undo      back",
    ]


def test_colour_only_adds_colour() -> None:
    report = make_report()
    for render in (render_tree, lambda report, screen: render_listing(report, screen, threshold=None, verbose=True)):
        painted = render(report, Screen(width=80, colour=True, utf8=True))
        assert "\033[1;31m" in painted
        plain = re.sub(r"\033\[[0-9;]*m", "", painted)
        assert plain == render(report, Screen(width=80, colour=False, utf8=True))


def test_a_hostile_machine_reaches_no_terminal() -> None:
    report = hostile_report()
    for text in (
        render_tree(report, Screen(width=80, utf8=True)),
        render_listing(report, Screen(width=80, utf8=True), threshold=None, verbose=True),
    ):
        assert all(char.isprintable() or char == "\n" for char in text)
        text.encode()


@pytest.mark.parametrize(
    ("threshold", "said"),
    [
        (Severity.MEDIUM, "5 findings: 1 critical, 2 high, 1 medium, 1 low. 4 at or above medium."),
        (Severity.CRITICAL, "5 findings: 1 critical, 2 high, 1 medium, 1 low. 1 at or above critical."),
        (None, "5 findings: 1 critical, 2 high, 1 medium, 1 low."),
    ],
)
def test_the_last_line_counts(threshold: Severity | None, said: str) -> None:
    assert verdict(make_report(), threshold) == f"{said} 1 suppressed. 2 could not be judged."


def test_what_could_not_be_judged_is_said_with_its_reason() -> None:
    text = render_listing(with_problems(make_report()), Screen(), threshold=None, verbose=False)
    assert "not judged, each for a reason of its own: kernel.psi: not recorded; pci.iommu: permission denied" in text
    assert "not read: pci: the tree has a loop" in text


# -- JSON and SARIF


@pytest.mark.parametrize(
    "report", [make_report(), make_report(make_vm()), hostile_report()], ids=["server", "vm", "hostile"]
)
def test_json_is_what_its_schema_says(report: AuditReport) -> None:
    schema = json.loads((REPOSITORY / SCHEMA_PAGE).read_text())
    document = json.loads(render_document(report))
    assert list(problems_of(document, schema, schema)) == []


def test_lists_of_cpus_have_one_form_and_one_line() -> None:
    """Each CPU had a line of its own: 40 for every PCI device of a machine with 40 CPUs."""
    report = make_report()
    text = render_document(report)
    assert json.loads(text) == make_document(report)
    assert '"cpus": [0, 1' in text
    for field in ("cpus", "siblings", "local_cpus"):
        assert f'"{field}": [\n   ' not in re.sub(r"\[\n +\{", "[{", text)
    definitions = make_schema()["$defs"]
    for owner, field in (("NumaNode", "cpus"), ("Cache", "cpus"), ("LogicalCpu", "siblings"), ("PciDevice", "local_cpus")):
        assert definitions[owner]["properties"][field]["$ref"] == "#/$defs/CpuList"
    assert "0-2,8 is [0, 1, 2, 8]" in definitions["CpuList"]["description"]


def test_the_schema_refuses_what_is_wrong() -> None:
    schema = json.loads((REPOSITORY / SCHEMA_PAGE).read_text())
    good = make_document(make_report())
    for spoil in (
        {"schema": "bedplate.audit/2"},
        {"extra": 1},
        {"findings": [{**good["findings"][0], "severity": "bad"}]},
        {"findings": [{**good["findings"][0], "rank": "1"}]},
        {"summary": {**good["summary"], "high": -1}},
        {"facts": {**good["facts"], "numa": None}},
    ):
        assert list(problems_of(good | spoil, schema, schema)) != [], spoil
    without = {name: value for name, value in good.items() if name != "origin"}
    assert list(problems_of(without, schema, schema)) != []


def test_the_published_schema_is_what_the_code_says() -> None:
    published = json.loads((REPOSITORY / SCHEMA_PAGE).read_text())

    def bare(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                name: bare(part) for name, part in value.items() if not (name == "description" and isinstance(part, str))
            }
        return [bare(item) for item in value] if isinstance(value, list) else value

    assert bare(published) == bare(make_schema())


def test_json_says_why_a_fact_is_not_known() -> None:
    facts = make_document(make_report(make_vm()))["facts"]
    assert facts["pci"][0]["numa_node"] == {"value": None, "source": "numa_node", "unknown": "hidden", "text": ""}
    assert facts["cgroup"]["memory_max_bytes"]["unknown"] == Unknown.DENIED.value


def test_the_same_report_is_the_same_bytes() -> None:
    assert render_document(make_report()) == render_document(make_report())
    assert render_page(make_report(), made="2026-11-24") == render_page(make_report(), made="2026-11-24")


def test_sarif_has_a_rule_for_each_result_and_keeps_what_was_suppressed() -> None:
    log = json.loads(render_sarif(with_problems(make_report())))
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == sorted({finding.id for finding in FINDINGS} | {"knob.vm.swappiness"})
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert (result["kind"] == "fail") == (result["level"] != "none")
        assert result["message"]["text"]
        uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        assert uri == "sys/bus/pci/devices/0000%3A68%3A00.0/current_link_speed"
    levels = [result["level"] for result in run["results"]]
    assert levels == ["error", "error", "error", "warning", "note", "note"]
    assert [result.get("suppressions", [{}])[0].get("justification") for result in run["results"]][
        -1
    ] == "measured: no effect"
    prints = [result["partialFingerprints"]["findingAndPlaces/v1"] for result in run["results"]]
    assert len(set(prints)) == len(prints)
    notes = [note["message"]["text"] for note in run["invocations"][0]["toolExecutionNotifications"]]
    assert "pci: the tree has a loop" in notes


def test_the_catalogs_rule_comes_before_the_findings_words() -> None:
    (run,) = make_sarif(make_report())["runs"]
    rule = next(rule for rule in run["tool"]["driver"]["rules"] if rule["id"] == "pci.acs-mixed")
    assert rule["shortDescription"]["text"] == "Mixed ACS"
    assert rule["help"]["text"] == "Slower. (S1)"


# -- the page


@pytest.mark.parametrize(
    "report",
    [make_report(), make_report(make_vm()), make_report(hide_nodes(make_server())), hostile_report()],
    ids=["server", "vm", "hidden", "hostile"],
)
def test_the_page_is_whole_and_asks_for_nothing(report: AuditReport) -> None:
    text = render_page(report, made="2026-11-24")
    page = Page(text)
    assert page.open == []
    assert page.tags.count("script") == 1
    assert page.tags.count("style") == 1
    assert page.tags.count("h1") == 1
    assert "img" not in page.tags
    assert page.handlers == []
    assert all(link.startswith("#") for link in page.links)
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert len(set(page.ids)) == len(page.ids)
    assert not re.search(r"url\(|@import|https?:", text)
    text.encode()


def test_the_policy_allows_exactly_the_script_that_is_there() -> None:
    import base64
    import hashlib

    text = render_page(make_report(), made="2026-11-24")
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert "default-src 'none'" in text


@pytest.mark.parametrize("narrow", [False, True])
def test_the_map_is_well_formed_and_names_every_device(narrow: bool) -> None:
    for report in (make_report(), make_report(make_vm()), make_report(hide_nodes(make_server())), hostile_report()):
        text = render_map(report, make_machine(report), narrow=narrow)
        tree = ElementTree.fromstring(text)
        width = float(tree.attrib["viewBox"].split()[2])
        for box in tree.iter("rect"):
            assert float(box.attrib["x"]) >= 0
            assert float(box.attrib["x"]) + float(box.attrib["width"]) <= width
            assert float(box.attrib["width"]) > 0
        chips = [box for box in tree.iter("rect") if "chip" in box.attrib["class"].split()]
        assert len(chips) == len(every_device(report))


def test_bad_links_are_drawn_as_bad_and_said_in_words() -> None:
    report = make_report()
    text = render_map(report, make_machine(report))
    assert text.count('class="w bad high"') == 1
    assert "The link of GPU 5 68:00.0 is bad: 16 GT/s x8, can 32 GT/s x16." in text
    assert "NUMA node 0: 1.0 TiB, 512 GiB free" in text


def test_hidden_devices_have_a_box_of_their_own() -> None:
    report = make_report(hide_nodes(make_server()))
    text = render_map(report, make_machine(report))
    assert text.count('class="node apart"') == 1
    assert "NUMA node unknown" in text


@pytest.mark.parametrize(
    ("findings", "said"),
    [
        (
            FINDINGS,
            (
                "One finding keeps accelerators from being used, now or after the next boot; "
                "two may each slow serving down by a factor."
            ),
        ),
        (FINDINGS[1:2], "One finding may slow serving down by a factor."),
        (FINDINGS[3:4], "One finding may cost some percent of speed, or is a risk."),
        (FINDINGS[4:], "Nothing that costs speed was found in what could be judged; 1 minor finding."),
        ((), "Nothing wrong was found in what could be judged."),
    ],
)
def test_the_verdict_says_what_it_costs(findings: Any, said: str) -> None:
    assert page_verdict(make_report(make_server(), *findings)) == said


def test_every_fact_table_names_its_source() -> None:
    text = render_page(make_report(), made="2026-11-24")
    for source in ("/proc/sys/vm/swappiness", "/proc/cpuinfo", "/sys/block/nvme0n1/queue/scheduler"):
        assert f'<td class="source">{source}</td>' in text or f">{source}<" in text
    assert '<td class="unknown">unknown (not there)</td>' in text


def test_a_recording_without_pci_is_not_said_to_have_no_accelerator() -> None:
    for origin, said in (("live", "no accelerator"), ("host.tar", "accelerators not recorded")):
        facts = make_facts(origin=origin, pci=())
        assert render_tree(make_report(facts), Screen()).startswith(f"{said}  ")


def test_an_engine_is_marked_by_its_process() -> None:
    found = (make_finding("a.b", Severity.LOW, "x", "pid 4711"), make_finding("a.c", Severity.LOW, "y", "pid 4711 (vllm)"))
    text = render_tree(make_report(make_facts(engines=(make_engine(),)), *found), Screen())
    assert "vllm 4711  [1]  [2]" in text


def test_an_engine_without_readable_devices_is_not_said_to_use_none() -> None:
    unknown = make_engine(devices=(), devices_known=False)
    none = make_engine(devices=(), devices_known=True)
    texts = [render_tree(make_report(make_facts(engines=(engine,))), Screen()) for engine in (unknown, none)]
    assert ["devices unknown" in text for text in texts] == [True, False]
    assert ["no accelerator open" in text for text in texts] == [False, True]
