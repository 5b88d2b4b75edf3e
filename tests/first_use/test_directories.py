"""Every verb, where the cache or the state directory cannot be used, the disk is full, or nobody takes the output."""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import resource
import select
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bedplate.cli.main import VERBS, main
from bedplate.host.root.zstd import pack_zstd

MACHINES = Path(__file__).parents[1] / "machines"
RECORDING = ("--from", str(MACHINES / "serving-host"))
# argv of each verb, and whether it must have looked into the two directories
COMMANDS: dict[str, list[tuple[tuple[str, ...], bool]]] = {
    "up": [(("up", "--no-ask", "--no-install"), True)],
    "down": [(("down",), True)],
    "status": [(("status",), True)],
    "logs": [(("logs", "--list"), True)],
    "shell": [(("shell", "-c", "true"), True)],
    "ask": [(("ask", "--endpoint", "http://127.0.0.1:9", "hello"), False)],
    "selftest": [(("selftest", "--endpoint", "http://127.0.0.1:9"), False)],
    "image": [
        (("image", "build"), True),
        (("image", "list"), True),
        (("image", "show"), True),
        (("image", "rm", "x"), True),
    ],
    "engine": [(("engine", "list"), True), (("engine", "show", "vllm"), True)],
    "config": [
        (("config", "schema"), False),
        (("config", "check", "/nothing"), False),
        (("config", "show", "--root", "OUT"), False),
    ],
    "model": [
        (("model", "list"), True),
        (("model", "add", "MODEL"), True),
        (("model", "rm", "x"), True),
        (("model", "make", "random", "--like", "smollm2-135m"), True),
        (("model", "verify"), True),
    ],
    "clean": [(("clean", "--yes"), True)],
    "key": [(("key", "add", "laptop"), True), (("key", "list"), True)],
    "ca": [(("ca", "show", "--help"), False)],
    "fit": [(("fit", "llama-3.1-8b", "--on", "h100"), False)],
    "catalog": [(("catalog", "list", "--root", "OUT"), False), (("catalog", "show", "x", "--root", "OUT"), False)],
    "stack": [
        (("stack", "resolve", "--engine", "vllm", "--accelerator", "h100"), False),
        (("stack", "check", *RECORDING), False),
    ],
    "inspect": [(("inspect", *RECORDING), False)],
    "doctor": [(("doctor", *RECORDING), False)],
    "record": [(("record", *RECORDING, "-o", "OUT/host.tar"), False)],
    "tune": [(("tune", "plan", *RECORDING), False)],
    "measure": [(("measure", "/nothing", "--dry-run"), False)],
    "prove": [(("prove", "list"), True)],
    "explain": [(("explain", "vm.swappiness"), False)],
    "serve": [(("serve", "show", "--root", "OUT"), False)],
    "guard": [(("guard", "--help"), False)],
    "var": [(("var", "--help"), False)],
}
CASES = [(argv, looks) for rows in COMMANDS.values() for argv, looks in rows]
IDS = [" ".join(argv[:2]) for argv, _ in CASES]


def test_every_verb_is_tried() -> None:
    assert set(COMMANDS) == {verb for verbs in VERBS.values() for verb in verbs}


def call(argv: tuple[str, ...], tmp_path: Path) -> int:
    from tests.unit.store_cases import write_model

    (tmp_path / "out").mkdir()
    model = write_model(tmp_path / "model.gguf")
    words = [word.replace("OUT", str(tmp_path / "out")).replace("MODEL", str(model)) for word in argv]
    try:
        return main(words)
    except SystemExit as end:
        return int(end.code or 0)


