"""Secrets in settings, mounts and the kernel's command line: none is recorded, and what stands beside it is."""

from __future__ import annotations

import pytest

from bedplate.host.record.redact import Redactor
from bedplate.host.record.trim import trim


def redactor() -> Redactor:
    return Redactor(hosts=("canaryhost7",), users=("canaryalice",))


UNIT = "/etc/systemd/system/a.service.d/b.conf"
CONTINUED = {
    "a variable": "Environment=OMP_X=1 \\\n    A=canary \\\n  B=canary\n",
    "a variable with blanks": 'Environment="A=x canary" B="y canary" OMP_X=1\n',
    "a variable with blanks, continued": 'Environment="A=x \\\n canary" OMP_X=1\n',
    "a variable with escaped blanks": "Environment=A=x\\ canary\\\n  canary OMP_X=1\n",
    "a variable with an open quote": "Environment=OMP_X=1 A='x canary canary\n",
    "the manager's variable": "DefaultEnvironment=OMP_X=1 A=canary\n",
    "a variable of an engine": "Environment=VLLM_API_KEY=canary OMP_X=1 OLLAMA_API_KEY=canary\n",
    "a variable of an engine, quoted": "Environment='LLAMA_ARG_API_KEY=canary' \"NCCL_TOKEN=a canary\" OMP_X=1\n",
    "a variable of an engine, of all units": "DefaultEnvironment=OMP_X=1 VLLM_API_KEY=canary\n",
    "an account of an engine": "Environment=VLLM_PROXY_USER=me:canary SGLANG_TOKEN=Bearer\\ canary OMP_X=1\n",
    "a credential": "SetCredential=id:a canary \\\n canary\n",
    "a credential of one line": "SetCredential=id:canary\n",
    "a command": "ExecStart=/bin/x --token \\\n  canary --port 5\n",
    "a command with quotes": 'ExecStart=/bin/x --token "a canary" --port 5\n',
    "a command of another program": "ExecStartPre=-/usr/bin/mysql \\\n -pcanary x\n",
    "a command with a comment in it": "ExecStart=/bin/x --password \\\n# comment\n;comment\n  canary\n",
    "a description": "Description=of \\\n canary\n",
    "a user": "User=\\\ncanaryalice\n",
    "a password": "Password=a\\\nb canary\n",
    "a key": "PrivateKey=\\\n  canary=\n",
    "a name and its value": "Environment= \\\n  A= \\\n canary\n",
    "an option in a variable": 'Environment="VLLM_ARGS=--api-k canary --x" OMP_X=1\n',
    "an escaped blank in a variable": "Environment=VLLM_ARGS=--api-key\\x20canary OMP_X=1\n",
    "JSON in a variable": 'Environment="VLLM_X={\\"api_key\\": \\"canary\\"}" OMP_X=1\n',
    "letters and digits in a variable": "Environment=VLLM_X=canaryT0b9LrXk81JmPw4cD7s OMP_X=1\n",
    "quotes in quotes of a command": "ExecStart=/bin/sh -c 'x --token \"a canary\" y' --port 5\n",
    "escaped quotes of a command": 'ExecStart=/bin/sh -c "x --token \\"a canary\\" y" --port 5\n',
    "an escaped option": "ExecStart=/bin/x --to\\x6ben canary --port 5\n",
    "an escaped equals sign": "ExecStart=/bin/x --token\\x3dcanary --port 5\n",
    "an escaped blank": "ExecStart=/bin/x --token\\x20canary --port 5\n",
    "an octal equals sign": "ExecStart=/bin/x --token\\075canary --port 5\n",
    "a command that writes it": "ExecStartPre=/bin/sh -c 'echo canary > /run/token' --port 5\n",
    "a share of a unit": "What=//me:canary@filer/share\n",
}


@pytest.mark.parametrize("name", CONTINUED)
def test_a_secret_that_goes_on_in_the_next_line_is_hidden(name: str) -> None:
    kept = trim(UNIT, f"[Service]\n{CONTINUED[name]}Slice=background.slice\n".encode(), redactor()).decode()
    assert "canary" not in kept
    assert kept.startswith("[Service]\n") and kept.endswith("\nSlice=background.slice\n"), kept
    assert ("OMP_X=1" in kept) == ("OMP_X=1" in CONTINUED[name]), kept
    assert ("--port 5" in kept) == ("--port 5" in CONTINUED[name]), kept


@pytest.mark.parametrize(
    "path", ["/etc/sysctl.d/a.conf", "/etc/modprobe.d/a.conf", "/etc/default/grub", "/etc/security/limits.d/a.conf"]
)
def test_so_is_one_of_another_file_of_settings(path: str) -> None:
    text = "a = 1\npassword = a\\\n  b canary \\\n\tcanary\nb = 2\n"
    kept = trim(path, text.encode(), redactor()).decode()
    assert "canary" not in kept
    assert kept.splitlines()[-1].endswith("= 2")


@pytest.mark.parametrize("path", [UNIT, "/etc/sysctl.d/a.conf", "/etc/systemd/system/background.slice"])
def test_what_goes_on_in_the_next_line_and_is_none_stays_as_it_was(path: str) -> None:
    text = "a=1 \\\n  b=2\nCPUWeight=\\\n200\nc=3 \\\n\nd=4\n"
    assert trim(path, text.encode(), redactor()).decode() == text.replace("c=3 \\\n\n", "c=3 \n")


