"""`bedplate stack check` on whole hosts: silent on a clean one; each drift is found, alone, with others, in a recording."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bedplate.catalog.stack import read_stack
from bedplate.catalog.stack_lock import read_lock
from bedplate.cli.main import main
from bedplate.flows.audit import read_report, without_people
from bedplate.flows.stack import StackRequest, resolve_stack, write_lock
from bedplate.flows.stack_check import check_stack
from bedplate.host.record.record import record_host, render_archive
from bedplate.host.root.root import Root
from bedplate.model.audit_report import AuditReport
from bedplate.model.facts.finding import Severity
from bedplate.model.stack import StackConflict
from bedplate.report.audit.document import render_document
from tests.stack.drifts import FIRST, SECOND, Drift
from tests.stack.host import DRIVER, SITE, StackHost, make_host
from tests.unit.test_hostile_machines import load, read, spoil

MACHINES = Path(__file__).parents[1] / "machines"
ROWS = read_stack(drop_ins=None)
IDS = [f"{drift.name}-{kind}" for kind, drifts in (("first", FIRST), ("second", SECOND)) for drift in drifts]


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once: dpkg takes a second for it."""
    top = tmp_path_factory.mktemp("clean") / "host"
    make_host(top)
    return top


@pytest.fixture
def host(clean: Path, tmp_path: Path) -> StackHost:
    """A copy of the clean host that a test may change."""
    top = tmp_path / "host"
    shutil.copytree(clean, top, symlinks=True)
    return StackHost(top)


def check(host: StackHost, lock: Path | None = None) -> AuditReport:
    return check_stack(None, lock=lock, root=Root(host.top), catalogue=ROWS)


def found(report: AuditReport) -> set[str]:
    return {finding.id for finding in report.findings}


def test_a_clean_host_has_no_finding(clean: Path) -> None:
    report = check(StackHost(clean))
    assert [(finding.id, finding.title) for finding in report.findings] == []
    assert report.audit.not_judged == ()
    stack = report.facts.stack
    assert [library.version for library in stack.libraries] == [DRIVER, DRIVER]
    assert [module.version.value for module in stack.module_files] == [DRIVER]
    assert [environment.path for environment in stack.environments] == ["/opt/vllm"]
    assert {code.path.rpartition("/")[2]: code.architectures for code in stack.environments[0].code} == {
        "libtorch_cuda.so": ("sm_50", "sm_80", "sm_90"),
        "_C.abi3.so": ("sm_80", "sm_90"),
        "_moe_C.abi3.so": ("sm_100",),
    }


@pytest.mark.parametrize("drift", [*FIRST, *SECOND], ids=IDS)
def test_a_drift_is_found_and_nothing_else_is(drift: Drift, host: StackHost) -> None:
    drift.plant(host)
    report = check(host)
    assert found(report) == drift.findings, [finding.title for finding in report.findings]
    for finding in report.findings:
        assert finding.evidence and finding.fix and finding.undo
        assert finding.severity is not Severity.INFO


@pytest.mark.parametrize("drifts", [FIRST, SECOND], ids=["first", "second"])
def test_all_drifts_together_are_all_found(drifts: tuple[Drift, ...], host: StackHost) -> None:
    for drift in drifts:
        drift.plant(host)
    expected = {finding for drift in drifts for finding in drift.findings}
    assert expected <= found(check(host))
    assert found(check(host)) - expected <= {"stack.driver-mixed"}


@pytest.mark.parametrize("drift", [*FIRST, *SECOND], ids=IDS)
def test_evidence_names_files_that_are_there_or_were_looked_for(drift: Drift, host: StackHost) -> None:
    drift.plant(host)
    for finding in check(host).findings:
        for piece in finding.evidence:
            for source in piece.source.split(" or "):
                assert source.startswith("/") or source == "the catalogue", piece
                gone = (
                    source == "the catalogue"
                    or ("no " in piece.fact)
                    or ("missing" in piece.fact)
                    or ("not there" in piece.fact)
                )
                assert gone or host.at(source).exists() or host.at(source).is_symlink(), (finding.id, piece)


