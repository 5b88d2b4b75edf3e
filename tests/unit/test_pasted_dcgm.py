"""What people paste of DCGM and of Python: tests that failed, GPUs that are listed, and whether PyTorch finds any."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.pasted_cases import judge, read_bytes

from bedplate.errors import ReadError
from bedplate.model.facts.finding import Severity

DIAG = """\
Successfully ran diagnostic for group.
+---------------------------+------------------------------------------------+
| Diagnostic                | Result                                         |
+===========================+================================================+
|-----  Metadata  ----------+------------------------------------------------|
| DCGM Version              | 3.3.9                                          |
| Driver Version Detected   | 570.211.01                                     |
|-----  Deployment  --------+------------------------------------------------|
| Denylist                  | Pass                                           |
| Persistence Mode          | Warn                                           |
| Warning                   | GPU 1 Persistence mode for GPU 1 is disabled.  |
| Page Retirement/Row Remap | Fail                                           |
| Warning                   | GPU 3 Row remapping failed for GPU 3. Contact  |
|                           | the vendor of the system.                      |
| SRAM Threshold Count      | Pass                                           |
|-----  Integration  -------+------------------------------------------------|
| PCIe                      | Skip - All                                     |
+---------------------------+------------------------------------------------+
"""
HEALTH = """\
Health Monitor Report
+----------------------------------------------------------------------------+
| Group 1          | Overall Health: Warning                                 |
+==================+=========================================================+
| GPU ID: 0        | Warning                                                 |
|                  | PCIe system: Warning - Detected more than 8 PCIe        |
|                  | replays per minute for GPU 0: 13                        |
| GPU ID: 1        | Healthy                                                 |
+------------------+---------------------------------------------------------+
"""
LIST = """\
2 GPUs found.
+--------+----------------------------------------------------------------------+
| GPU ID | Device Information                                                   |
+--------+----------------------------------------------------------------------+
| 0      | Name: NVIDIA A100-SXM4-40GB                                          |
|        | PCI Bus ID: 00000000:3B:00.0                                         |
|        | Device UUID: GPU-11111111-2222-3333-4444-555555555555                |
+--------+----------------------------------------------------------------------+
| 1      | Name: NVIDIA A100-SXM4-40GB                                          |
|        | PCI Bus ID: 00000000:86:00.0                                         |
|        | Device UUID: GPU-11111111-2222-3333-4444-555555555556                |
+--------+----------------------------------------------------------------------+
"""
JSON = """\
{"DCGM GPU Diagnostic": {"test_categories": [{"category": "Deployment", "tests": [
 {"name": "Denylist", "results": [{"status": "Pass"}]},
 {"name": "Page Retirement/Row Remap", "results": [{"gpu_id": "0", "status": "Pass"},
  {"gpu_id": "3", "status": "Fail", "warnings": [{"error_id": 7, "warning": "Row remapping failed for GPU 3."}]}]}]}]}}
"""
SESSION = ">>> import torch\n>>> torch.__version__\n'2.13.0+cpu'\n>>> torch.cuda.is_available()\nFalse\n"


def plain(text: str) -> str:
    return text


def quoted(text: str) -> str:
    return "".join(f"> {line}\n" for line in text.splitlines())


def fenced(text: str) -> str:
    return f"it says\n```text\n{text}```\nwhat now?\n"


def prompted(text: str) -> str:
    return f"root@node7:~# dcgmi\n{text}root@node7:~#\n"


def coloured(text: str) -> str:
    return "".join(f"\x1b[1m{line}\x1b[0m\r\n" for line in text.splitlines())


def indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())


FORMS = pytest.mark.parametrize("form", [plain, quoted, fenced, prompted, coloured, indented])


def found(text: str, tmp_path: Path) -> dict[Severity, list[str]]:
    facts = read_bytes(text.encode(), tmp_path)
    return {
        finding.severity: [evidence.fact for evidence in finding.evidence]
        for finding in judge(facts).findings
        if finding.id == "accel.diagnostic-failed"
    }


@FORMS
def test_tests_of_a_diagnostic_that_failed_or_warned_are_findings(form: Callable[[str], str], tmp_path: Path) -> None:
    assert found(form(DIAG), tmp_path) == {
        Severity.HIGH: [
            "Page Retirement/Row Remap: Fail GPU 3 Row remapping failed for GPU 3. Contact the vendor of the system."
        ],
        Severity.MEDIUM: ["Persistence Mode: Warn GPU 1 Persistence mode for GPU 1 is disabled."],
    }


@FORMS
def test_a_watch_that_warns_is_a_finding_with_its_reason(form: Callable[[str], str], tmp_path: Path) -> None:
    assert found(form(HEALTH), tmp_path) == {
        Severity.MEDIUM: [
            "GPU ID: 0: PCIe system: Warning - Detected more than 8 PCIe replays per minute for GPU 0: 13",
        ]
    }


def test_the_json_of_a_diagnostic_says_the_same(tmp_path: Path) -> None:
    assert found(JSON, tmp_path) == {
        Severity.HIGH: ["Page Retirement/Row Remap, GPU 3: Fail Row remapping failed for GPU 3."]
    }


def test_warnings_that_are_deeply_nested_are_read_without_an_end_of_the_stack(tmp_path: Path) -> None:
    deep = "[" * 900 + "]" * 900
    assert found(JSON.replace('"Row remapping failed for GPU 3."', deep), tmp_path) == {
        Severity.HIGH: ["Page Retirement/Row Remap, GPU 3: Fail"]
    }


def test_what_passed_is_no_finding(tmp_path: Path) -> None:
    text = DIAG.replace("Fail ", "Pass ").replace("Warn ", "Pass ")
    assert found(text, tmp_path) == {}
    assert read_bytes(text.encode(), tmp_path).kernel.nvidia_version.value == "570.211.01"


@FORMS
def test_the_list_of_gpus_names_them_and_their_places(form: Callable[[str], str], tmp_path: Path) -> None:
    gpus = read_bytes(form(LIST).encode(), tmp_path).accelerators
    assert [(gpu.index, gpu.name, gpu.address) for gpu in gpus] == [
        (0, "NVIDIA A100-SXM4-40GB", "0000:3b:00.0"),
        (1, "NVIDIA A100-SXM4-40GB", "0000:86:00.0"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        SESSION,
        SESSION.replace(">>> ", "In [1]: "),
        "python3 -c 'import torch; print(torch.__version__); print(torch.cuda.is_available())'\n2.13.0+cpu\nFalse\n",
        "import torch\nprint(torch.__version__)\n2.13.0+cpu\nprint(torch.cuda.is_available())\nFalse\n",
    ],
)
def test_a_session_of_python_says_that_pytorch_finds_no_accelerator(text: str, tmp_path: Path) -> None:
    facts = read_bytes(text.encode(), tmp_path)
    (finding,) = judge(facts).findings
    assert finding.id == "accel.cuda-unavailable"
    assert "PyTorch 2.13.0+cpu (a build for the CPU alone)" in finding.title
    assert [evidence.source for evidence in finding.evidence] == ["Python session"]


def test_a_session_in_which_it_finds_one_has_no_finding(tmp_path: Path) -> None:
    facts = read_bytes(SESSION.replace("False", "True").replace("+cpu", "+cu130").encode(), tmp_path)
    assert judge(facts).findings == ()
    assert facts.frameworks.versions == (("torch", "2.13.0+cu130"),)


def test_a_question_without_an_answer_is_not_taken_for_one(tmp_path: Path) -> None:
    with pytest.raises(ReadError):
        read_bytes(b">>> torch.cuda.is_available()\n", tmp_path)
