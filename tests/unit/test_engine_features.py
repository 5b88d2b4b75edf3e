"""For which GPUs a layer holds code: read from its back ends, never from the libraries beside them."""

from __future__ import annotations

from pathlib import Path

from tests.stack.binaries import make_bundle, make_cuda_library, make_elf, make_hip_library

from bedplate.image.engine_features import find_gpu_code
from bedplate.image.packages import Lock, Package

LIBRARIES = "usr/lib/x86_64-linux-gnu"


def package(name: str, version: str, depends: str) -> Package:
    stanza = f"Package: {name}\nDepends: {depends}\nVersion: {version}"
    return Package(name=name, version=version, architecture="amd64", sha256="", size_bytes=0, file="", stanza=stanza)


def add(tree: Path, name: str, content: bytes) -> None:
    file = tree / LIBRARIES / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def test_code_of_the_back_ends_counts_and_not_that_of_the_libraries_of_cuda(tmp_path: Path) -> None:
    add(tmp_path, "ggml/backends0/libggml-cuda.so", make_cuda_library((86, 89), (50, 90)))
    add(tmp_path, "ggml/backends0/libggml-cpu-haswell.so", make_elf({".text": b"\xc3"}))
    add(tmp_path, "libcublas.so.12", make_cuda_library((100,)))
    lock = Lock(
        request="",
        suite="sid",
        packages=(
            package("libggml0-backend-cuda", "0.27.0-1", "libggml0 (= 0.27.0-1), libcuda1 (>= 440) | libcuda.so.1 (>= 440)"),
            package("libcudart12", "12.4.127~12.4.1-8", "libc6 (>= 2.43)"),
            package("libc6", "2.43-7", "libgcc-s1 (>= 3.0)"),
        ),
    )
    code = find_gpu_code("llamacpp-cuda", tmp_path, lock)
    assert (code.layer, code.apis, code.toolkit) == ("llamacpp-cuda", ("cuda",), "CUDA 12.4")
    (binary,) = code.binaries
    assert binary.path == f"/{LIBRARIES}/ggml/backends0/libggml-cuda.so"
    assert (binary.architectures, binary.intermediate) == (("sm_86", "sm_89"), ("sm_50", "sm_90"))
    assert code.driver_floors == ("libcuda.so.1 (>= 440)", "libcuda1 (>= 440)")


def test_hip_and_vulkan_are_told_apart_from_an_engine_of_cpus(tmp_path: Path) -> None:
    lock = Lock(request="", suite="sid", packages=())
    add(tmp_path, "ggml/backends0/libggml-cpu-haswell.so", make_elf({".text": b"\xc3"}))
    assert find_gpu_code("llamacpp", tmp_path, lock).apis == ()
    add(tmp_path, "ggml/backends0/libggml-hip.so", make_hip_library(make_bundle(("gfx90a", "gfx1100"))))
    add(tmp_path, "ggml/backends0/libggml-vulkan.so", make_elf({".text": b"\xc3"}))
    code = find_gpu_code("both", tmp_path, lock)
    assert code.apis == ("hip", "vulkan") and code.toolkit == "" and code.driver_floors == ()
    assert [binary.architectures for binary in code.binaries] == [("gfx90a", "gfx1100")]
