"""A production machine with Secure Boot and a TPM runs nothing that its host, or whoever writes to its ESP or plugs a disk
in, gives it without the owner's signature; and the same things do run where the defence is missing.

One machine, booted three times: with what must be passed over, with what must be refused, and with all of it on the same
image without its defences. A fourth boot, without Secure Boot, shows that the add-on without a signature works. The table
stands in docs/explanation/boot.md.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

import bedplate as package
from bedplate.act.paths import Paths
from bedplate.act.process import wait_end
from bedplate.cli.terminal import terminal_progress
from bedplate.flows.preflight import Ready, ensure_ready
from bedplate.image.keys import ensure_keys
from bedplate.image.machine import QEMU_LOG, Machine, kill_machine, read_health, start_machine, wait_ready
from bedplate.image.manifest import Image, read_image
from bedplate.image.qemu import OVERLAY, SERIAL_LOG, BootOptions
from bedplate.model.buildhost import Wishes
from bedplate.model.machine import AccelChoice, BootMode
from bedplate.model.units import GIB
from tests.conftest import BOOT_S, BUILD_S, Bedplate, free_port
from tests.vm.production import CREDENTIALS, SMBIOS_LINE, Workshop

pytestmark = [pytest.mark.vm, pytest.mark.long]

MODEL = Path(package.__file__).parent / "catalog/known_answer/known-answer.gguf"
MARKERS = "markers.log"
COLOURS = re.compile(r"\x1b\[[0-9;=]*[A-Za-z]")  # the firmware and the stub write to this port, too
SEALED = re.compile(rb'"tpm2-pcrs":\s*\[\s*7,\s*12\s*\]')


@pytest.fixture(scope="module")
def production(bedplate: Bedplate, image: Image, tmp_path_factory: pytest.TempPathFactory) -> tuple[Workshop, Image]:
    """The production image, with a disk of its own to change, in a state directory with copies of the owner's keys."""
    built = json.loads(bedplate("image", "build", "--variant", "production", "--json", timeout_s=BUILD_S).stdout)
    found = read_image(Path(built["manifest"]).parent)
    paths = Paths(cache=bedplate.paths.cache, state=tmp_path_factory.mktemp("production"))
    shutil.copytree(bedplate.paths.keys, paths.keys)
    raw = paths.state / "os.raw"
    shutil.copyfile(found.raw, raw)
    return Workshop(paths=paths, keys=ensure_keys(paths)), dataclasses.replace(found, raw=raw)


@dataclasses.dataclass(frozen=True)
class Things:
    """What is given; all of it is made once."""

    disks: tuple[str, ...]
    uki: str
    """Path in the ESP."""
    beside: dict[str, bytes]
    """Files of the ESP that must be refused."""
    unsigned: dict[str, bytes]
    """Files of the ESP that must be passed over."""


@pytest.fixture(scope="module")
def things(production: tuple[Workshop, Image], bedplate: Bedplate) -> Things:
    workshop, image = production
    stranger = ensure_keys(Paths(cache=bedplate.paths.cache, state=workshop.paths.state / "stranger"))
    foreign = workshop.models("foreign", MODEL, keys=None)
    disks = [
        workshop.partitioned("var", "Type=var\nLabel=bedplate-var\nFormat=ext4\nSizeMinBytes=16M\n"),
        foreign,
        workshop.partitioned("foreign", f"Type=root\nLabel=bp-models\nCopyBlocks={foreign}\n"),
        workshop.models("foreign", MODEL, keys=stranger),
        workshop.models("known-answer", MODEL, keys=workshop.keys),  # the owner's: the last of all
    ]
    uki = workshop.find_uki(image.raw)
    extra = f"{uki}.extra.d"
    return Things(
        disks=_drives(disks),
        uki=uki,
        beside={
            f"{extra}/signed.addon.efi": workshop.addon("signed-addon", signed=True),
            f"{extra}/row.cred": b"ROW esp-credential\n",
            "loader/credentials/global.cred": b"ROW esp-global-credential\n",
        },
        unsigned={f"{extra}/unsigned.addon.efi": workshop.addon("unsigned-addon", signed=False)},
    )


def _drives(disks: Sequence[Path]) -> tuple[str, ...]:
    words: list[str] = []
    for number, disk in enumerate(disks):
        words += ["-drive", f"if=none,id=given{number},format=raw,readonly=on,file={disk}"]
        serial = "bp-models" if number else "stranger"  # the first is none of models
        words += ["-device", f"virtio-blk-pci,drive=given{number},serial={serial}"]
    return tuple(words)


@contextmanager
def booted(
    bedplate: Bedplate,
    production: tuple[Workshop, Image],
    state: Path,
    *given: str,
    mode: BootMode = BootMode.SECURE,
    credentials: tuple[tuple[str, bytes], ...] = (),
    reboot: bool = True,
) -> Iterator[Machine]:
    """The machine in `state`, started and not waited for; its disk, TPM and firmware go on from boot to boot."""
    paths = Paths(cache=bedplate.paths.cache, state=state)
    port = free_port()
    secure = mode is BootMode.SECURE
    with terminal_progress() as progress:
        wishes = Wishes(build=False, guest_memory_bytes=2 * GIB, secure_boot=secure, uefi=not secure, tpm=True, mirror=None)
        ready: Ready = ensure_ready(paths, wishes, progress, port=port, choice=AccelChoice.AUTO, install=False)
        options = BootOptions(
            mode=mode,
            accel=ready.accel,
            port=port,
            cpus=1,
            engine=str(bedplate.engine_layer()),
            models=None,
            firmware=ready.host.secure_firmware if secure else ready.host.firmware,
            credentials=credentials,
            reboot=reboot,
            extra_serial_log=MARKERS,
            extra_argv=given,
        )
        machine = start_machine(paths, production[1], options, ready.programs, progress)
        try:
            yield machine
        finally:
            kill_machine(paths)


