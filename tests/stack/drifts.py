"""Ten ways in which a host drifts from what it was, two of each, planted into a host of tests/stack/host.py.

python3 -m tests.stack.drifts /             # in a guest: make the stack, then plant all of the first kind
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.stack.binaries import make_bundle, make_cuda_library, make_hip_library
from tests.stack.host import DKMS, DRIVER, LIBRARIES, NEWER_DRIVER, OTHER_DRIVER, SITE, StackHost, find_host, make_host


@dataclass(frozen=True)
class Drift:
    """What is changed, and the findings that must come of it and no others."""

    name: str
    plant: Callable[[StackHost], None]
    findings: frozenset[str]


def _hold_kernel(host: StackHost) -> None:
    host.hold("linux-image-amd64")


def _pin_kernel(host: StackHost) -> None:
    host.write("/etc/apt/preferences.d/kernel", "Package: linux-image-*\nPin: version 6.12.117-*\nPin-Priority: 1001\n")


def _upgrade_library_package(host: StackHost) -> None:
    host.install(("libcuda1", f"{NEWER_DRIVER}-1"))


def _fail_driver_script(host: StackHost) -> None:
    host.install(("nvidia-open-kernel-dkms", f"{DRIVER}-5"), postinst="exit 1", ok=False)


def _take_newer_torch(host: StackHost) -> None:
    host.remove(f"{SITE}/torch-2.10.0.dist-info")
    host.write_wheel("torch", "2.14.1")
    host.write_torch("2.14.1+cu130", "13.0")


def _copy_cpu_torch(host: StackHost) -> None:
    host.write_torch("2.9.1+cpu", None)


def _add_toolkit(host: StackHost) -> None:
    host.write_toolkit("12.9.86")
    host.write("/etc/ld.so.conf.d/988_cuda-12.conf", "/usr/local/cuda-12.9/targets/x86_64-linux/lib\n")


def _add_packaged_toolkit(host: StackHost) -> None:
    host.install(("nvidia-cuda-toolkit", "11.8.89~11.8.0-5"))
    host.write("/usr/lib/cuda/version.txt", "CUDA Version 11.8.89\n")


def _lose_firmware_file(host: StackHost) -> None:
    host.remove(f"/lib/firmware/nvidia/{DRIVER}/gsp_ga10x.bin")


def _lose_firmware(host: StackHost) -> None:
    host.remove(f"/lib/firmware/nvidia/{DRIVER}")


def _lose_module(host: StackHost) -> None:
    """What is left of a kernel for which dkms has not built."""
    host.remove(f"/var/lib/dkms/{DKMS}/{DRIVER}/{host.following}")
    host.remove(f"/var/lib/dkms/{DKMS}/kernel-{host.following}-x86_64")
    host.remove(f"/lib/modules/{host.following}/updates/dkms/{DKMS}.ko.xz")
    host.write_modules_dep(host.following, driver=False)


def _fail_dkms(host: StackHost) -> None:
    _lose_module(host)
    head = f"DKMS make.log for {DKMS}-{DRIVER} for kernel {host.following} (x86_64)\n"
    host.write(
        f"/var/lib/dkms/{DKMS}/{DRIVER}/build/make.log",
        f"{head}nvidia/nv-pci.c:237:9: error: too few arguments to function 'pci_resize_resource'\n",
    )


def _lose_headers(host: StackHost) -> None:
    _lose_module(host)
    host.remove(f"/lib/modules/{host.following}/build")


def _older_libraries(host: StackHost) -> None:
    host.write_libraries(OTHER_DRIVER)


def _older_library(host: StackHost) -> None:
    host.write_libraries(OTHER_DRIVER, "libnvidia-ml")


def _lose_cdi(host: StackHost) -> None:
    host.remove("/etc/cdi/nvidia.yaml")


def _stale_cdi(host: StackHost) -> None:
    host.write_cdi("545.23.08")


def _engine_for_older_gpus(host: StackHost) -> None:
    for name in ("_C.abi3.so", "_moe_C.abi3.so"):
        host.write(f"{SITE}/vllm/{name}", make_cuda_library((70, 75)))


def _engine_for_newer_gpus(host: StackHost) -> None:
    """Machine code and PTX of newer devices; and a back end of llama.cpp for another vendor, which is nobody's fault."""
    host.write(f"{SITE}/torch/lib/libtorch_cuda.so", make_cuda_library((100, 120), (120,)))
    host.write(f"{LIBRARIES}/ggml/libggml-hip.so", make_hip_library(make_bundle(("gfx90a", "gfx1100"))))


def _lose_pinned_source(host: StackHost) -> None:
    path = host.at("/etc/apt/sources.list.d/debian.sources")
    path.write_text(path.read_text().replace(" trixie-backports", ""))


def _switch_source_off(host: StackHost) -> None:
    host.write(
        "/etc/apt/sources.list.d/toolkit.list",
        "# deb [arch=amd64] https://toolkit.example/stable/deb/amd64 / # disabled on upgrade to trixie\n",
    )


def _drift(name: str, plant: Callable[[StackHost], None], *findings: str) -> Drift:
    return Drift(name=name, plant=plant, findings=frozenset(f"stack.{finding}" for finding in findings))


FIRST = (
    _drift("held-back kernel", _hold_kernel, "kernel-held"),
    _drift("half-upgraded driver", _upgrade_library_package, "driver-mixed"),
    _drift("foreign torch", _take_newer_torch, "torch-foreign", "driver-too-old"),
    _drift("second CUDA", _add_toolkit, "cuda-second"),
    _drift("missing firmware", _lose_firmware_file, "firmware-missing"),
    _drift("dkms failed for the next kernel", _fail_dkms, "known-bad"),
    _drift("library older than the module", _older_libraries, "library-module"),
    _drift("container toolkit without CDI", _lose_cdi, "cdi-missing"),
    _drift("engine built for other architectures", _engine_for_older_gpus, "engine-code"),
    _drift("pinned source gone", _lose_pinned_source, "source-gone"),
)
SECOND = (
    _drift("held-back kernel", _pin_kernel, "kernel-held"),
    _drift("half-upgraded driver", _fail_driver_script, "upgrade-unfinished"),
    _drift("foreign torch", _copy_cpu_torch, "torch-foreign"),
    _drift("second CUDA", _add_packaged_toolkit, "cuda-second"),
    _drift("missing firmware", _lose_firmware, "firmware-missing"),
    _drift("dkms failed for the next kernel", _lose_headers, "dkms-driver"),
    _drift("library older than the module", _older_library, "library-module"),
    _drift("container toolkit without CDI", _stale_cdi, "cdi-stale"),
    _drift("engine built for other architectures", _engine_for_newer_gpus, "engine-code"),
    _drift("pinned source gone", _switch_source_off, "source-gone"),
)


def main() -> None:
    """Make the stack below a directory, or plant the drifts of FIRST that are named by their numbers."""
    top, *names = sys.argv[1:]
    host = make_host(Path(top)) if names == ["clean"] else find_host(Path(top))
    for number, drift in enumerate(FIRST):
        if names == ["all"] or str(number) in names:
            drift.plant(host)


if __name__ == "__main__":
    main()
