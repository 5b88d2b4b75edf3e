"""Kernel modules: compiled in a build root, stripped, then signed by the owner's key, and read back.

The order matters: `strip` behind the signature destroys it. The debug data is ten times what is loaded, so it goes at once.
A signature is appended to the file: PKCS #7 by the owner's key over all bytes before it, a header of 12 bytes, a magic line
(Linux, include/linux/module_signature.h, scripts/sign-file.c). RSA PKCS #1 v1.5 and no signed attributes: the same module
and key give the same bytes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bedplate.act.paths import Paths
from bedplate.act.run import run
from bedplate.errors import BuildError, CommandError, ReadError
from bedplate.image.build_root import build_command
from bedplate.image.keys import Keys
from bedplate.image.tools import tools_command

_MAGIC = b"~Module signature appended~\n"
_HEADER = 12  # bytes: algorithm, hash, id type, two lengths, three of padding, length of the signature (big endian)
_BUILD_S = 6 * 3600.0  # a proprietary driver takes four CPU minutes; a busy host or a large open one far longer
_KEY, _CERTIFICATE = Path("/tmp/owner.key"), Path("/tmp/owner.crt")  # where the build root shows them while it signs
_NAMES = "multiline,utf8,-esc_msb"  # openssl(1): a line for each part of a name, not escaped
_TAIL = 12  # lines of make's errors in a message


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleInfo:
    """What a module says of itself (modinfo). Each text is "" where the module has no such line."""

    name: str
    version: str
    """Of the driver: MODULE_VERSION, which not every module of a driver has."""
    vermagic: str
    """Kernel release and build flags: the kernel refuses a module of another one."""
    signer: str
    """Common name of the certificate whose key has signed it; only `verify_signature` shows that it has."""
    hash_algorithm: str
    depends: tuple[str, ...]

    @property
    def kernel(self) -> str:
        """The kernel release of vermagic: "7.3.4+deb13-amd64" of "7.3.4+deb13-amd64 SMP preempt mod_unload"."""
        return self.vermagic.partition(" ")[0]


def compile_modules(paths: Paths, root: Path, source: Path, *, kernel: str, compiler: str, epoch: int, log: Path) -> float:
    """Build all modules of an NVIDIA source tree in place, for the kernel whose headers the root has; CPU seconds.

    Raises BuildError with the compiler's first errors.
    """
    argv = ["make", "-j1", "modules", f"KERNEL_UNAME={kernel}", f"CC={compiler}"]
    words = build_command(paths, root, argv, work=source, environment=build_environment(epoch))
    try:
        return run(words, timeout_s=_BUILD_S, log=log).cpu_s
    except CommandError as error:
        raise BuildError(
            f"the modules do not build for the kernel {kernel}: {_first_errors(log) or error.message}", hint=f"Read {log}"
        ) from error


def build_environment(epoch: int) -> dict[str, str]:
    """What keeps clock, user and host out of modules (Linux, Documentation/kbuild/reproducible-builds.rst)."""
    return {
        "SOURCE_DATE_EPOCH": str(epoch),
        "KBUILD_BUILD_TIMESTAMP": f"@{epoch}",
        "KBUILD_BUILD_USER": "bedplate",
        "KBUILD_BUILD_HOST": "bedplate",
        "NV_BUILD_USER": "bedplate",
        "NV_BUILD_HOST": "bedplate",
    }


def link_headers(root: Path, kernel: str) -> None:
    """Make the links by which the headers of a kernel are found, where the headers' own package did not.

    Raises BuildError when the root has no headers of exactly this release.
    """
    headers = root / "usr/src" / f"linux-headers-{kernel}"
    release = headers / "include/generated/utsrelease.h"
    found = re.search(r'UTS_RELEASE "([^"]+)"', release.read_text()) if release.is_file() else None
    if found is None or found[1] != kernel:
        raise BuildError(
            f"the build root has headers of the kernel {found[1] if found else 'of no release'}, expected {kernel}",
            hint="Check `kernel` and `build_packages` of the driver's recipe.",
        )
    common = re.sub(r"-[a-z0-9]+$", "-common", kernel.replace("-cloud-", "-").replace("-rt-", "-"))
    directory = root / "usr/lib/modules" / kernel
    directory.mkdir(parents=True, exist_ok=True)
    for name, target in (("build", headers.name), ("source", f"linux-headers-{common}")):
        link = directory / name
        if not link.is_symlink():
            link.symlink_to(f"/usr/src/{target}")


def strip_and_sign(paths: Paths, root: Path, directory: Path, keys: Keys, *, log: Path) -> None:
    """Strip the debug data of each module of a directory, then sign it. Only for the signing the root sees the owner's key.

    Raises BuildError where the kernel's own sign-file is not in the root, CommandError when it fails.
    """
    names = sorted(file.name for file in directory.glob("*.ko"))
    (signer,) = sorted((root / "usr/lib").glob("linux-kbuild-*/scripts/sign-file"))[-1:] or (None,)
    if signer is None:
        raise BuildError("the build root has no sign-file", hint="Check that `build_packages` bring linux-kbuild.")
    run(build_command(paths, root, ["strip", "-g", *names], work=directory, environment={}), timeout_s=600, log=log)
    shown = {_KEY: keys.owner_key, _CERTIFICATE: keys.owner_certificate}
    for name in names:
        argv: list[str | os.PathLike[str]] = [Path("/") / signer.relative_to(root), "sha256", _KEY, _CERTIFICATE, name]
        words = build_command(paths, root, argv, work=directory, environment={}, read_only=shown)
        run(words, timeout_s=120, log=log)


def read_module(paths: Paths, file: Path) -> ModuleInfo:
    """What modinfo of the tools tree says of a module below the cache. Raises CommandError for what is no module."""
    return parse_modinfo(run(tools_command(paths, ["modinfo", file]), timeout_s=120).output)


def parse_modinfo(text: str) -> ModuleInfo:
    """The lines `key:   value` of modinfo(8); a key that comes twice counts once, as it comes first."""
    fields: dict[str, str] = {}
    for key, value in re.findall(r"^(\w+):[ \t]*(.*?)[ \t]*$", text, re.MULTILINE):
        fields.setdefault(key, value)
    return ModuleInfo(
        name=fields.get("name", ""),
        version=fields.get("version", ""),
        vermagic=fields.get("vermagic", ""),
        signer=fields.get("signer", ""),
        hash_algorithm=fields.get("sig_hashalgo", ""),
        depends=tuple(name for name in fields.get("depends", "").split(",") if name),
    )


def find_module_problems(
    modules: Mapping[str, ModuleInfo], expected: Sequence[str], *, kernel: str, version: str, signer: str
) -> tuple[str, ...]:
    """Each difference between the modules of a build and what it was to make, as a phrase; () is agreement.

    modules: by the name of the file without ".ko". A module without a version of its own is no difference; the first of
    `expected` must have one, since user space and firmware are matched with it.
    """
    problems = [f"{name}.ko: the build made no such module" for name in expected if name not in modules]
    problems += [f"{name}.ko: the recipe does not name this module" for name in modules if name not in expected]
    for name, info in modules.items():
        if info.kernel != kernel:
            problems.append(f"{name}.ko: is for the kernel {info.kernel or 'of no release'}, expected {kernel}")
        if info.version != version and (info.version or name == expected[0]):
            problems.append(f"{name}.ko: has version {info.version or 'none'}, expected {version}")
        if info.signer != signer:
            problems.append(f"{name}.ko: is signed by {info.signer or 'nobody'}, expected {signer}")
        if info.hash_algorithm != "sha256":
            problems.append(f"{name}.ko: its signature is over {info.hash_algorithm or 'no hash'}, expected sha256")
    return tuple(problems)


def split_signature(content: bytes, *, name: str) -> tuple[bytes, bytes]:
    """(module, PKCS #7 signature) of a signed module. Raises ReadError where it has no signature, or one that is cut."""
    if not content.endswith(_MAGIC):
        raise ReadError(f"{name}: is not signed")
    end = len(content) - len(_MAGIC) - _HEADER
    length = int.from_bytes(content[end + 8 : end + _HEADER], "big") if end > 0 else 0
    if not 0 < length < end:
        raise ReadError(f"{name}: its signature has {length} bytes, expected 1 to {max(end - 1, 1)}")
    return content[: end - length], content[end - length : end]


def verify_signature(paths: Paths, file: Path, certificate: Path, *, work: Path) -> None:
    """Raise BuildError unless the owner's key has signed the module. `work` is a directory below the cache."""
    body, signature = split_signature(file.read_bytes(), name=file.name)
    content, detached = work / f"{file.name}.body", work / f"{file.name}.p7s"
    content.write_bytes(body)
    detached.write_bytes(signature)
    argv: list[str | os.PathLike[str]] = [
        "openssl",
        "cms",
        "-verify",
        "-binary",
        "-inform",
        "DER",
        "-in",
        detached,
        "-content",
        content,
    ]
    argv += ["-certfile", certificate, "-nointern", "-noverify", "-out", "/dev/null"]
    try:
        run(tools_command(paths, argv), timeout_s=120)
    except CommandError as error:
        raise BuildError(f"{file.name}: its signature is not by the key of {certificate}: {error.message}") from error
    finally:
        content.unlink()
        detached.unlink()


def read_signer(paths: Paths, certificate: Path) -> str:
    """The name that modinfo shows as the signer: the common name of a certificate's subject, else its organization.

    Raises ReadError where the certificate has neither.
    """
    argv: list[str | os.PathLike[str]] = ["openssl", "x509", "-in", certificate, "-noout", "-subject", "-nameopt", _NAMES]
    text = run(tools_command(paths, argv), timeout_s=60).output
    for part in ("commonName", "organizationName"):
        if (found := re.search(rf"^\s*{part}\s*= (.*)$", text, re.MULTILINE)) is not None:
            return found[1]
    raise ReadError(f"{certificate}: its subject has neither a common name nor an organization")


def _first_errors(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    start = max((number for number, line in enumerate(lines) if line.startswith("$ ")), default=0)
    errors = [line for line in lines[start:] if re.search(r"\b(?:fatal )?error: |: Error |^ERROR: ", line)]
    return "; ".join(errors[:_TAIL])[:2000]
