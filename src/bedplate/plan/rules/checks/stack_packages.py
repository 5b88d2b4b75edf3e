"""What dpkg and apt say of the stack: upgrades that ended half-way, holds that part what belongs together, lost sources.

Sources: dpkg(1) for states and holds, apt_preferences(5), sources.list(5); for the versions of the driver's packages the
dependencies of Debian's and Ubuntu's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase

from bedplate.model.facts.finding import Confidence, Evidence, Severity
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import Unknown
from bedplate.model.facts.stack import DPKG_STATUS, AptPin, AptRelease, AptSourceEntry, DpkgPackage
from bedplate.model.versions import compare_versions
from bedplate.plan.rules.checks.stack_terms import (
    HEADERS_PACKAGE,
    KERNEL_PACKAGE,
    DriverPackage,
    driver_packages,
    installed_packages,
    names_of,
    package_evidence,
)
from bedplate.plan.rules.observation import Observation, not_judged, shell_word, some, unknown
from bedplate.plan.rules.rule import Result

_UNFINISHED = ("half-installed", "unpacked", "half-configured", "triggers-awaited", "triggers-pending")
_UPDATES = "/var/lib/dpkg/updates"
_LISTS = "/var/lib/apt/lists"
# Names and addresses of what must not come from another source unseen.
_OF_THE_STACK = re.compile(r"nvidia|cuda|linux-|rocm|amdgpu|torch|firmware|container-toolkit", re.IGNORECASE)
_ONE_RELEASE = re.compile(r"-\d+\.\d+")  # in the name of a package of one release of the kernel
_RELEASE_KEYS = ("a", "n", "o", "l")  # archive (suite), codename, origin and label; apt_preferences(5)


def check_packages_read(facts: HostFacts) -> Iterator[Result]:
    """Says that packages could not be judged where dpkg's status may not be read."""
    packages = facts.stack.packages
    if packages.value is None and packages.unknown in (Unknown.DENIED, Unknown.MALFORMED):
        yield unknown("stack.upgrade-unfinished", "which packages are installed", packages)


def check_stack_read(facts: HostFacts) -> Iterator[Result]:
    """Says so where nothing is known of what is installed, or of its packages: no finding does not mean that all is well."""
    stack = facts.stack
    unread = (stack.packages, stack.dkms, stack.sources, stack.cdi)
    if all(reading.unknown is Unknown.NOT_RECORDED for reading in unread) and not (stack.environments or stack.libraries):
        yield not_judged(id="stack", why="the recording holds nothing of what is installed: record it again on the machine")
    elif stack.packages.unknown is Unknown.ABSENT:
        name = facts.os.pretty_name or "this system"
        yield not_judged(
            id="stack",
            why=f"{name} has no {DPKG_STATUS}, and no other list of packages is read: upgrades, holds, pins and sources "
            "were not judged; kernels, modules, libraries and Python environments were",
        )


def check_unfinished(facts: HostFacts) -> Iterator[Result]:
    """Packages that dpkg has unpacked and not configured, and a journal that it did not write into its status."""
    id = "stack.upgrade-unfinished"
    broken = [
        package for package in facts.stack.packages.value or () if package.state in _UNFINISHED or package.needs_reinstall
    ]
    of_the_stack = [package for package in broken if _OF_THE_STACK.search(package.name)]
    others = [package for package in broken if package not in of_the_stack]
    for packages, severity in ((of_the_stack, Severity.HIGH), (others, Severity.MEDIUM)):
        if packages:
            reinstall = [package.name for package in packages if package.needs_reinstall]
            yield Observation(
                id=id,
                severity=severity,
                because=f"dpkg has not finished {some(names_of(packages))}",
                where=tuple(names_of(packages)[:8]),
                evidence=tuple(package_evidence(package) for package in packages[:8]),
                fix=(
                    *(("apt-get install --reinstall " + _words(reinstall),) if reinstall else ()),
                    "dpkg --configure --pending",
                    "apt-get --fix-broken install",
                    "# This restarts no engine. Do it before the next reboot, and read what a failing script prints.",
                ),
                undo=("# Nothing to undo: it ends what was begun.",),
            )
    if facts.stack.interrupted and not broken:
        yield Observation(
            id=id,
            severity=Severity.MEDIUM,
            because="dpkg was stopped before it had written which packages it changed",
            where=(_UPDATES,),
            evidence=(Evidence(fact=f"journal files: {len(facts.stack.interrupted)}", source=_UPDATES),),
            fix=("dpkg --configure --pending",),
            undo=("# Nothing to undo: it ends what was begun.",),
        )