@pytest.mark.parametrize("case", ["a file", "below a file", "denied", "cache is a file"])
@pytest.mark.parametrize(("argv", "looks"), CASES, ids=IDS)
def test_a_directory_that_cannot_be_used_is_a_sentence(
    argv: tuple[str, ...],
    looks: bool,
    case: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").write_text("")
    good, file = tmp_path / "good", tmp_path / "file"
    # /sys takes no directories, not from root either
    bad = {"a file": file, "below a file": file / "state", "denied": Path("/sys/bedplate"), "cache is a file": file}[case]
    cache = case == "cache is a file"
    monkeypatch.setenv("BEDPLATE_STATE_DIR", str(good if cache else bad))
    monkeypatch.setenv("BEDPLATE_CACHE_DIR", str(bad if cache else good))
    status = call(argv, tmp_path)  # an exception that is no BedplateError fails the test here
    said = capsys.readouterr().err
    assert "Traceback" not in said
    if looks and not cache and case != "denied":
        assert status == 3, said
        assert f"error: {file}" in said, said
        assert "BEDPLATE_STATE_DIR" in said
    if case == "denied" and argv[:2] in (("up", "--no-ask"), ("image", "build"), ("model", "add"), ("model", "make")):
        assert status == 3 and "error: /sys/bedplate" in said, said


@pytest.fixture
def full_disk() -> Iterator[None]:
    """The kernel refuses each byte that is written to a file, as it does on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (("up", "--no-ask", "--no-install", "--memory", "1G"), 3),
        (("image", "build", "--mirror", "http://127.0.0.1:9/debian"), 3),
        (("model", "add", "MODEL"), 3),
        (("model", "make", "random", "--like", "smollm2-135m"), 3),
        (("down",), 0),  # these two are the way out
        (("clean", "--yes"), 0),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else "",
)
def test_a_full_disk_is_a_sentence(
    argv: tuple[str, ...],
    expected: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    from tests.unit.store_cases import write_model

    monkeypatch.setenv("BEDPLATE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("BEDPLATE_CACHE_DIR", str(tmp_path / "cache"))
    model = write_model(tmp_path / "model.gguf")
    argv = tuple(word.replace("MODEL", str(model)) for word in argv)
    for name in ("cache/work", "state/logs"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_text("large")
    with pytest.MonkeyPatch.context() as stderr:
        stderr.setattr(sys, "stderr", (said := _Said()))
        stderr.setattr(sys, "stdout", _Said())
        request.getfixturevalue("full_disk")
        status = main(argv)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert status == expected, said.text
    assert "Traceback" not in said.text
    if expected:
        assert "\nhint: " in said.text
    if argv[0] == "clean":
        assert [path.name for name in ("state", "cache") for path in (tmp_path / name).iterdir()] == ["lock", "lock"]


class _Said:
    """stderr that is no file: pytest's own is one, and could not be written."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return False


def bedplate(*argv: str, redirect: str) -> subprocess.CompletedProcess[str]:
    """The command with its output redirected by a shell."""
    words = ["sh", "-c", f'exec "$0" -m bedplate.cli.main "$@" {redirect}', sys.executable, *argv]
    return subprocess.run(words, stderr=subprocess.PIPE, text=True, timeout=120, env=os.environ | {"LANG": "C.UTF-8"})


@pytest.mark.parametrize("redirect", [">/dev/full", ">&-"])
@pytest.mark.parametrize(
    "argv", [("--help",), ("doctor", "--help"), ("doctor", *RECORDING), ("inspect", "--json", *RECORDING), ("--version",)]
)
def test_output_that_cannot_be_written_is_a_sentence(argv: tuple[str, ...], redirect: str) -> None:
    done = bedplate(*argv, redirect=redirect)
    assert done.returncode == 7, done.stderr
    reason = "No space left on device" if "full" in redirect else "Bad file descriptor"
    assert done.stderr.splitlines()[0] == f"error: standard output: cannot be written: {reason}"
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize("argv", [("image", "list"), ("clean", "--yes"), ("model", "list"), ("status",)])
def test_one_directory_for_both_is_refused(
    tmp_path: Path, argv: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each has a lock of its own, and a command waited for itself."""
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.setenv("BEDPLATE_CACHE_DIR", str(tmp_path / "both"))
    monkeypatch.setenv("BEDPLATE_STATE_DIR", str(tmp_path / "link/both"))
    assert main(list(argv)) == 2
    assert "expected two directories" in capsys.readouterr().err


def test_output_without_a_buffer_fails_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    assert bedplate("doctor", *RECORDING, redirect=">/dev/full").returncode == 7


@pytest.fixture(params=["", "1"], ids=["buffered", "unbuffered"])
def buffering(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without a buffer of Python's: PYTHONUNBUFFERED is set in containers and units. Empty is as not set."""
    monkeypatch.setenv("PYTHONUNBUFFERED", request.param)


@pytest.mark.usefixtures("buffering")
@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_key_that_nobody_has_seen_is_told_with_what_makes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    monkeypatch.setenv("BEDPLATE_STATE_DIR", str(tmp_path))
    done = bedplate("key", "add", "chat", *more, redirect=">/dev/full")
    assert done.returncode == 7, done.stderr
    assert "chat: the key is stored, but its secret was not shown" in done.stderr
    assert "bedplate key rotate chat --grace 0" in done.stderr
    done = bedplate("key", "rotate", "chat", "--grace", "0", redirect="")
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("buffering")
def test_output_that_is_cut_is_a_sentence(tmp_path: Path) -> None:
    """The disk takes the first part of a write: the rest was counted as written, and the status was 0."""
    script = f'ulimit -f 8; exec "$0" -m bedplate.cli.main "$@" >{tmp_path}/out'
    words = ["sh", "-c", script, sys.executable, "doctor", *RECORDING, "--json", "--fail-on", "never"]
    done = subprocess.run(words, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    assert (tmp_path / "out").stat().st_size > 0  # the first part was taken
    assert done.returncode == 7, done.stderr
    assert done.stderr.startswith("error: standard output: cannot be written: File too large")


@pytest.mark.usefixtures("buffering")
def test_a_reader_that_goes_away_in_the_middle_is_141(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEDPLATE_STATE_DIR", str(tmp_path))
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/big.log").write_text("a line of a log\n" * 100_000)
    words = [sys.executable, "-m", "bedplate.cli.main", "logs", "big"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as logs:
        assert logs.stdout is not None and logs.stderr is not None
        assert os.read(logs.stdout.fileno(), 15) == b"a line of a log"
        logs.stdout.close()
        assert (logs.wait(120), logs.stderr.read()) == (141, b"")


@pytest.mark.usefixtures("buffering")
def test_a_full_pipe_that_does_not_block_is_waited_for() -> None:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writing, False)
    words = [sys.executable, "-m", "bedplate.cli.main", "doctor", *RECORDING, "--json", "--fail-on", "never"]
    with subprocess.Popen(words, stdout=writing, stderr=subprocess.PIPE) as doctor, os.fdopen(reading, "rb") as pipe:
        deadline = time.monotonic() + 120
        while select.select([], [writing], [], 0)[1]:  # until it is full
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.close(writing)
        output = pipe.read()
        assert doctor.wait(120) == 0, doctor.stderr and doctor.stderr.read()
    assert len(output) > 4096
    assert "findings" in json.loads(output)


def test_a_reader_that_went_away_is_no_error() -> None:
    script = "import os, subprocess, sys; r, w = os.pipe(); os.close(r);"
    script += "sys.exit(subprocess.run([sys.executable, '-m', 'bedplate.cli.main', '--help'], stdout=w).returncode)"
    done = subprocess.run([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("redirect", ["2>/dev/full", "2>&-"])
def test_talk_that_cannot_be_written_changes_nothing(redirect: str) -> None:
    assert bedplate("doctor", *RECORDING, "--fail-on", "never", redirect=f"{redirect} >/dev/null").returncode == 0
    assert bedplate("nonsense", redirect=redirect).returncode == 2


@pytest.mark.parametrize(("argv", "looks"), CASES, ids=IDS)
def test_a_working_directory_that_was_removed_is_a_sentence(
    argv: tuple[str, ...],
    looks: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A relative directory of bedplate has no meaning there, and looking for it raised twice."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    monkeypatch.setenv("BEDPLATE_STATE_DIR", "relative")
    monkeypatch.setenv("BEDPLATE_CACHE_DIR", str(tmp_path / "cache"))
    status = call(argv, tmp_path)
    said = capsys.readouterr().err
    if looks:
        assert (status, said.splitlines()[0]) == (
            3,
            "error: relative: is relative to the working directory, which was removed",
        )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize(
    "argv", [("serve", "prepare"), ("tune", "apply"), ("model", "list"), ("clean", "--yes"), ("record",), ("down",)]
)
def test_files_of_another_user_are_a_sentence(argv: tuple[str, ...], tmp_path: Path) -> None:
    """As nobody, in a directory of root's."""
    (tmp_path / "run").mkdir()
    words = [sys.executable, "-m", "bedplate.cli.main", *argv]
    words += ["--root", str(tmp_path)] if argv[0] in ("serve", "tune") else []
    for directory in (tmp_path, *tmp_path.parents):
        if directory.stat().st_uid == 0 and str(directory).startswith("/tmp/pytest"):
            directory.chmod(0o755)
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"HOME": str(tmp_path), "BEDPLATE_STATE_DIR": "", "BEDPLATE_CACHE_DIR": ""},
    )
    assert "Traceback" not in done.stderr, done.stderr
    if argv[0] in ("serve", "down"):
        assert done.returncode == 3, done.stderr
        assert str(tmp_path) in done.stderr.splitlines()[0]


@pytest.mark.parametrize("content", ["absent", "empty", "text", "truncated.tar.zst", "truncated.tar.gz", "short.tar"])
@pytest.mark.parametrize("argv", [("doctor",), ("inspect",), ("record", "-o", "OUT/host.tar"), ("tune", "plan")])
def test_what_is_no_recording_is_a_wrong_value(
    argv: tuple[str, ...], content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """2 from all verbs that take --from; what is empty or cut is said to be so."""
    file = tmp_path / content
    archive = tmp_path / "whole.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(MACHINES / "serving-host/proc", "proc")
    whole = archive.read_bytes()
    packed = pack_zstd(whole)
    written = {
        "empty": b"",
        "text": b"notes of somebody\n" * 100,
        "truncated.tar.zst": packed and packed[:40],
        "truncated.tar.gz": gzip.compress(whole)[:100],
        "short.tar": whole[:300],
    }
    if content != "absent":
        file.write_bytes(written[content] or pytest.skip("this Python has no zstd") if content != "empty" else b"")
    assert call((*argv, "--from", str(file)), tmp_path) == 2
    error, *rest = capsys.readouterr().err.splitlines()
    reads_texts = argv[0] in ("doctor", "inspect")
    expected = {
        "absent": "cannot read: No such file",
        "empty": "is empty",
        "text": "no part of the text is in a format" if reads_texts else "neither a directory",
    }
    assert error.startswith(f"error: {file}: "), error
    assert expected.get(content, "truncated") in error
    if content in ("empty", "text"):
        assert "bedplate record" in rest[0]
        assert ("nvidia-smi" in rest[0]) == reads_texts


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_a_measurement_that_needs_root_is_a_lack_of_this_host(tmp_path: Path) -> None:
    """3, as guard and tune have it: the command line is right."""
    words = ["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-m", "bedplate.cli.main", "measure", "/tmp"]
    done = subprocess.run(words, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    assert (done.returncode, "needs root" in done.stderr) == (3, True), done.stderr


def test_clean_leaves_what_bedplate_did_not_make(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The directories can be a home or a checkout: its files are not bedplate's."""
    made = ("cache/tools.partial-7", "cache/work", "state/images", "state/logs")
    foreign = ("cache/.git", "cache/src", "state/.ssh", "state/tools", "state/notes.txt", "state/keyset")
    for name in (*made, *foreign):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_text("somebody's")
    monkeypatch.setenv("BEDPLATE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("BEDPLATE_CACHE_DIR", str(tmp_path / "cache"))
    assert main(["clean", "--yes", "--keys", "--json"]) == 0
    output = capsys.readouterr()
    assert [row["path"] for row in json.loads(output.out)["removed"]] == [str(tmp_path / name) for name in made]
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*")}
    assert left == {*foreign, "cache/lock", "state/lock"}
    for name in foreign:
        assert str(tmp_path / name) in output.err
