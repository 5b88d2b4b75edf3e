"""JSON, SARIF and HTML of a pasted text: no secret, no name of a person or host, nothing that a terminal acts on."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bedplate.cli.main import main

PLANTED = ("planted-password", "hf_plantedPlanted0123456789", "plantedhost", "planteduser")
PASSWORD, TOKEN, HOST, USER = PLANTED
TABLE = (Path(__file__).parents[1] / "pasted-threads" / "all-values-err.txt").read_text()
TEXTS = {
    "kernel log": f"Feb 14 05:03:41 {HOST} kernel: NVRM: Xid (PCI:0000:9c:00): 79, pid=42, name=/home/{USER}/run, GPU"
    f" has fallen off the bus.\nFeb 14 05:03:42 {HOST} kernel: nfs: server {HOST}.corp.example not responding, trying\n"
    f"Feb 14 05:03:43 {HOST} kernel: Memory cgroup out of memory: Killed process 12 (x -t {PASSWORD}) total-vm:1kB\n",
    "environment": "Collecting environment information...\nPyTorch version: 2.8.0\nIs CUDA available: False\n"
    "GPU models and configuration: GPU 0: NVIDIA A100-SXM4-40GB\nNvidia driver version: 580.65.06\n"
    f"vLLM Version: 0.11.0\nHF_TOKEN={TOKEN}\nNCCL_SOCKET_IFNAME={TOKEN}\nVLLM_API_KEY={PASSWORD}\n",
    "command line": f"$ cat /proc/cmdline\nBOOT_IMAGE=/v root=UUID=1 isolcpus=4-63 token={TOKEN} password={PASSWORD}\n",
    "engine": "WARNING 03-02 19:48:25 [x.py:1] Custom allreduce is disabled\n"
    f"ERROR 03-02 19:49:00 [x.py:7] No platform detected at https://a:{PASSWORD}@h/x, system not yet initialized {TOKEN}\n",
    "failure": f"root@{HOST}:~# nvidia-smi\nFailed to initialize NVML: Driver/library version mismatch token {TOKEN}\n",
    "name of a GPU": TABLE.replace("NVIDIA A800-SXM4-80GB          On", f"x  HF_TOKEN={PASSWORD} On"),
}
CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


@pytest.mark.parametrize("form", ["--json", "--sarif", "--html"])
@pytest.mark.parametrize("text", TEXTS.values(), ids=list(TEXTS))
def test_an_output_to_pass_on_has_no_secret_and_no_person(
    text: str, form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pasted, page = tmp_path / "pasted.txt", tmp_path / "page.html"
    pasted.write_text(text)
    main(["doctor", "--from", str(pasted), *((form, str(page)) if form == "--html" else (form,))])
    output = page.read_text() if form == "--html" else capsys.readouterr().out
    assert "pasted.txt" in output
    assert [word for word in PLANTED if word in output] == []


@pytest.mark.parametrize("form", ["--json", "--sarif", "--verbose"])
def test_an_output_has_nothing_that_a_terminal_acts_on(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pasted = tmp_path / "pasted.txt"
    name = "A8\x9b31m\u202e00\u2028x\x7f"
    pasted.write_text(TABLE.replace("A800-SXM4-80GB       ", name.ljust(21)))
    main(["doctor", "--from", str(pasted), form])
    output = capsys.readouterr().out
    assert CONTROLS.findall(output) == []
    if form == "--json":
        assert name in json.dumps(json.loads(output), ensure_ascii=False)