@pytest.mark.parametrize("drift", [*FIRST, *SECOND], ids=IDS)
def test_a_recording_says_the_same_as_the_host(drift: Drift, host: StackHost, tmp_path: Path) -> None:
    drift.plant(host)
    recorded = record_host(Root(host.top), bedplate="0", recorded="2026-11-30T00:00:00Z")
    (tmp_path / "host.tar.gz").write_bytes(render_archive(recorded, ".tar.gz"))
    live, read = check(host), check_stack(tmp_path / "host.tar.gz", catalogue=ROWS)
    assert [finding.id for finding in read.findings] == [finding.id for finding in live.findings]
    assert read.facts.stack.module_files == live.facts.stack.module_files
    assert read.facts.stack.environments == live.facts.stack.environments
    assert read.facts.stack.packages.value == live.facts.stack.packages.value
    assert read.facts.stack.dkms.value == live.facts.stack.dkms.value


def test_a_failed_build_names_the_error_and_the_known_cause(host: StackHost) -> None:
    FIRST[5].plant(host)
    (finding,) = check(host).findings
    assert "takes a fourth argument" in finding.title
    assert any("too few arguments" in piece.fact and piece.source.endswith("make.log") for piece in finding.evidence)


def test_a_recording_holds_neither_large_files_nor_what_is_in_home_directories(host: StackHost) -> None:
    host.write("/home/alice/secret-plans/pyvenv.cfg", "home = /usr/bin\n")
    host.write_wheel("torch", "2.10.0", site="/home/alice/secret-plans/lib/python3.13/site-packages")
    host.write("/home/alice/diary/today", "dear diary")
    recorded = record_host(Root(host.top), bedplate="0", recorded="2026-11-30T00:00:00Z")
    text = json.dumps(recorded.manifest) + "".join(recorded.files) + "".join(map(str, recorded.files.values()))
    assert "alice" not in text and "diary" not in text
    assert not any(path.endswith((".so", ".xz", "METADATA")) for path in recorded.files)
    assert "PGP" not in text and "nobody@example.org" not in text
    assert "/home/user-1/secret-plans" in recorded.files["/vendor/stack.json"].decode()


def test_a_report_to_give_away_names_no_host_and_no_person(host: StackHost, tmp_path: Path) -> None:
    host.write("/etc/apt/sources.list", "deb https://me:hunter2canary@mirror.corp.example/debian trixie main\n")
    host.write("/home/alice/venv/pyvenv.cfg", "home = /usr/bin\n")
    host.write_wheel("torch", "2.10.0", site="/home/alice/venv/lib/python3.13/site-packages")
    report = check(host)
    assert "/home/alice/venv" in [environment.path for environment in report.facts.stack.environments]
    text = render_document(without_people(report))
    for name in ("alice", "hunter2canary", "corp.example", "toolkit.example"):
        assert name not in text, name
    stack = json.loads(text)["facts"]["stack"]
    (pin,) = [pin["value"] for pin in stack["pins"] if pin["kind"] == "origin"]
    assert any(pin.strip('"') in source["uri"] for source in stack["sources"]["value"])


def test_doctor_judges_by_the_same_rules_and_says_what_it_left_out(host: StackHost) -> None:
    for drift in FIRST:
        drift.plant(host)
    report = read_report(None, root=Root(host.top))
    quick = {"kernel-held", "driver-mixed", "cuda-second", "dkms-driver", "library-module", "cdi-missing", "source-gone"}
    assert {id for id in found(report) if id.startswith("stack.")} == {f"stack.{name}" for name in quick}
    assert "driver.next-kernel" not in found(report) and "driver.version-mismatch" not in found(report)
    assert any("bedplate stack check" in entry.why for entry in report.audit.not_judged)
    assert report.facts.stack.environments == ()


def make_lock(path: Path) -> Path:
    """What the host is, as a lock: `repaired` is the source of the only open module that builds for this kernel."""
    request = StackRequest(
        engines=("vllm ==0.19.1",),
        accelerators=("h100",),
        require=("nvidia-driver ==550.163.01", "nvidia-driver.flavour ==open", "kernel ==6.12.118"),
        sources=("debian-13", "debian-13-security", "debian-13-backports", "repaired", "pypi"),
    )
    record = resolve_stack(request, catalogue=ROWS)
    assert not isinstance(record, StackConflict), record
    write_lock(path, record)
    return path


