"""The installed stack against a lock: what the next boot and the next start of an engine bring that is not in it.

Compared are kernel, driver, libraries and firmware of the host, and the Python packages of each layer, in the environment
that holds the layer's engine. A difference alone is medium, since nothing published says what it costs: what is known to
fail has a finding of its own, with its source (a driver of two versions, a flavour that a GPU does not take, a known-bad
release). What a host has beside the lock is not reported: a lock says what must be there, and no more.
"""

from __future__ import annotations

from collections.abc import Iterator

from bedplate.model.facts.finding import Evidence, Severity
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import Reading, Unknown, known, missing
from bedplate.model.facts.stack import DPKG_STATUS, PythonEnvironment
from bedplate.model.stack import ChosenRelease, StackCatalogue, StackRecord
from bedplate.model.version_condition import VersionBound
from bedplate.plan.rules.checks.stack_terms import (
    driver_after_boot,
    driver_packages,
    engine_of,
    following_release,
    kernel_after_boot,
    kernel_package,
    module_after_boot,
)
from bedplate.plan.rules.observation import Observation, not_judged, seen, shell_word, some
from bedplate.plan.rules.rule import Result

_LOCK = "the lock"


def check_lock_host(facts: HostFacts, record: StackRecord) -> Iterator[Result]:
    """Kernel and driver of the lock against those that the next boot starts."""
    readers = {
        "kernel": kernel_after_boot,
        "nvidia-driver": _driver,
        "nvidia-userspace": _userspace,
        "nvidia-firmware": _firmware,
        "nvidia-fabricmanager": _fabricmanager,
    }
    for choice in record.lock.choices:
        read = readers.get(choice.release.component)
        if choice.layer or read is None:
            continue
        reading = read(facts)
        if reading.value is None:
            if reading.unknown is Unknown.ABSENT:
                yield _lacking(choice, reading)
            else:
                yield not_judged(id="stack.lock-drift", why=f"which {choice.release.component} is installed is not known")
        elif not _is_locked(facts, choice, reading.value):
            yield _drift(facts, choice, reading)
    yield from _check_flavour(facts, record)


def _drift(facts: HostFacts, choice: ChosenRelease, reading: Reading[str]) -> Observation:
    release = choice.release
    there = _shown(facts, choice, reading.value or "")
    is_revision = _is_revision(facts, choice, there)
    other = "another revision of its package, " if is_revision else ""
    if release.component == "kernel" and not is_revision:
        other = "another kernel release, "
    return Observation(
        id="stack.lock-drift",
        severity=Severity.LOW if is_revision else Severity.MEDIUM,
        because=f"the lock has {release.component} {release.version}, but the next boot has {other}{there}",
        where=(release.component,),
        evidence=(
            Evidence(fact=f"{release.component} {release.version} from {release.source}", source=_LOCK),
            Evidence(fact=f"{release.component} {there}", source=reading.source),
            *((seen("boots next", facts.kernel.next_release),) if release.component == "kernel" else ()),
        ),
        fix=(
            f"# Install {release.component} {release.version} from {release.source} before the reboot, or renew the lock:",
            "bedplate stack resolve WISH --lock LOCK --output LOCK",
        ),
        undo=("# Install the version that was there before.",),
    )


def _lacking(choice: ChosenRelease, reading: Reading[str]) -> Observation:
    release = choice.release
    return Observation(
        id="stack.lock-missing",
        severity=Severity.MEDIUM,
        because=f"the lock has {release.component} {release.version}, and the host has none",
        where=(choice.layer or release.component,),
        evidence=(
            Evidence(fact=f"{release.component} {release.version} from {release.source}", source=_LOCK),
            Evidence(fact=f"no {release.component}", source=reading.source),
        ),
        fix=(f"# Install {release.component} {release.version} from {release.source}.",),
        undo=("# Remove it again.",),
    )


