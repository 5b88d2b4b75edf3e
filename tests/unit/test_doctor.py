"""The commands `doctor` and `inspect` from end to end on recorded machines: what they print, and how they end."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from pathlib import Path

import pytest
from tests.unit.json_schema import problems_of

from bedplate.cli.main import main
from bedplate.cli.screen import this_screen
from bedplate.flows import audit
from bedplate.report.audit.document import SCHEMA_PAGE

REPOSITORY = Path(__file__).parents[2]
MACHINES = REPOSITORY / "tests/machines"
DATA = Path(os.environ.get("BEDPLATE_DATA") or REPOSITORY.parent / "shared/data")
LSPCI = DATA / "machines/gpud/lspci-vvv.txt.gz"

# A GPU whose link trained at half its width, two switch ports of which one redirects: what lspci -vvv prints of it.
NARROW = """\
00:01.0 PCI bridge: Intel Corporation Device 352a (rev 04) (prog-if 00 [Normal decode])
\tNUMA node: 0
\tBus: primary=00, secondary=01, subordinate=01, sec-latency=0
\tCapabilities: [40] Express (v2) Root Port (Slot+), MSI 00
\t\tLnkCap:\tPort #1, Speed 32GT/s, Width x16, ASPM not supported
\t\tLnkSta:\tSpeed 32GT/s (ok), Width x8 (downgraded)

