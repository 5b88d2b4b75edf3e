"""Control groups of the machine, as far as a plan weighs them: slices and what is directly in them."""

from __future__ import annotations

from dataclasses import dataclass

from bedplate.model.facts.reading import Reading, Unknown, missing


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlGroup:
    """One cgroup of version 2 (Documentation/admin-guide/cgroup-v2.rst)."""

    path: str
    """Below the mount: "/system.slice/vllm.service"; "/" is the root."""
    files: tuple[tuple[str, Reading[str]], ...]
    """(name, text) of its interface files: cpu.weight, cpu.idle, memory.low, io.weight, cpuset.cpus.effective, ...; a file
    that the kernel does not have, or whose controller is not enabled here, is ABSENT."""

    @property
    def unit(self) -> str:
        """The systemd unit: the last name of the path; "-.slice" for the root."""
        return self.path.rpartition("/")[2] or "-.slice"

    def read(self, name: str) -> Reading[str]:
        """One of its files; NOT_RECORDED when nobody read it."""
        for key, reading in self.files:
            if key == name:
                return reading
        return missing(Unknown.NOT_RECORDED, f"{self.path}/{name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """What a machine's control groups and its service manager say; the input of plan/tune beside HostFacts."""

    version: int
    """2 where the controllers are on the unified hierarchy; 1 otherwise, hybrid included; 0 without any."""
    mount: str
    """Where version 2 is mounted, "/sys/fs/cgroup"; "" otherwise."""
    controllers: tuple[str, ...]
    """cgroup.controllers of the root; () when not known."""
    systemd: int | None
    """Major version of the running service manager (257); None when process 1 is another or it does not say."""
    groups: tuple[ControlGroup, ...]
    """By path: the root, each slice to three levels, and the units directly in them; a bounded number."""

    def find(self, path: str) -> ControlGroup | None:
        """The cgroup of a path below the mount, "/system.slice/vllm.service"; None where no such one was read."""
        return next((group for group in self.groups if group.path == path), None)
