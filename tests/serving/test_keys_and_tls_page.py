"""The commands and files of docs/how-to/keys-and-tls.md work as they stand there."""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from bedplate.catalog.machine_config import parse_machine_config
from bedplate.cli.main import VERBS
from bedplate.flows import ca
from bedplate.host.root.root import Root
from tests.serving.closed_front import ClosedFront, MakeFront

pytestmark = pytest.mark.build

PAGE = (Path(__file__).parents[2] / "docs/how-to/keys-and-tls.md").read_text()
COMMANDS = [line.strip() for line in PAGE.splitlines() if re.match(r"    (bedplate|curl) ", line)]
COMMANDS += re.findall(r"`(bedplate key [^`\n]+)`", PAGE)
FILES = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
SHOWN = """
[front]
addresses = ["0.0.0.0"]
port = {port}
[front.tls]
names = ["llm.example.org"]
"""


@pytest.fixture(scope="module")
def front(make_front: MakeFront) -> ClosedFront:
    machine = make_front(SHOWN)
    machine.start()
    return machine


@pytest.mark.parametrize("text", FILES)
def test_each_file_is_a_machine_toml(text: str) -> None:
    assert parse_machine_config(text, name="machine.toml")


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("bedplate ")])
def test_each_command_is_one_of_bedplate(line: str) -> None:
    shown = line.partition(" > ")[0].replace("ID\n--certificate", "ID").replace("3A:5B:...", "3A" * 32)
    verb, *rest = shlex.split(shown)[1:]
    modules = {name: module for verbs in VERBS.values() for name, (module, _) in verbs.items()}
    module = importlib.import_module(f"bedplate.cli.{modules[verb]}")
    parser = argparse.ArgumentParser(prog=f"bedplate {verb}", description=inspect.getdoc(module))
    module.add_arguments(parser)
    parser.parse_args(rest)


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("curl ")])
def test_each_request_is_answered(front: ClosedFront, line: str, tmp_path: Path) -> None:
    """The name is led to this machine by curl's own file of options; all else is as the page has it."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    (tmp_path / "bedplate-ca.pem").write_text(ca.show(Root(front.top)).pem)
    (tmp_path / ".curlrc").write_text(f'connect-to = "llm.example.org:8080:127.0.0.1:{front.port}"\nfail\n')
    environment = {"BEDPLATE_KEY": front.add_key(), "CURL_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, '"object":"list"' in done.stdout) == (0, True), done.stderr