01:00.0 3D controller: NVIDIA Corporation Device 2330 (rev a1)
\tNUMA node: 0
\tCapabilities: [60] Express (v2) Endpoint, MSI 00
\t\tLnkCap:\tPort #0, Speed 32GT/s, Width x16, ASPM not supported
\t\tLnkSta:\tSpeed 32GT/s (ok), Width x8 (downgraded)
\tKernel driver in use: nvidia
"""


@pytest.fixture
def narrow(tmp_path: Path) -> Path:
    path = tmp_path / "lspci.txt"
    path.write_text(NARROW)
    return path


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr("sys.argv", ["bedplate"])


def test_a_finding_at_the_threshold_ends_with_1(narrow: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--from", str(narrow)]) == 1
    out = capsys.readouterr().out
    assert "link.narrow at 0000:01:00.0" in out
    assert "NVIDIA H100 SXM5 80GB" in out
    assert "recorded: lspci.txt" in out


@pytest.mark.parametrize(("threshold", "status"), [("info", 1), ("critical", 0), ("never", 0)])
def test_the_threshold_is_the_callers(threshold: str, status: int, narrow: Path) -> None:
    assert main(["doctor", "--from", str(narrow), "--fail-on", threshold]) == status


def test_a_suppressed_finding_does_not_fail(narrow: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "suppress.toml"
    file.write_text('schema = 1\n[[suppress]]\nid = "link.narrow"\nreason = "the slot has eight lanes"\n')
    assert main(["doctor", "--from", str(narrow), "--fail-on", "high", "--suppress", str(file)]) == 0
    assert "suppressed: link.narrow at 0000:01:00.0: the slot has eight lanes" in capsys.readouterr().out


def test_json_and_sarif_are_whole(narrow: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schema = json.loads((REPOSITORY / SCHEMA_PAGE).read_text())
    for verb, status in (("doctor", 1), ("inspect", 0)):
        assert main([verb, "--from", str(narrow), "--json"]) == status
        document = json.loads(capsys.readouterr().out)
        assert list(problems_of(document, schema, schema)) == []
        assert document["origin"] == "lspci.txt"
    assert main(["doctor", "--from", str(narrow), "--sarif"]) == 1
    run = json.loads(capsys.readouterr().out)["runs"][0]
    assert "link.narrow" in [result["ruleId"] for result in run["results"]]
    rule = next(rule for rule in run["tool"]["driver"]["rules"] if rule["id"] == "link.narrow")
    assert rule["help"]["text"]


def test_inspect_marks_the_link_and_does_not_fail(narrow: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--from", str(narrow)]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "GPU 0" in line]
    assert "32 GT/s x8, can x16" in line
    assert "[1]" in line


def test_the_page_is_written_at_once(narrow: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "report.html"
    page.write_text("old")
    assert main(["doctor", "--from", str(narrow), "--html", str(page)]) == 1
    assert page.read_text().startswith("<!doctype html>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lspci.txt", "report.html"]
    assert f"wrote {page}" in capsys.readouterr().err


def test_a_page_that_cannot_be_written_leaves_nothing(
    narrow: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for target in (tmp_path / "none/report.html", tmp_path):
        assert main(["doctor", "--from", str(narrow), "--html", str(target)]) == 2
        assert "error: --html: " in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["lspci.txt"]


@pytest.mark.parametrize("verb", ["doctor", "inspect"])
@pytest.mark.parametrize("content", [None, b"", b"\0" * 5000, b"just text\n", gzip.compress(b"x" * 100, mtime=0)[:-9]])
def test_what_cannot_be_read_ends_with_2(
    verb: str, content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "recording"
    if content is not None:
        path.write_bytes(content)
    assert main([verb, "--from", str(path)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert "Traceback" not in said.err


def test_a_wrong_file_of_suppressions_ends_with_2(narrow: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "suppress.toml"
    file.write_text("schema = 1\n[[suppress]]\nid = 1\n")
    assert main(["doctor", "--from", str(narrow), "--suppress", str(file)]) == 2
    assert "suppress" in capsys.readouterr().err


def test_a_bug_does_not_look_like_findings(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("bug")

    monkeypatch.setattr(audit, "read_report", broken)
    assert main(["doctor"]) == 2
    assert "KeyError: 'bug'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("terminal", "environment", "colour"),
    [
        (True, {"TERM": "xterm"}, True),
        (False, {"TERM": "xterm"}, False),
        (True, {"TERM": "dumb"}, False),
        (True, {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (True, {"TERM": "xterm", "NO_COLOR": ""}, True),
    ],
)
def test_colour_is_for_terminals(
    terminal: bool, environment: dict[str, str], colour: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    assert this_screen().colour is colour


@pytest.mark.parametrize("name", sorted(path.name for path in (REPOSITORY / "tests/machines").iterdir() if path.is_dir()))
def test_every_recorded_machine_is_shown(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recording = str(REPOSITORY / "tests/machines" / name)
    assert main(["inspect", "--from", recording]) == 0
    assert main(["doctor", "--from", recording, "--fail-on", "never", "--html", str(tmp_path / "page.html")]) == 0
    assert f"recorded: {name}" in capsys.readouterr().out


@pytest.mark.data
def test_the_server_with_eight_gpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not LSPCI.is_file():
        pytest.skip(f"{LSPCI} is not there")
    page = tmp_path / "page.html"
    assert main(["doctor", "--from", str(LSPCI), "--fail-on", "never", "--html", str(page), "--verbose"]) == 0
    out = capsys.readouterr().out
    ports = ", ".join(f"0000:82:0{number}.0" for number in range(4))
    assert f"pci.acs-mixed at {ports}" in out
    assert page.read_text().count('class="chip gpu') == 2 * 8  # the wide map and the narrow one
    assert main(["inspect", "--from", str(LSPCI)]) == 0
    tree = capsys.readouterr().out
    first, second = tree.split("NUMA node 1")
    assert [gpu in first for gpu in ("19:00.0", "3b:00.0", "4c:00.0", "5d:00.0")] == [True] * 4
    assert [gpu in second for gpu in ("9b:00.0", "bb:00.0", "cb:00.0", "db:00.0")] == [True] * 4


def test_json_has_no_people_hosts_and_secrets_of_command_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    machine = tmp_path / "machine"
    shutil.copytree(MACHINES / "ubuntu-vllm", machine, symlinks=True)
    words = ("vllm", "serve", "/home/canaryalice/models/llama", "-hft", "canarysecret", "--host", "canarynode.corp.example")
    (machine / "proc/4711/cmdline").write_bytes("\0".join([*words, ""]).encode())
    for verb in (["doctor", "--fail-on", "never"], ["inspect"]):
        assert main([*verb, "--json", "--from", str(machine)]) == 0
        document = json.loads(capsys.readouterr().out)
        (engine,) = (engine for engine in document["facts"]["engines"] if engine["pid"] == 4711)
        assert engine["argv"] == ["vllm", "serve", "/home/user-1/models/llama", "-hft", "***", "--host", "host-1"]
        assert engine["model_paths"] == ["/home/user-1/models/llama"]
        assert "canary" not in json.dumps(document["facts"]["engines"])


SECRET = "plantedSecret"
_FILES = {
    "proc/cmdline": f"root=/dev/sda systemd.set_credential=hf:{SECRET} systemd.setenv=HF_TOKEN={SECRET} x.authkey={SECRET} "
    f"ignition.config.url=http://u:{SECRET}@h/?token={SECRET} x.config=http://h/?uuid=1&sig={SECRET} "
    f"transparent_hugepage=never sysctl.kernel.core_pattern=|/x?token={SECRET} -- --token {SECRET}\n",
    "etc/sysctl.conf": f"# {SECRET}\nvm.swappiness = 100 # token={SECRET}\nkernel.core_pattern = |/x --token {SECRET} y\n",
    "etc/sysctl.d/99-x.conf": f"kernel.modprobe = /x?token={SECRET}\nkernel.numa_balancing = 1 password={SECRET}\n",
    "etc/security/limits.conf": f"# {SECRET}\n* hard nofile 1 # password {SECRET}\n* soft memlock 1 password={SECRET}\n",
    "etc/systemd/system/fstrim.service.d/a.conf": f"# {SECRET}\n[Timer]\nOnCalendar=daily\nSetCredential=a:{SECRET}\n"
    f"Environment=HF_TOKEN={SECRET} VLLM_API_KEY={SECRET}\nExecStart=/x --api-key \\\n {SECRET} --port 5\n",
    "etc/systemd/system/logrotate.service.d/a.conf": f"[Manager]\nDefaultEnvironment=LLAMA_API_KEY={SECRET}\n",
}
_MOUNTS = (
    f"900 1 0:99 / /mnt/a rw - cifs //srv/x rw,username=me,password={SECRET},password2={SECRET}",
    f"901 1 0:98 / /mnt/token={SECRET} rw - ext4 /dev/sdb rw",
    f"902 1 0:95 / /mnt/d rw - davfs https://u:{SECRET}@h/ rw",
    f"903 1 0:94 / /mnt/e rw - fuse.juicefs JuiceFS:redis://:{SECRET}@h/1 rw",
    f"904 1 0:93 / /mnt/f rw - fuse.rclone :s3,secret_access_key={SECRET}: rw",
    f"905 1 0:92 / /mnt/my\\040disk rw - fuse.s3fs s3fs rw,url=http://u:{SECRET}@h,token={SECRET},noatime",
)


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A machine whose kernel, mounts, settings and engines hold secrets."""
    machine = tmp_path / "machine"
    shutil.copytree(MACHINES / "ubuntu-vllm", machine, symlinks=True)
    for name, text in _FILES.items():
        (machine / name).parent.mkdir(parents=True, exist_ok=True)
        (machine / name).unlink(missing_ok=True)
        (machine / name).write_text(text)
    table = machine / "proc/self/mountinfo"
    table.write_text(table.read_text() + "".join(f"{line}\n" for line in _MOUNTS))
    words = ("vllm", "serve", f"/mnt/token={SECRET}/x", "--api-key", SECRET)
    (machine / "proc/4711/cmdline").write_bytes("\0".join([*words, ""]).encode())
    return machine


