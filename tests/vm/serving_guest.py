"""A guest that starts what serves and nothing else: no /var, no network, no coldplug. It boots in a fraction of the time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bedplate.act.paths import Paths
from bedplate.cli.terminal import terminal_progress
from bedplate.flows.preflight import ensure_ready
from bedplate.image.console import ask_console
from bedplate.image.machine import kill_machine, start_machine
from bedplate.image.manifest import Image
from bedplate.image.models_disk import ensure_models_disk
from bedplate.image.qemu import CONSOLE_SOCKET, QMP_SOCKET, BootOptions
from bedplate.image.qmp import connect_unix, send_qmp
from bedplate.model.buildhost import Wishes
from bedplate.model.machine import AccelChoice, BootMode
from bedplate.model.units import GIB
from bedplate.weights.store import Store
from tests.conftest import BOOT_S, Bedplate, free_port

# The console of the image comes after basic.target, and with it all of the boot.
_UNITS = {
    "serving.target": (
        "[Unit]\nDefaultDependencies=no\nWants=systemd-journald.socket bedplate-serve.service guest-console.service\n"
    ),
    "guest-modules.service": (
        "[Unit]\nDefaultDependencies=no\n"
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/sbin/modprobe virtio_console\n"
    ),
    "guest-console.service": (
        "[Unit]\nDefaultDependencies=no\nRequires=guest-modules.service\nAfter=guest-modules.service\n"
        "[Service]\nEnvironment=HOME=/root PATH=/usr/lib/bedplate/bin:/usr/sbin:/usr/bin\nExecStart=/bin/bash\n"
        "StandardInput=tty-force\nStandardOutput=inherit\nStandardError=inherit\nTTYPath=/dev/hvc0\n"
        "Restart=always\nRestartSec=1\n"
    ),
}


@dataclass(frozen=True)
class ServingGuest:
    """A guest that runs."""

    directory: Path

    def run(self, command: str) -> tuple[int, str]:
        """Status and output of a command in the guest."""
        with connect_unix(self.directory, CONSOLE_SOCKET, timeout_s=10.0) as console:
            answer = ask_console(console, command, silence_s=BOOT_S, timeout_s=BOOT_S)
        return answer.status, answer.output

    def shell(self, command: str) -> str:
        """Output of a command that must end well."""
        status, output = self.run(command)
        assert status == 0, f"{command}: status {status}\n{output}"
        return output

    def monitor(self, command: str) -> str:
        """What QEMU's monitor for people answers: it injects faults of the hardware."""
        return str(send_qmp(self.directory, QMP_SOCKET, "human-monitor-command", {"command-line": command}, timeout_s=60))

    def ask(self, model: str, question: str) -> str:
        """What a model answers, in two tokens, once it does."""
        ask = f"bedplate ask --model {model} --max-tokens 2 '{question}'"
        return self.shell(f'until answer=$({ask} 2>/dev/null); do sleep 1; done; echo "$answer"').strip()


@contextmanager
def serving_guest(
    bedplate: Bedplate,
    image: Image,
    engine: Path,
    models: Sequence[tuple[str, Path]],
    state: Path,
    *,
    memory_bytes: int = 2 * GIB,
    extra_argv: tuple[str, ...] = (),
) -> Iterator[ServingGuest]:
    """A guest with these models, (name, file), started and not waited for. extra_argv: more words for QEMU."""
    paths = Paths(cache=state / "cache", state=state)
    paths.cache.mkdir(parents=True)
    paths.tools.symlink_to(bedplate.paths.tools)  # a models disk of its own in the cache of the test
    with terminal_progress() as progress:
        store = Store(paths.models)
        added = [store.add(file, progress=progress, name=name) for name, file in models]
        wishes = Wishes(build=False, guest_memory_bytes=memory_bytes, secure_boot=False, uefi=False, tpm=False, mirror=None)
        port = free_port()
        ready = ensure_ready(paths, wishes, progress, port=port, choice=AccelChoice.AUTO, install=False)
        options = BootOptions(
            mode=BootMode.DIRECT,
            accel=ready.accel,
            port=port,
            memory_bytes=memory_bytes,
            cpus=1,
            tpm=False,
            engine=str(engine),
            models=str(ensure_models_disk(paths, added, progress)),
            credentials=tuple((f"systemd.extra-unit.{name}", text.encode()) for name, text in _UNITS.items()),
            extra_cmdline="systemd.unit=serving.target systemd.show_status=1",
            reboot=False,
            extra_argv=extra_argv,
        )
        start_machine(paths, image, options, ready.programs, progress)
        try:
            yield ServingGuest(paths.machine)
        finally:
            kill_machine(paths)