def test_a_host_that_is_what_its_lock_says_has_no_finding(host: StackHost, tmp_path: Path) -> None:
    lock = make_lock(tmp_path / "stack.lock")
    versions = {choice.release.component: choice.release.version for choice in read_lock(lock).lock.choices}
    host.write_wheel("transformers", versions["transformers"])
    shutil.rmtree(host.at(f"{SITE}/transformers-4.57.1.dist-info"), ignore_errors=versions["transformers"] == "4.57.1")
    assert [(finding.id, finding.title) for finding in check(host, lock).findings] == []


def test_another_revision_of_the_packaging_is_worth_little(host: StackHost, tmp_path: Path) -> None:
    lock = make_lock(tmp_path / "stack.lock")
    host.install(("firmware-nvidia-gsp", f"{DRIVER}-9"))
    (finding,) = [finding for finding in check(host, lock).findings if finding.where == ("nvidia-firmware",)]
    assert (finding.id, finding.severity) == ("stack.lock-drift", Severity.LOW)


def test_what_differs_from_the_lock_is_found(host: StackHost, tmp_path: Path) -> None:
    lock = make_lock(tmp_path / "stack.lock")
    host.install((f"linux-image-{host.following}", "6.12.119-1"))
    shutil.rmtree(host.at(f"{SITE}/vllm-0.19.1.dist-info"))
    host.write_wheel("vllm", "0.18.1")
    path = host.at("/etc/apt/sources.list.d/debian.sources")
    path.write_text(path.read_text().replace("trixie-security", "trixie-proposed-updates"))
    titles = {finding.title for finding in check(host, lock).findings}
    assert "the lock has kernel 6.12.118, but the next boot has another kernel release, 6.12.119" in titles
    assert "layer vllm of the lock has vllm 0.19.1, but /opt/vllm has 0.18.1" in titles
    assert any("takes kernel" in title and "no enabled source" in title for title in titles), titles


def test_a_lock_whose_engine_is_nowhere_and_whose_driver_is_absent(host: StackHost, tmp_path: Path) -> None:
    lock = make_lock(tmp_path / "stack.lock")
    shutil.rmtree(host.at("/opt/vllm"))
    host.dpkg("--remove", "firmware-nvidia-gsp")
    findings = [finding for finding in check(host, lock).findings if finding.id == "stack.lock-missing"]
    assert sorted(finding.where[0] for finding in findings) == ["nvidia-firmware", "vllm"]


def test_a_spoilt_host_is_read_and_judged(clean: Path) -> None:
    """Files cut, changed or replaced, links turned elsewhere: findings or none, but no traceback, and a recording reads."""
    tree = load(clean)
    for seed in range(60):
        read(spoil(tree, seed))


@pytest.mark.parametrize("path", sorted(MACHINES.iterdir()), ids=lambda path: path.name)
def test_recorded_machines_have_no_finding_that_their_files_do_not_show(path: Path) -> None:
    report = check_stack(path, catalogue=ROWS)
    for finding in report.findings:
        for piece in finding.evidence:
            where = path / piece.source.lstrip("/")
            assert where.exists() or where.is_symlink() or "missing" in piece.fact or "no " in piece.fact, (
                finding.id,
                piece,
            )


def test_the_command_prints_what_it_found_and_ends_as_doctor_does(
    host: StackHost, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    FIRST[6].plant(host)
    assert main(["stack", "check", "--from", str(host.top), "--verbose"]) == 1
    out = capsys.readouterr().out
    assert "6.12.117+deb13-amd64 runs, 6.12.118+deb13-amd64 boots next" in out
    assert "/opt/vllm: torch 2.10.0+cu128, transformers 4.57.1, vllm 0.19.1" in out
    assert "stack.library-module" in out
    assert main(["stack", "check", "--from", str(host.top), "--fail-on", "never", "--html", str(tmp_path / "a.html")]) == 0
    page = (tmp_path / "a.html").read_text()
    assert "bedplate stack check" in page
    for title in ("Packages of the stack", "Modules of dkms", "GPU modules on disk", "Python environments"):
        assert title in page
    capsys.readouterr()
    assert main(["stack", "check", "--from", str(host.top), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["facts"]["stack"]["libraries"][0]["version"] == "535.261.03"
    assert main(["stack", "check", "--from", str(tmp_path / "nothing")]) == 2
    assert main(["stack", "check", "--venv", str(tmp_path / "nothing")]) == 2