def check_kernel_held(facts: HostFacts) -> Iterator[Result]:
    """A kernel that is held or pinned, while its headers or the driver's source move on."""
    packages = installed_packages(facts)
    kernels = [package for package in packages if KERNEL_PACKAGE.fullmatch(package.name)]
    held = [package for package in kernels if _is_held(facts, package)]
    metas = [package for package in kernels if _ONE_RELEASE.search(package.name) is None]
    if not held or (metas and not any(meta in held for meta in metas)):
        return  # one release may be held to be kept, while newer ones still come
    headers = [package for package in packages if HEADERS_PACKAGE.fullmatch(package.name)]
    following = [package for package in headers if _ONE_RELEASE.search(package.name) is None]  # the package of all releases
    partners = following or headers
    partners += [driver.package for driver in driver_packages(facts) if driver.role == "module"]
    free = [package for package in partners if not _is_held(facts, package)]
    newest = held[-1]
    ahead = [
        package
        for package in partners
        if HEADERS_PACKAGE.fullmatch(package.name)
        and package.name.removeprefix("linux-headers-") == newest.name.removeprefix("linux-image-")
        and compare_versions(package.version, newest.version) > 0
    ]
    if partners and not free and not ahead:
        return  # the whole set is held, so nothing of it gets ahead of the rest
    if free or ahead:
        moving = ahead or free
        verb = "is ahead of it" if ahead and len(ahead) == 1 else "are ahead of it" if ahead else "may move on"
        because = f"{some(names_of(held))} is held at {newest.version}, but {some(names_of(moving))} {verb}"
        severity = Severity.MEDIUM
    else:
        because = f"{some(names_of(held))} is held at {newest.version}, so the kernel gets no updates"
        severity = Severity.LOW
    yield Observation(
        id="stack.kernel-held",
        severity=severity,
        because=because,
        where=names_of(held)[:8],
        evidence=(
            *(package_evidence(package) for package in held[:4]),
            *(_pin_evidence(pin) for package in held[:4] for pin in _version_pins(facts, package)),
            *(package_evidence(package) for package in (ahead or free)[:4]),
        ),
        fix=(
            "# Upgrade kernel, headers and driver together, and reboot when the engines are drained:",
            f"apt-mark unhold {_words(names_of(held))} && apt-get install {_words(names_of([*held, *free]))}",
            *((f"# Or hold all of them: apt-mark hold {_words(names_of([*held, *free]))}",) if free else ()),
        ),
        undo=(f"apt-mark hold {_words(names_of(held))}",),
    )


def _is_held(facts: HostFacts, package: DpkgPackage) -> bool:
    return package.want == "hold" or bool(_version_pins(facts, package))


def _version_pins(facts: HostFacts, package: DpkgPackage) -> tuple[AptPin, ...]:
    """Pins that keep a package at a version, whatever its source offers."""
    return tuple(
        pin
        for pin in facts.stack.pins
        if pin.kind == "version"
        and pin.priority > 0
        and pin.package.strip() != "*"
        and any(fnmatchcase(package.name, pattern) for pattern in pin.package.split())
    )


def _pin_evidence(pin: AptPin) -> Evidence:
    return Evidence(fact=f"{pin.package}: {pin.kind} {pin.value}, priority {pin.priority}", source=pin.file)


