"""The checks of Python environments: PyTorch, CUDA, the code in libraries, and what pip left."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.facts_factory import make_facts, make_os, with_gpus
from tests.unit.stack_facts import env, environment, findings, library

from bedplate.model.facts.finding import Confidence, Finding, Severity
from bedplate.model.facts.reading import Reading, Unknown, known, missing
from bedplate.model.facts.stack import (
    CDI_DIRECTORY,
    CudaToolkit,
    DeviceCode,
    InstalledStack,
    PythonEnvironment,
    PythonPackage,
    PythonRequirement,
    TorchBuild,
)


def test_an_environment_in_which_all_fits() -> None:
    assert findings(env()) == {}
    assert findings(env(), with_gpus(make_facts(), 1)) == {}


@pytest.mark.parametrize(
    ("bounds", "is_met"),
    [("==2.10.0", True), (">=2.9,<3", True), ("==2.9.1", False), (">=2.11", False), ("~=2.1", True), ("!=2.10.0", False)],
)
def test_bounds_of_an_engine_on_torch(bounds: str, is_met: bool) -> None:
    found = findings(env(requirements=(PythonRequirement(package="vllm", bounds=bounds),)))
    assert ("stack.torch-foreign" in found) is not is_met


def test_a_torch_for_no_gpu_of_the_machine() -> None:
    cpu = TorchBuild(path="/t", version="2.10.0+cpu", cuda="", hip="")
    assert findings(env(torch=cpu)) == {}
    found = findings(env(torch=cpu), with_gpus(make_facts(), 1))["stack.torch-foreign"]
    assert "built for the CPU alone" in found.title
    rocm = TorchBuild(path="/t", version="2.10.0+rocm6.4", cuda="", hip="6.4")
    assert "HIP 6.4" in findings(env(torch=rocm), with_gpus(make_facts(), 1))["stack.torch-foreign"].title


def test_a_torch_of_pip_in_front_of_the_distributions() -> None:
    def system(path: str, version: str) -> PythonEnvironment:
        package = PythonPackage(name="torch", version=version, path=f"{path}/torch-{version}.dist-info")
        return environment(path=path, is_virtual=False, packages=(package,), torch=None, requirements=())

    debian = system("/usr/lib/python3/dist-packages", "2.6.0")
    pip = system("/usr/local/lib/python3.13/dist-packages", "2.10.0")
    assert "stack.torch-foreign" in findings(InstalledStack(deep=True, environments=(debian, pip)))
    same = system("/usr/local/lib/python3.13/dist-packages", "2.6.0+cpu")
    assert findings(InstalledStack(deep=True, environments=(debian, same))) == {}
    assert findings(InstalledStack(deep=True, environments=(pip,))) == {}


def test_a_local_version_that_an_installer_has_normalised_is_the_same() -> None:
    def told(version: str) -> dict[str, Finding]:
        those = (PythonPackage(name="torch", version=version, path="/opt/vllm/lib/python3.13/site-packages/t.dist-info"),)
        torch = TorchBuild(path="/t", version="2.6.0a0+ecf3bae40a.nv25.01", cuda="12.8", hip="")
        return findings(env(packages=those, torch=torch, requirements=()))

    assert told("2.6.0a0+ecf3bae40a.nv25.1") == {} and told("2.6.0a0") == {}
    assert "stack.torch-foreign" in told("2.6.0a0+ecf3bae40a.nv25.2")


def test_what_pip_left() -> None:
    twice = (*environment().packages, PythonPackage(name="torch", version="2.9.1", path="/opt/vllm/lib/x"))
    assert findings(env(packages=twice))["stack.pip-unfinished"].severity is Severity.MEDIUM
    left = findings(env(leftovers=("/opt/vllm/lib/~orch-2.9.1.dist-info",)))
    assert left["stack.pip-unfinished"].severity is Severity.LOW


def test_an_environment_without_its_python() -> None:
    gone: Reading[str] = missing(Unknown.ABSENT, "/opt/vllm/bin/python", "/usr/bin/python3.11")
    assert "is not there" in findings(env(interpreter=gone))["stack.python-gone"].title
    links = tuple(f"/opt/vllm/bin/{name}" for name in ("python", "python3", "python3.13"))
    title = findings(env(interpreter=gone, dangling=links))["stack.python-gone"].title
    assert title.endswith("python3.11, which is not there, and 2 more of its links lead nowhere: nothing in it starts")
    moved = known("/usr/bin/python3.14", "/opt/vllm/bin/python")
    assert "installed for python3.13" in findings(env(interpreter=moved))["stack.python-gone"].title
    assert findings(env(interpreter=missing(Unknown.ABSENT, "/opt/vllm/bin/python"))) == {}
    assert findings(env(interpreter=missing(Unknown.DENIED, "/opt/vllm/bin/python", "x"))) == {}


@pytest.mark.parametrize(
    ("cuda", "driver", "fits"),
    [
        ("12.8", "535.261.03", True),
        ("13.0", "550.163.01", False),
        ("13.2", "580.65.06", True),
        ("12.8", "470.256.02", False),
    ],
)
def test_the_driver_that_cuda_needs(cuda: str, driver: str, fits: bool) -> None:
    torch = TorchBuild(path="/t", version="2.10.0", cuda=cuda, hip="")
    stack = replace(env(torch=torch), libraries=(library("libcuda", driver),))
    assert ("stack.driver-too-old" in findings(stack)) is not fits


def test_a_forward_compatible_library_makes_it_doubtful_and_no_driver_makes_it_nothing() -> None:
    torch = TorchBuild(path="/t", version="2.14.1+cu130", cuda="13.0", hip="")
    kit = CudaToolkit(
        path="/usr/local/cuda-13.0", version=known("13.0", "/v"), is_default=False, in_loader_path=False, compat="580.65.06"
    )
    stack = replace(env(torch=torch, requirements=()), toolkits=(kit,))
    stack = replace(stack, environments=(replace(stack.environments[0], packages=()),))
    assert findings(stack)["stack.driver-too-old"].confidence is Confidence.POSSIBLE
    assert findings(replace(stack, libraries=())) == {}


def test_the_default_toolkit_needs_a_driver_too() -> None:
    kit = CudaToolkit(
        path="/usr/local/cuda", version=known("13.0.1", "/v"), is_default=True, in_loader_path=False, compat=""
    )
    stack = InstalledStack(toolkits=(kit,), libraries=(library("libcuda", "550.163.01"),))
    assert findings(stack)["stack.driver-too-old"].severity is Severity.LOW


@pytest.mark.parametrize(
    ("machine", "intermediate", "runs"),
    [
        (("sm_80", "sm_90"), (), True),
        (("sm_80",), (), False),
        (("sm_80",), ("sm_80",), True),
        (("sm_100",), ("sm_100",), False),
        (("gfx90a",), (), True),  # of another vendor: nothing is said
        ((), (), True),
    ],
)
def test_the_code_that_an_h100_runs(machine: tuple[str, ...], intermediate: tuple[str, ...], runs: bool) -> None:
    code = DeviceCode(path="/opt/vllm/lib/x/site-packages/vllm/_C.so", architectures=machine, intermediate=intermediate)
    stack = env(code=(code,))
    facts = with_gpus(make_facts(), 1)
    assert facts.pci[-1].pci_id == "10de:2330" or any(device.pci_id == "10de:2330" for device in facts.pci)
    assert ("stack.engine-code" not in findings(stack, facts)) is runs
    assert "stack.engine-code" not in findings(stack)


def toolkit(version: str, **changes: Any) -> CudaToolkit:
    values: dict[str, Any] = {"is_default": False, "in_loader_path": False, "compat": ""}
    return CudaToolkit(path=f"/usr/local/cuda-{version}", version=known(version, "/v"), **(values | changes))


@pytest.mark.parametrize(
    ("toolkits", "severity"),
    [
        ((toolkit("12.4", is_default=True),), None),
        ((toolkit("12.4", is_default=True), toolkit("13.0")), Severity.LOW),
        ((toolkit("12.4", is_default=True, in_loader_path=True), toolkit("13.0", in_loader_path=True)), Severity.MEDIUM),
        ((toolkit("12.4", is_default=True), toolkit("13.0", in_loader_path=True)), Severity.MEDIUM),
    ],
)
def test_several_toolkits(toolkits: tuple[CudaToolkit, ...], severity: Severity | None) -> None:
    found = findings(InstalledStack(toolkits=toolkits)).get("stack.cuda-second")
    assert (found.severity if found is not None else None) is severity


def test_no_cdi_file_is_a_finding_only_where_the_directories_were_read() -> None:
    facts = make_facts(os=make_os(runtimes=("nvidia-container-toolkit",)))
    stack = InstalledStack(libraries=(library("libcuda", "550.163.01"),))
    assert findings(stack, facts) == {}
    assert "stack.cdi-missing" in findings(replace(stack, cdi=known((), CDI_DIRECTORY)), facts)
    assert findings(replace(stack, cdi=known((), CDI_DIRECTORY)), make_facts()) == {}
    inside = make_facts(os=make_os(runtimes=("nvidia-container-toolkit",), container=known("docker", "/.dockerenv")))
    assert findings(replace(stack, cdi=known((), CDI_DIRECTORY)), inside) == {}
