"""What stands around a pasted text changes no answer: prompts, fences, quotes, colours, a cut at any line, another text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.pasted_cases import KNOBS, MIB, PASTED, TEXTS, facts_of, findings_of, judge, keys, names, read_bytes

from bedplate.cli.main import main
from bedplate.errors import ReadError
from bedplate.flows.audit import name_devices
from bedplate.flows.machine import read_facts_of
from bedplate.host.formats.foreign import ForeignFacts, read_text_files


def test_several_outputs_are_one_machine() -> None:
    facts = facts_of("several-outputs/capture.txt")
    (gpu,) = facts.accelerators
    assert (gpu.name, gpu.address, gpu.memory_bytes.value) == ("NVIDIA L40S", "0000:5e:00.0", 46068 * MIB)
    (device,) = facts.pci
    assert (device.pci_id, device.numa_node.value, device.bars_bytes) == ("10de:26b9", 0, (256 * MIB,))
    assert facts.kernel.cmdline[-1] == "isolcpus=4-63"
    assert {text.format for text in facts.texts} == {"proc-cmdline", "nvidia-smi-q", "lspci", "kernel-log"}


def test_an_unknown_text_names_the_formats_nearest_first(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("rocm profiler output of an amd card: partitions and clocks\n")
    with pytest.raises(ReadError) as raised:
        read_facts_of(path, KNOBS)
    hint = raised.value.hint or ""
    assert "no part of the text" in str(raised.value)
    assert hint.index("rocm-smi") < 120 and "pasted-formats.md" in hint


# -- what stands around a text


def coloured(text: str) -> str:
    return "\n".join(f"\x1b[1;32m{line[: len(line) // 2]}\x1b[0m{line[len(line) // 2 :]}\x1b[K" for line in text.split("\n"))


AROUND: dict[str, Callable[[str], str]] = {
    "prompt": lambda text: f"ops@node7:/srv/models (main)$ sudo some-program --all\n{text}\nops@node7:/srv/models$ \n",
    "root prompt": lambda text: f"[root@node7 ~]# x\n{text}",
    "virtual environment": lambda text: f"(venv) ops@node7:~$ x\n{text}",
    "fence": lambda text: f"It says:\n\n```text\n{text}\n```\n\nAny idea?\n",
    "tilde fence": lambda text: f"~~~\n{text}\n~~~\n",
    "details": lambda text: f"<details>\n<summary>output</summary>\n\n```\n{text}\n```\n\n</details>\n",
    "preformatted": lambda text: f"<p>It says:</p>\n<pre><code>{text}\n</code></pre>\n",
    "quote": lambda text: "".join(f"> {line}\n" for line in text.split("\n")),
    "quoted twice": lambda text: "".join(f"> > {line}\n" for line in text.split("\n")),
    "indented": lambda text: "".join(f"    {line}\n" for line in text.split("\n")),
    "coloured": coloured,
    "line ends": lambda text: text.replace("\n", "\r\n"),
    "byte order mark": lambda text: "\ufeff" + text,
    "no-break blanks": lambda text: text.replace("  ", " \xa0"),
    "zero-width blanks": lambda text: text.replace("\n", "\u200b\n"),
    "sentence": lambda text: f"Hello, this is what I get:\n\n{text}\n",
}


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("name", names(TEXTS))
def test_what_stands_around_a_text_changes_nothing(name: str, around: str, tmp_path: Path) -> None:
    plain = facts_of(name)
    facts = read_bytes(AROUND[around]((PASTED / name).read_text()).encode(), tmp_path)
    assert keys(judge(facts).findings) == keys(findings_of(name))
    assert [(gpu.index, gpu.name, gpu.address) for gpu in facts.accelerators] == [
        (gpu.index, gpu.name, gpu.address) for gpu in plain.accelerators
    ]
    assert {text.format for text in facts.texts} - {""} == {text.format for text in plain.texts} - {""}


def test_text_of_powershell_is_read(tmp_path: Path) -> None:
    facts = read_bytes((PASTED / "nvidia-smi-table/table.txt").read_text().encode("utf-16"), tmp_path)
    assert len(facts.accelerators) == 2


def cut_off(data: bytes) -> ForeignFacts | None:
    try:
        return read_text_files([("text", data)], "text")
    except ReadError:
        return None


MAY_COME_OF_A_CUT = {"accel.fewer-listed"}


@pytest.mark.parametrize("name", names(TEXTS))
def test_a_text_that_is_cut_off_makes_no_other_finding(name: str) -> None:
    lines = (PASTED / name).read_bytes().splitlines(keepends=True)
    whole = {finding.id for finding in findings_of(name)}
    some = False
    for count in range(len(lines)):
        told = cut_off(b"".join(lines[:count]))
        cut_off(b"".join(lines[:count])[:-3])  # within a line: a value may be the half of one, and nothing fails
        if told is not None:
            some = True
            found = {finding.id for finding in judge(name_devices(told.facts)).findings}
            assert found - MAY_COME_OF_A_CUT <= whole, (count, found - whole)
    assert some or len(lines) < 3


@pytest.mark.parametrize("name", names(TEXTS))
def test_two_texts_in_one_file_are_both_read(name: str, tmp_path: Path) -> None:
    other = "plain-host-tools/ibstat.txt" if "numactl" in name else "plain-host-tools/numactl.txt"
    for first, second in ((name, other), (other, name)):
        text = (PASTED / first).read_text().rstrip("\n") + "\n" + (PASTED / second).read_text()
        facts = read_bytes(text.encode(), tmp_path)
        assert {text.format for text in facts_of(name).texts} | {text.format for text in facts_of(other).texts} <= {
            text.format for text in facts.texts
        }
        expected = {finding.id for finding in (*findings_of(name), *findings_of(other))}
        assert {finding.id for finding in judge(facts).findings} >= expected


def test_what_was_not_understood_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "text"
    noise = "".join(f"some words of a person, line {number}\n" for number in range(1, 33))
    path.write_text((PASTED / "plain-host-tools/numactl.txt").read_text() + "\n" + noise)
    main(["doctor", "--from", str(path)])
    printed = " ".join(capsys.readouterr().out.split())
    assert "not read: lines 13 to 44" in printed
    assert "read: numactl (lines 1 to 11)" in printed


def test_standard_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Of the function itself: another test may have loaded the module a second time.
    monkeypatch.setitem(read_facts_of.__globals__, "STANDARD_INPUT", PASTED / "topo-m/topo.txt")
    facts = read_facts_of(Path("-"), KNOBS)
    assert (facts.origin, len(facts.accelerators)) == ("standard input", 4)


def test_parts_that_contradict_each_other_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = (PASTED / "nvidia-smi-table/table.txt").read_text()
    heading = "index, name, pci.bus_id, power.limit [W], temperature.gpu\n"
    query = heading + "0, NVIDIA H100 80GB HBM3, 00000000:1B:00.0, 650.00 W, 60\n"
    facts = read_bytes(f"{table}$ x\n{query}".encode(), tmp_path)
    (conflict,) = facts.conflicts
    assert conflict.fact == "0000:1b:00.0 power limit"
    assert [value for value, _ in conflict.values] == ["500.0", "650.0"]
    assert facts.accelerators[0].power_limit_w.value == 650.0
    assert len(facts.accelerators) == 2
    main(["doctor", "--from", str(tmp_path / "text")])
    assert "contradiction: 0000:1b:00.0 power limit: 500.0 (nvidia-smi: Pwr:Cap), 650.0" in " ".join(
        capsys.readouterr().out.split()
    )


def test_one_text_has_one_line_of_what_was_not_judged(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["doctor", "--from", str(PASTED / "topo-m/topo.txt")]
    main(arguments)
    short = capsys.readouterr().out
    main([*arguments, "--verbose"])
    long = capsys.readouterr().out
    assert short.count("not judged") == 1 and "--verbose lists them" in short
    assert long.count("not judged") > 2


def test_what_looks_like_a_format_and_is_none_is_not_read(tmp_path: Path) -> None:
    text = (PASTED / "plain-host-tools/numactl.txt").read_text() + "\n19:00.0 broken\n\nnode distances:\n"
    facts = read_bytes(text.encode(), tmp_path)
    assert [(text.first_line, text.last_line) for text in facts.texts if not text.format] == [(13, 15)]


def test_a_line_between_those_of_an_output_is_passed_over(tmp_path: Path) -> None:
    lines = (PASTED / "display-class-gpu/lspci.txt").read_text().splitlines(keepends=True)
    facts = read_bytes(
        "".join([*lines[:3], "pcilib: sysfs_read_vpd: read failed: No such device\n", *lines[3:]]).encode(), tmp_path
    )
    assert keys(judge(facts).findings) == keys(findings_of("display-class-gpu/lspci.txt"))
    assert [(text.first_line, text.format) for text in facts.texts if not text.format] == [(4, "")]