def check_driver_mixed(facts: HostFacts) -> Iterator[Result]:
    """Packages of NVIDIA's driver that are of different versions: an upgrade took only some of them."""
    found = driver_packages(facts)
    for branch in sorted({driver.branch for driver in found}):
        those = [driver for driver in found if driver.branch == branch]
        modules = [driver for driver in those if driver.role == "module"]
        libraries = [driver for driver in those if driver.role == "library"]
        if modules and not libraries:
            libraries = [driver for driver in found if driver.role == "library"]
            those = [*those, *libraries]
        if not modules and not libraries:  # Ubuntu's nvidia-fabricmanager-580 serves the branches 580 and 580-server
            libraries = [driver for driver in found if driver.branch == f"{branch}-server" and driver.role == "library"]
            those = [*libraries, *those]
        base = modules or libraries
        if not base:
            continue
        versions = {driver.package.upstream for driver in base}
        other = [driver for driver in _disagreeing(those, versions) if driver not in base]
        if len(versions) > 1:
            other = [*base[1:], *other]
        if not other:
            continue
        parts = any(driver.role in ("library", "module") for driver in other)
        first = base[0].package
        yield Observation(
            id="stack.driver-mixed",
            severity=Severity.CRITICAL if parts else Severity.HIGH,
            because=(
                f"{first.name} is {first.upstream}, but "
                f"{some(f'{driver.package.name} is {driver.package.upstream}' for driver in other)}"
            ),
            where=tuple(dict.fromkeys((first.name, *(driver.package.name for driver in other[:7])))),
            evidence=(package_evidence(first), *(package_evidence(driver.package) for driver in other[:7])),
            fix=(
                "# Take the missing half, then reboot when the engines are drained; what runs keeps the loaded module.",
                f"apt-get install {_words(dict.fromkeys(driver.package.name for driver in those))}",
            ),
            undo=(f"# Install the former versions: apt-get install {shell_word(first.name)}=VERSION ...",),
        )


def _disagreeing(drivers: Iterable[DriverPackage], versions: set[str]) -> list[DriverPackage]:
    """Packages of each role of which none has one of these versions: old firmware beside the right one does no harm."""
    listed = list(drivers)
    roles = {driver.role for driver in listed}
    wrong = {role for role in roles if not any(d.role == role and d.package.upstream in versions for d in listed)}
    mixed = [driver for driver in listed if driver.role == "library" and driver.package.upstream not in versions]
    return list(dict.fromkeys([*(driver for driver in listed if driver.role in wrong), *mixed]))


def check_source_gone(facts: HostFacts) -> Iterator[Result]:
    """A pin, or a source of the stack, that leads nowhere: an upgrade takes the package from elsewhere, or not at all."""
    sources = facts.stack.sources.value
    if sources is None:
        if facts.stack.pins and facts.stack.sources.unknown is not Unknown.ABSENT:
            yield unknown("stack.source-gone", "which sources apt has", facts.stack.sources)
        return
    enabled = [source for source in sources if source.enabled]
    for pin in facts.stack.pins:
        concerns = _OF_THE_STACK.search(pin.package) is not None
        if pin.priority <= 0 or pin.kind == "version" or not (concerns or pin.package.strip() == "*"):
            continue
        found = _pin_has_source(pin, enabled, facts)
        if found is None:
            yield not_judged(
                id="stack.source-gone",
                why=f"{pin.file} pins {pin.package} to {pin.value}; no list that apt has fetched says which source that is",
            )
        elif not found:
            yield Observation(
                id="stack.source-gone",
                severity=Severity.MEDIUM if concerns else Severity.LOW,
                because=f"{pin.file} pins {pin.package} to {pin.kind} {pin.value}, and no enabled source is that",
                where=(pin.file,),
                evidence=(
                    _pin_evidence(pin),
                    *(_source_evidence(source) for source in _near(sources)),
                    *((Evidence(fact="no list of such an archive", source=_LISTS),) if facts.stack.releases else ()),
                ),
                fix=(
                    "# Enable the source again, and run apt-get update; or take the pin out and hold the packages:",
                    f"apt-mark hold $(dpkg-query -W -f '${{Package}}\\n' {_words(pin.package.split())})"
                    if pin.package.strip() != "*"
                    else f"# rm {shell_word(pin.file)}",
                ),
                undo=(f"# Put {shell_word(pin.file)} back as it was.",),
            )
    yield from _check_sources(facts, sources)


