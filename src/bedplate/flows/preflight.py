"""Judge this host before `up` starts, all at once; install packages where that is ours to do, after saying so."""

from __future__ import annotations

from dataclasses import dataclass

from bedplate.act.paths import Paths
from bedplate.act.run import find_program, run, search_path
from bedplate.errors import CommandError, PreflightError
from bedplate.host.root.root import Root
from bedplate.host.system.buildhost import read_build_host
from bedplate.host.system.port import find_free_port, is_port_free, read_port_owner
from bedplate.image.kvm import choose_accel
from bedplate.image.machine import Programs
from bedplate.model.buildhost import BuildHost, Preflight, TakenPort, Wishes
from bedplate.model.facts.finding import Severity
from bedplate.model.machine import Accel, AccelChoice
from bedplate.model.progress import Progress
from bedplate.plan.preflight import plan_preflight, render_finding
from bedplate.plan.rules.needs import FILES, MISSING, PROGRAMS, render_commands

_INSTALL_S = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A host that passed every check: where its programs are, and by what a guest will be run, with the reason."""

    host: BuildHost
    programs: Programs
    accel: Accel
    accel_because: str


def ensure_ready(
    paths: Paths, wishes: Wishes, progress: Progress, *, port: int, choice: AccelChoice, install: bool
) -> Ready:
    """Check everything and install what is missing where that is allowed; raises PreflightError with all that is wrong."""
    host, plan = _judge(paths, wishes, port)
    if plan.may_install and install:
        _install(paths, host, plan, progress)
        host, plan = _judge(paths, wishes, port)
    for finding in plan.findings:
        if finding.severity is not Severity.CRITICAL:
            progress.note(render_finding(finding))
    if plan.fatal:
        hint = f"Run: {render_commands(host, plan.install)}" if plan.install else "Fix this, then run the command again."
        raise PreflightError("\n".join(_lines(plan)), hint=hint)
    programs = Programs(
        qemu=_path("qemu-system-x86_64"),
        qemu_img=_path("qemu-img"),
        tpm=_path("swtpm") if wishes.tpm else "",
        tpm_setup=_path("swtpm_setup") if wishes.tpm else "",
    )
    progress.detail("test whether this host can run a guest under KVM")
    accel, because = choose_accel(paths, qemu=programs.qemu, choice=choice)
    if accel is Accel.TCG:
        progress.note(f"without KVM ({because}): the processor is emulated, and a boot takes a minute or more")
    return Ready(host=host, programs=programs, accel=accel, accel_because=because)


def _judge(paths: Paths, wishes: Wishes, port: int) -> tuple[BuildHost, Preflight]:
    host = read_build_host(
        root=Root(), directories=(paths.cache, paths.state), programs=PROGRAMS, files=FILES, search_path=search_path()
    )
    taken = None
    if not is_port_free(port):
        owner = read_port_owner(Root(), port) or "another process"
        taken = TakenPort(port=port, owner=owner, free_port=find_free_port())
    return host, plan_preflight(host, wishes, taken_port=taken)


def _install(paths: Paths, host: BuildHost, plan: Preflight, progress: Progress) -> None:
    progress.note(f"installing {', '.join(plan.packages)}: {render_commands(host, plan.install)}")
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    for command in plan.install:
        progress.detail(" ".join(command))
        argv = [command[0], "-o", "DPkg::Lock::Timeout=120", *command[1:]]
        try:
            run(argv, timeout_s=_INSTALL_S, env=env, log=paths.logs / "install.log", on_line=progress.detail)
        except CommandError as error:
            raise PreflightError(
                f"packages could not be installed: {error.message}",
                hint=f"Read {paths.logs / 'install.log'}, or run it yourself: {render_commands(host, plan.install)}",
            ) from error


def _lines(plan: Preflight) -> list[str]:
    """Each fatal finding; the commands that install packages stand once, in the hint."""
    return [finding.title if plan.install and finding.id == MISSING else render_finding(finding) for finding in plan.fatal]


def _path(name: str) -> str:
    path = find_program(name)
    if path is None:  # it went away since the check
        raise PreflightError(f"{name}: not found", hint=f"Install it; bedplate looked in {search_path()}.")
    return path