def _check_flavour(facts: HostFacts, record: StackRecord) -> Iterator[Result]:
    """The open modules where the lock has the proprietary ones, or the other way round."""
    following = following_release(facts)
    modules = dict(facts.kernel.gpu_modules).get(following or "", ())
    for choice in record.lock.choices:
        wanted = choice.release.values("flavour")
        if choice.release.component != "nvidia-driver" or not wanted:
            continue
        there = "open" if "nvidia-open" in modules else "proprietary" if "nvidia" in modules else None
        if there is not None and there not in wanted:
            where = f"/lib/modules/{following}/modules.dep"
            yield Observation(
                id="stack.lock-drift",
                severity=Severity.MEDIUM,
                because=f"the lock has the {wanted[0]} flavour of NVIDIA's modules, but the next boot loads the {there} one",
                where=("nvidia-driver",),
                evidence=(
                    Evidence(fact=f"flavour {wanted[0]}", source=_LOCK),
                    Evidence(fact=f"modules: {some(modules)}", source=where),
                ),
                fix=(f"# Install the {wanted[0]} modules in the same version, before the next reboot.",),
                undo=("# Install the packages of the other flavour again.",),
            )


def check_lock_layers(facts: HostFacts, record: StackRecord, catalogue: StackCatalogue) -> Iterator[Result]:
    """The Python packages of each layer of the lock against the environment that holds the layer's engine."""
    if not facts.stack.deep:
        return
    python = {component.id for component in catalogue.components if component.python}
    for layer in dict.fromkeys(choice.layer for choice in record.lock.choices if choice.layer):
        choices = [choice for choice in record.lock.choices if choice.layer == layer]
        locked = [choice for choice in choices if choice.release.component in python]
        if not locked:
            continue
        engine = locked[0]
        environment = _environment_of(facts, engine)
        if environment is None:
            yield _lacking(engine, missing(Unknown.ABSENT, "Python environments"))
            continue
        for choice in locked:
            there = _installed_version(environment, choice.release.component)
            if there is None or not _is_version(choice.release.version, there[0]):
                yield _layer_drift(environment, choice, there)


def _environment_of(facts: HostFacts, choice: ChosenRelease) -> PythonEnvironment | None:
    """The environment with the engine, one of its version first."""
    name, version = choice.release.component, choice.release.version
    having = [environment for environment in facts.stack.environments if environment.version_of(name) is not None]
    exact = [environment for environment in having if _is_version(version, environment.version_of(name) or "")]
    return next(iter([*exact, *having]), None)


def _installed_version(environment: PythonEnvironment, name: str) -> tuple[str, str] | None:
    """(version, file that says so); of torch what its files say, whatever stands in the metadata."""
    if name == "torch" and environment.torch is not None:
        return environment.torch.version, environment.torch.path
    return next(((package.version, package.path) for package in environment.packages if package.name == name), None)


def _layer_drift(environment: PythonEnvironment, choice: ChosenRelease, there: tuple[str, str] | None) -> Observation:
    release = choice.release
    version, source = there if there is not None else ("none", environment.path)
    engine, new = engine_of(environment), shell_word(f"{environment.path}-new")
    return Observation(
        id="stack.lock-drift",
        severity=Severity.MEDIUM,
        because=(
            f"layer {choice.layer} of the lock has {release.component} {release.version}, "
            f"but {environment.path} has {version}"
        ),
        where=(environment.path,),
        evidence=(
            Evidence(fact=f"{release.component} {release.version} from {release.source}", source=_LOCK),
            Evidence(fact=f"{release.component} {version}{f', beside {engine}' if engine else ''}", source=source),
        ),
        fix=(
            "# Make a new environment from the lock beside it; the engine that runs keeps the old one:",
            f"python3 -m venv {new}",
            f"{new}/bin/pip install --require-hashes -r {shell_word(f'{choice.layer}.txt')}",
        ),
        undo=("# The former environment is still there: start the service from it again.",),
    )


