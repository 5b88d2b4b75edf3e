"""Small facts of an installed stack, and what is found in them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.unit.facts_factory import make_facts, make_kernel

from bedplate.catalog.findings import read_findings
from bedplate.catalog.stack import read_stack
from bedplate.model.audit import Audit, Suppression
from bedplate.model.facts.finding import Finding
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import known
from bedplate.model.facts.stack import (
    DPKG_STATUS,
    DpkgPackage,
    DriverLibrary,
    InstalledStack,
    ModuleFile,
    PythonEnvironment,
    PythonPackage,
    PythonRequirement,
    TorchBuild,
)
from bedplate.plan.audit_stack import audit_stack

ROWS, CATALOGUE = read_findings(), read_stack(drop_ins=None)

NEXT = "6.12.118+deb13-amd64"


def judge(stack: InstalledStack, facts: HostFacts | None = None, *suppressions: Suppression) -> Audit:
    facts = facts if facts is not None else make_facts(kernel=make_kernel(next_release=known(NEXT, "/boot")))
    return audit_stack(replace(facts, stack=stack), ROWS, CATALOGUE, None, suppressions, today="2026-11-30")


def findings(stack: InstalledStack, facts: HostFacts | None = None) -> dict[str, Finding]:
    return {finding.id: finding for finding in judge(stack, facts).findings}


def package(name: str, version: str = "1-1", want: str = "install", state: str = "installed", **more: Any) -> DpkgPackage:
    return DpkgPackage(name=name, architecture="amd64", version=version, want=want, state=state, **more)


def packages(*those: DpkgPackage, **more: Any) -> InstalledStack:
    return InstalledStack(packages=known(those, DPKG_STATUS), **more)


def module(**changes: Any) -> InstalledStack:
    values: dict[str, Any] = {
        "path": f"/lib/modules/{NEXT}/updates/dkms/nvidia-current.ko",
        "release": NEXT,
        "name": "nvidia",
        "version": known("550.163.01", "/m"),
        "vermagic": known(NEXT, "/m"),
        "firmware": ("nvidia/a.bin", "nvidia/b.bin"),
        "firmware_missing": (),
    }
    return InstalledStack(deep=True, module_files=(ModuleFile(**(values | changes)),))


def library(name: str, version: str) -> DriverLibrary:
    return DriverLibrary(name=name, version=version, path=f"/usr/lib/{name}.so.1")


def environment(**changes: Any) -> PythonEnvironment:
    values: dict[str, Any] = {
        "path": "/opt/vllm",
        "is_virtual": True,
        "interpreter": known("/usr/bin/python3.13", "/opt/vllm/bin/python"),
        "packages": tuple(
            PythonPackage(name=name, version=version, path=f"/opt/vllm/lib/python3.13/site-packages/{name}.dist-info")
            for name, version in (("torch", "2.10.0"), ("vllm", "0.19.1"))
        ),
        "leftovers": (),
        "torch": TorchBuild(path="/opt/vllm/torch/version.py", version="2.10.0+cu128", cuda="12.8", hip=""),
        "requirements": (PythonRequirement(package="vllm", bounds="==2.10.0"),),
        "code": (),
    }
    return PythonEnvironment(**(values | changes))


def env(**changes: Any) -> InstalledStack:
    return InstalledStack(deep=True, environments=(environment(**changes),), libraries=(library("libcuda", "550.163.01"),))