def said(machine: Machine, log: str = SERIAL_LOG) -> str:
    file = machine.directory / log
    return file.read_text(errors="replace") if file.exists() else ""


def wait_for(machine: Machine, pattern: str, *, log: str = SERIAL_LOG) -> str:
    deadline = time.monotonic() + BOOT_S
    while time.monotonic() < deadline:
        text = said(machine, log)
        if re.search(pattern, text):
            return text
        assert machine.qemu is not None
        assert not wait_end(machine.qemu, timeout_s=0.5), f"QEMU ended: {said(machine, QEMU_LOG)}"
    pytest.fail(f"{pattern} did not come within {BOOT_S} s; the serial ports said: {text[-500:]}, {said(machine)[-3000:]}")


def wait_refusal(machine: Machine) -> str:
    """What the initrd said before the machine ended."""
    assert machine.qemu is not None
    assert wait_end(machine.qemu, timeout_s=BOOT_S), said(machine)[-3000:]
    text = said(machine)
    # The kernel may write its own line on the same console before this one has ended.
    refused = re.search(r"bedplate: cannot start: (.*?)(?:\r|\[ *\d+\.\d+\] |$)", text, re.MULTILINE)
    assert refused is not None, text[-3000:]
    assert "systemd[1]" not in text.partition(refused[1])[2]
    return refused[1]


def wait_sealed(disk: Path) -> None:
    """Until the token by which the TPM opens /var is on the machine's own disk: bound to PCR 7 and 12."""
    deadline = time.monotonic() + BOOT_S
    while time.monotonic() < deadline:
        with disk.open("rb") as handle:
            if any(SEALED.search(chunk) for chunk in iter(lambda: handle.read(1 << 24), b"")):
                return
        time.sleep(5)
    pytest.fail(f"no /var that is sealed to PCR 7 and 12 came to exist on the machine's own disk within {BOOT_S} s")


def test_what_is_not_signed_is_passed_over(bedplate: Bedplate, production: tuple[Workshop, Image], things: Things) -> None:
    workshop, image = production
    workshop.put_into_esp(image.raw, things.unsigned)
    with booted(
        bedplate, production, workshop.paths.state, *workshop.fw_cfg(), *things.disks, credentials=CREDENTIALS
    ) as machine:
        with terminal_progress() as progress:
            wait_ready(machine, progress, timeout_s=BOOT_S)
        assert read_health(machine.port, tls=True, path="/health/known-answer") == 200  # its list asks for a key
        wait_sealed(machine.directory / OVERLAY)
        text = said(machine)
        assert "ROW" not in said(machine, MARKERS)
    assert "successfully enrolled" in text
    assert re.search(r"Failed to read 'unsigned.addon.efi' .*Access denied", text), text
    assert len(set(re.findall(r"/dev/(vd.) is not signed by the owner", text))) == 2  # the third has no such partition


def test_what_would_change_the_boot_is_refused(
    bedplate: Bedplate, production: tuple[Workshop, Image], things: Things
) -> None:
    workshop, image = production
    workshop.put_into_esp(image.raw, things.beside)
    given = (*workshop.fw_cfg(), *things.disks, *SMBIOS_LINE)
    with booted(bedplate, production, workshop.paths.state, *given, credentials=CREDENTIALS, reboot=False) as machine:
        refused = wait_refusal(machine)
        assert "ROW" not in said(machine, MARKERS)
    for told in ("bedplate.row=smbios-line", "bedplate.row=signed-addon", "credentials/row.cred", "credentials/global.cred"):
        assert told in refused, refused
    assert "unsigned-addon" not in refused


def test_all_of_it_runs_where_the_defences_are_missing(
    bedplate: Bedplate, production: tuple[Workshop, Image], things: Things
) -> None:
    """The control. What was measured keeps /var closed all the same."""
    workshop, image = production
    workshop.put_into_esp(image.raw, {things.uki: workshop.undefended(image)})
    given = (*workshop.fw_cfg(), *things.disks, *SMBIOS_LINE)
    with booted(bedplate, production, workshop.paths.state, *given, credentials=CREDENTIALS) as machine:
        markers = wait_for(machine, "ROW end", log=MARKERS)
        assert "enrolled" not in said(machine)  # the keys of the first boot: with Secure Boot
    rows = [COLOURS.sub("", line).strip() for line in markers.splitlines()]
    for row in ("smbios-unit", "smbios-dropin", "fw-cfg-unit", "esp-credential", "esp-global-credential"):
        assert f"ROW {row}" in rows, markers
    assert "bedplate.row=smbios-line" in markers
    assert "bedplate.row=signed-addon" in markers
    assert "unsigned-addon" not in markers
    assert re.search(r'ROW models .*"foreign"', markers), markers
    assert re.search(r"ROW pcr12 0*[1-9A-F]", markers), markers
    assert "ROW var closed" in rows, markers


def test_an_addon_without_signature_works_without_secure_boot(
    bedplate: Bedplate, production: tuple[Workshop, Image], things: Things, tmp_path: Path
) -> None:
    """The control for the add-on that was passed over: no keys to enrol, and it is in the command line that is refused."""
    workshop, image = production
    workshop.put_into_esp(image.raw, {"loader/keys": None, "loader/credentials": None, f"{things.uki}.extra.d": None})
    workshop.put_into_esp(image.raw, {things.uki: image.uki.read_bytes(), **things.unsigned})
    with booted(bedplate, production, tmp_path / "state", mode=BootMode.UEFI, reboot=False) as machine:
        refused = wait_refusal(machine)
    assert refused == "the kernel command line is not the signed one: bedplate.row=unsigned-addon"