def check_lock_sources(facts: HostFacts, record: StackRecord, catalogue: StackCatalogue) -> Iterator[Result]:
    """Suites that the lock takes packages from and that apt does not have: they cannot be installed again."""
    sources = facts.stack.sources.value
    if sources is None:
        return
    suites = {source.suite.rstrip("/") for source in sources if source.enabled}
    by_id = {source.id: source for source in catalogue.sources}
    for source_id in dict.fromkeys(choice.release.source for choice in record.lock.choices if not choice.layer):
        row = by_id.get(source_id)
        if row is None or not row.suites or not suites.isdisjoint(row.suites):
            continue
        components = [choice.release.component for choice in record.lock.choices if choice.release.source == source_id]
        yield Observation(
            id="stack.source-gone",
            severity=Severity.MEDIUM,
            because=f"the lock takes {some(dict.fromkeys(components))} from {row.title}, which no enabled source of apt is",
            where=(source_id,),
            evidence=(
                Evidence(fact=f"{some(dict.fromkeys(components))} from {source_id}", source=_LOCK),
                Evidence(fact=f"suites: {some(sorted(suites), 8)}", source=facts.stack.sources.source),
            ),
            fix=(f"# Add {row.title} to apt's sources, or make a lock without it: stack resolve WISH --source SOURCE",),
            undo=("# Take the source out again.",),
        )


def _driver(facts: HostFacts) -> Reading[str]:
    for driver in driver_packages(facts):
        if driver.role == "module":
            return known(driver.package.version, DPKG_STATUS)
    return module_after_boot(facts) or _absent(facts)


def _userspace(facts: HostFacts) -> Reading[str]:
    if facts.stack.libraries:
        return known(facts.stack.libraries[0].version, facts.stack.libraries[0].path)
    return driver_after_boot(facts) or _absent(facts)


def _firmware(facts: HostFacts) -> Reading[str]:
    for driver in driver_packages(facts):
        if driver.role == "firmware":
            return known(driver.package.version, DPKG_STATUS)
    return _absent(facts)


def _fabricmanager(facts: HostFacts) -> Reading[str]:
    for driver in driver_packages(facts):
        if driver.role == "service" and "fabricmanager" in driver.package.name:
            return known(driver.package.version, DPKG_STATUS)
    return _absent(facts)


def _absent(facts: HostFacts) -> Reading[str]:
    """ABSENT where dpkg's status was read; what another packaging system has installed is not known."""
    return missing(Unknown.ABSENT if facts.stack.packages.value is not None else Unknown.HIDDEN, DPKG_STATUS)


def _upstream(version: str) -> str:
    """ "1:550.163.01-2" -> "550.163.01"."""
    return version.rpartition(":")[2].partition("-")[0]


def _is_locked(facts: HostFacts, choice: ChosenRelease, there: str) -> bool:
    """As `_is_version`; a kernel also by its release ("6.17.0-1032-nvidia"), or the whole version of its package."""
    locked, following = choice.release.version, following_release(facts) or ""
    if choice.release.component == "kernel" and "-" in locked:
        return following == locked or following.startswith(f"{locked}-") or locked == _package_version(facts)
    return _is_version(locked, there)


def _shown(facts: HostFacts, choice: ChosenRelease, there: str) -> str:
    """What the next boot has, in the form of the lock: of a kernel its release, or the whole version of its package."""
    if choice.release.component != "kernel" or "-" not in choice.release.version:
        return there
    return (following_release(facts) if _names_releases(facts, choice) else _package_version(facts)) or there


def _is_revision(facts: HostFacts, choice: ChosenRelease, there: str) -> bool:
    """Whether two versions differ only by how they are packaged; what stands behind the dash of a release is no revision."""
    if choice.release.component == "kernel" and _names_releases(facts, choice):
        return False
    return _upstream(choice.release.version) == _upstream(there)


def _names_releases(facts: HostFacts, choice: ChosenRelease) -> bool:
    """Whether the lock tells a kernel by its release, as `uname -r` begins: "6.1.0-37", and not "6.1.140-1".

    Behind the dash of a release is a number on Ubuntu and Debian 12; later Debian has "6.12.118+deb13-amd64".
    """
    upstream, dash, rest = (following_release(facts) or "").partition("-")
    locked, locked_dash, _ = choice.release.version.partition("-")
    return bool(dash and locked_dash) and rest[:1].isdigit() and upstream == locked


def _package_version(facts: HostFacts) -> str:
    package = kernel_package(facts)
    return package.version.rpartition(":")[2] if package is not None else ""


def _is_version(locked: str, there: str) -> bool:
    """Whether they are one version; a revision, an epoch or a local part that only one of them has does not count."""
    return VersionBound(operator="==", value=locked).holds(there) or VersionBound(operator="==", value=there).holds(locked)