def test_what_stands_beside_a_secret_of_a_mount_or_of_the_kernel_stays() -> None:
    mount = "60 28 0:60 / /x rw,password=a,b,noatime - fuse.x src rw,token=canary,allow_other\n"
    assert trim("/proc/self/mountinfo", mount.encode(), redactor()).decode() == (
        "60 28 0:60 / /x rw,b,noatime - fuse.x src rw,token=***,allow_other\n"
    )
    line = 'quiet x.password=canary nosmt rd.luks.key=canary "y.token=a canary" isolcpus=1 ro\n'
    assert trim("/proc/cmdline", line.encode(), redactor()).decode() == (
        'quiet x.password=*** nosmt rd.luks.key=*** "y.token=***" isolcpus=1 ro\n'
    )


@pytest.mark.parametrize("kind", ["PRIVATE KEY", "OPENSSH PRIVATE KEY", "PGP PRIVATE KEY BLOCK", "OpenVPN Static key V1"])
def test_a_private_key_of_many_lines_is_hidden(kind: str) -> None:
    lines = [f"-----BEGIN {kind}-----", *(f"canary+{number}/x" for number in range(30)), f"-----END {kind}-----"]
    text = "a: 1\n  " + "\n  ".join(lines) + "\nb: 2\n"
    assert redactor().text(text) == "a: 1\n  ***\nb: 2\n"
    assert "canary" not in redactor().text("\n".join(lines[:-1])), "a key that has no end"
    for path in ("/etc/cdi/nvidia.yaml", "/etc/sysctl.d/a.conf", "/etc/systemd/system/a.service.d/b.conf", "/proc/mounts"):
        assert b"canary+" not in trim(path, text.encode(), redactor()), path


def test_init_gets_words_of_the_kernels_line_that_may_be_secrets() -> None:
    line = b"quiet -- --token canary --port 5\n"
    assert trim("/proc/cmdline", line, redactor()) == b"quiet -- --token *** --port 5\n"


def test_a_comment_behind_a_limit_is_left_out() -> None:
    text = b"* hard nofile 1 # of canary, password canary\n"
    assert trim("/etc/security/limits.conf", text, redactor()) == b"* hard nofile 1\n"


def test_a_blank_in_the_table_of_mounts_does_not_hide_a_name() -> None:
    line = b"60 28 0:60 / /mnt/my\\040disk rw - fuse.x a\\040token=canary rw\n"
    assert (
        trim("/proc/self/mountinfo", line, redactor()) == b"60 28 0:60 / /mnt/my\\040disk rw - fuse.x a\\040token=*** rw\n"
    )


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("systemd.setenv=ANY=canary", "systemd.setenv=ANY=***"),
        ("rd.systemd.setenv=ANY=canary", "rd.systemd.setenv=ANY=***"),
        ("systemd.setenv=OMP_NUM_THREADS=4", "systemd.setenv=OMP_NUM_THREADS=4"),
        ("ignition.config.url=http://h/?canary", "ignition.config.url=-"),
        ("talos.config.inline=canary", "talos.config.inline=-"),
        ("cc: password: a canary end_cc", "cc:-"),
        ("passwd/user-password-crypted=canary", "passwd/user-password-crypted=-"),
        ("netcfg/wireless_wpa=canary", "netcfg/wireless_wpa=-"),
        ("root=//me:canary@filer/x", "root=//***@host-1/x"),
        ("nvme_core.dhchap=canary", "nvme_core.dhchap=***"),
        ("x.token='a canary'", "x.token='***'"),
        ("x.token=a\\ canary", "x.token=***"),
        ("--token canary", "--token ***"),
        ("--api-k canary", "--api-k ***"),
    ],
)
def test_a_parameter_of_the_kernel_that_holds_a_secret(word: str, shown: str) -> None:
    kept = trim("/proc/cmdline", f"quiet {word} isolcpus=1 ro\n".encode(), redactor()).decode()
    assert "canary" not in kept
    assert kept == f"quiet {shown} isolcpus=1 ro\n"


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("/etc/default/grub", "set superusers=a; password a canary"),
        ("/etc/default/grub", "password_pbkdf2 a grub.pbkdf2.sha512.10000.canary"),
        ("/etc/x/y.conf", "api_key canary"),
        ("/etc/modprobe.d/a.conf", 'options x arg="--api-key canary"'),
        ("/etc/modprobe.d/a.conf", "options iscsi chap=canary"),
    ],
)
def test_a_setting_whose_name_and_value_a_blank_parts(path: str, line: str) -> None:
    assert "canary" not in trim(path, f"{line}\n".encode(), redactor()).decode()


@pytest.mark.parametrize(
    "line",
    [
        "60 28 0:60 / /x rw - smbfs //me:canary@h/s rw",
        "60 28 0:60 / /x rw - 9p h uname=canary",
        "60 28 0:60 / /x rw - overlay overlay datadir+=/canary",
        "60 28 0:60 / /x rw - fuse.x https%3A//me%3Acanary%40h rw",
        "60 28 0:60 / /x rw - fuse.x x rw,session=canary",
        "60 28 0:60 / /x rw - fuse.x x rw,a\\072token\\075canary",
    ],
)
def test_a_mount_that_names_a_secret(line: str) -> None:
    assert "canary" not in trim("/proc/self/mountinfo", f"{line}\n".encode(), redactor()).decode()


@pytest.mark.parametrize(
    "line",
    [
        "options kvm_intel nested=1",
        "softdep nvidia pre: a b",
        "blacklist nouveau",
        "install x /bin/true",
        'GRUB_CMDLINE_LINUX="isolcpus=1-3 nosmt rd.luks.uuid=luks-1 it\'s"',
    ],
)
def test_a_setting_without_a_secret_stays(line: str) -> None:
    assert trim("/etc/modprobe.d/a.conf", f"{line}\n".encode(), redactor()).decode() == f"{line}\n"