@pytest.mark.parametrize("form", ["--json", "--sarif", "--verbose", "--html", "inspect", "inspect --json", "tune"])
def test_no_form_of_a_report_has_a_secret_of_the_machine(
    form: str, planted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    verbs = {
        "--html": ["doctor", "--fail-on", "never", "--html", str(page)],
        "inspect": ["inspect"],
        "inspect --json": ["inspect", "--json"],
        "tune": ["tune", "plan", "--json"],
    }
    assert main([*verbs.get(form, ["doctor", "--fail-on", "never", form]), "--from", str(planted)]) == 0
    shown = capsys.readouterr().out + (page.read_text() if page.exists() else "")
    assert SECRET not in shown, [line for line in shown.splitlines() if SECRET in line]


def test_facts_to_give_away_keep_what_stands_beside_a_secret(planted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--fail-on", "never", "--json", "--from", str(planted)]) == 0
    document = json.loads(capsys.readouterr().out)
    facts = document["facts"]
    assert facts["kernel"]["cmdline"][:4] == [
        "root=/dev/sda", "systemd.set_credential=***", "systemd.setenv=HF_TOKEN=***", "x.authkey=***"
    ]  # fmt: skip
    assert facts["kernel"]["cmdline"][-3:] == ["--", "--token", "***"]
    mounts = {mount["point"]: mount for mount in facts["mounts"]}
    assert mounts["/mnt/my disk"]["options"] == ["rw", "url=http://***@host-1", "token=***", "noatime"]
    assert mounts["/mnt/token=***"]["source"] == "/dev/sdb"
    knobs = {knob["source"]: knob for knob in facts["knobs"]}
    timer = knobs["/etc/systemd/system/fstrim.service.d/a.conf"]["value"]
    assert timer.splitlines()[:3] == ["[Timer]", "OnCalendar=daily", "SetCredential=***"]
    assert "--api-key *** --port 5" in timer