def _check_sources(facts: HostFacts, sources: Sequence[AptSourceEntry]) -> Iterator[Result]:
    for source in sources:
        if source.enabled and source.directory is False:
            yield Observation(
                id="stack.source-gone",
                severity=Severity.MEDIUM,
                because=f"{source.file} names the source {source.uri}, which is not there",
                where=(source.file,),
                evidence=(_source_evidence(source), Evidence(fact="no such directory", source=_directory(source))),
                fix=(
                    f"# Mount it again, or set Enabled: no in {shell_word(source.file)}: until then apt-get update fails.",
                ),
                undo=(f"# Put {shell_word(source.file)} back as it was.",),
            )
        if source.enabled or not _OF_THE_STACK.search(source.uri):
            continue
        if any(other.enabled and other.uri.rstrip("/") == source.uri.rstrip("/") for other in sources):
            continue
        concerned = [driver.package for driver in driver_packages(facts)]
        if concerned:
            yield Observation(
                id="stack.source-gone",
                severity=Severity.MEDIUM,
                because=f"{source.file} has switched off {source.uri}, while {some(names_of(concerned), 3)} stay installed",
                where=(source.file,),
                evidence=(_source_evidence(source), *(package_evidence(package) for package in concerned[:3])),
                fix=(
                    f"# Enable it in {shell_word(source.file)} for this release, run apt-get update,",
                    "# and upgrade the driver as a whole: an upgrade of the distribution switches foreign sources off.",
                ),
                undo=(f"# Set Enabled: no in {shell_word(source.file)} again.",),
                confidence=Confidence.LIKELY,
            )


def _pin_has_source(pin: AptPin, sources: Iterable[AptSourceEntry], facts: HostFacts) -> bool | None:
    """Whether an enabled source is what a pin means; None where only a list that was not fetched would say."""
    listed = list(sources)
    if pin.kind == "origin":
        host = pin.value.strip("\"'")
        return host == "" or any(fnmatchcase(_host(source), host) for source in listed)
    terms = [term.strip().partition("=") for term in pin.value.split(",")]
    wanted = {key: value.strip("\"'") for key, equals, value in terms if equals and key in _RELEASE_KEYS}
    if not wanted or len(wanted) != len(terms) or any(value.startswith("/") for value in wanted.values()):
        return True  # a component, a version, an architecture or an expression: not judged by names of sources
    if wanted.get("a") == "now":
        return True  # the archive of what is installed
    suites = {source.suite.rstrip("/") for source in listed}
    if set(wanted) <= {"a", "n"} and any(fnmatchcase(suite, value) for suite in suites for value in wanted.values()):
        return True
    fitting = [
        release
        for release in facts.stack.releases
        if all(fnmatchcase(_field_of(release, key), value) for key, value in wanted.items())
    ]
    if any(not {release.suite, release.codename}.isdisjoint(suites) or not release.suite for release in fitting):
        return True
    if fitting and {"a", "n"}.isdisjoint(wanted) and any(source.suite.endswith("/") for source in listed):
        return True  # a flat archive: which of them the list is of cannot be told by its suite
    return False if facts.stack.releases else None


def _field_of(release: AptRelease, key: str) -> str:
    return {"a": release.suite, "n": release.codename, "o": release.origin, "l": release.label}[key]


def _host(source: AptSourceEntry) -> str:
    """ "http://user@archive.example:80/debian" -> "archive.example"; "" for a file."""
    return source.uri.partition("://")[2].partition("/")[0].rpartition("@")[2].partition(":")[0]


def _directory(source: AptSourceEntry) -> str:
    return "/" + source.uri.partition(":")[2].lstrip("/")


def _near(sources: Sequence[AptSourceEntry]) -> tuple[AptSourceEntry, ...]:
    """Sources that are switched off, which may be meant, else the first ones: a person sees what was compared."""
    off = [source for source in sources if not source.enabled]
    return tuple((off or sources)[:3])


def _source_evidence(source: AptSourceEntry) -> Evidence:
    state = "enabled" if source.enabled else "switched off"
    return Evidence(fact=f"{source.uri} {source.suite}: {state}", source=source.file)


def _words(names: Iterable[str]) -> str:
    return " ".join(map(shell_word, names))
