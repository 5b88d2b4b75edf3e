"""The stack from kernel to engine as values: what exists, what is known of it, what is wished, and what was decided.

A component is anything that has a version and that another part depends on: a kernel, a driver, a CUDA runtime, an engine,
the root directory of an engine's layer. A release is one version of it from one source. Rows of catalog/stack become these
values; plan/resolve decides over them and reads nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from bedplate.model.bundle import CatalogBundle
from bedplate.model.catalogued import AcceleratorRow
from bedplate.model.version_condition import VersionCondition

HOST, LAYER = "host", "layer"
FIXED_SUBJECTS = ("accelerator", "host", "model")
"""What conditions may name beside components: its values come from the machine and the wish, and no release changes them."""


class CheckedBy(StrEnum):
    """How a row came to be known; the weaker a way, the lower it stands."""

    BUILT = "built"
    """Built or run by the authors."""
    METADATA = "metadata"
    """Read in the package's own metadata, its file, or an archive's list of packages."""
    DOCUMENT = "document"
    """Stated by the vendor."""
    THREAD = "thread"
    """Reported in a public thread."""
    INVENTED = "invented"
    """Made for a test."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackSource:
    """A place that releases come from: an archive's suite, a registry, a vendor's site."""

    id: str
    title: str
    group: str = ""
    """A wish that allows the group allows the source, unless it is `named`."""
    named: bool = False
    """Whether a wish must name it: an experimental suite, a directory of the user's."""
    default: bool = False
    """Whether a wish that names no source allows it."""
    always: bool = False
    """Whether every wish allows it: what comes with the kernel itself, or belongs to the machine's owner."""
    suites: tuple[str, ...] = ()
    """How sources of apt name it, by codename and by class: ("trixie", "stable"); () where it is no suite of an archive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackComponent:
    """A kind of part. `order` is where it is chosen and explained: engines first, the kernel last."""

    id: str
    title: str
    scope: str
    """ "host": one for the machine; "layer": one in the root directory of each engine."""
    order: int
    open: bool = False
    """Whether a wish may name a version that no row has, such as a kernel that is newer than the catalogue."""
    python: bool = False
    """Whether it is a Python package of the same name."""
    listed: bool = False
    """Whether releases are wanted in the order of their rows, not the newest first: the newest root is no better one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackDevice:
    """A kind of accelerator. Its properties are asked as `accelerator.NAME` by the conditions of rows."""

    id: str
    title: str
    pci: tuple[str, ...] = ()
    """ "10de:2330": vendor and device in lower-case hexadecimal."""
    needs: tuple[VersionCondition, ...] = ()
    """What must hold of other components where the device is."""
    properties: dict[str, tuple[str, ...]] = field(default_factory=dict)
    checked: CheckedBy
    date: str
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StackRelease:
    """What can be taken: an artefact of an archive, a registry or a vendor, with what it holds and what it asks."""

    component: str
    version: str
    source: str
    properties: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Values by name; a name with several values has all of them, such as the GPU code in a file."""
    needs: tuple[VersionCondition, ...] = ()
    licence: str = "free"
    file: str = ""
    sha256: str = ""
    """Of `file`; "" where the artefact is not known."""
    checked: CheckedBy
    date: str
    evidence: tuple[str, ...]
    note: str = ""

    def values(self, name: str) -> tuple[str, ...]:
        """The values of a property; its version for "", its source for "source"."""
        if name == "source":
            return (self.source,)
        return self.properties.get(name, ()) if name else (self.version,)

    @property
    def variant(self) -> str:
        """What tells it from other releases of the same version and source: "open", "cuda"; may be ""."""
        return ", ".join(
            self.properties[name][0] for name in ("flavour", "build", "api", "support") if self.properties.get(name)
        )

    @property
    def artefact(self) -> str:
        """ "550.163.01-2 (open, debian-13)"."""
        return f"{self.version} ({', '.join(filter(None, (self.variant, self.source)))})"

    @property
    def label(self) -> str:
        """ "nvidia-driver 550.163.01-2 (open, debian-13)"."""
        return f"{self.component} {self.artefact}"


class FactKind(StrEnum):
    """What sort of knowledge a fact is; the pages of the reference are divided by it."""

    RULE = "rule"
    """A dependency or a floor that a vendor or the metadata states."""
    KNOWN_BAD = "known-bad"
    """A combination that should work and does not."""
    CAUTION = "caution"
    """Something to know of a combination that is possible; it forbids nothing, and the lock repeats it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackFact:
    """Where all of `when` hold, all of `needs` must hold; without `needs`, `when` must not come together."""

    id: str
    kind: FactKind
    because: str
    """The sentence that an explanation prints: the cause, without "because"."""
    when: tuple[VersionCondition, ...]
    needs: tuple[VersionCondition, ...] = ()
    advice: str = ""
    """What to do instead; "" where the nearest wishes say it."""
    checked: CheckedBy
    date: str
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleBuild:
    """For which kernels a kernel module is known to build, or not to build. What no row allows is not taken.

    `kernel` has an upper end where builds is true: a newer kernel is "no" until a build says yes.
    """

    id: str
    module: tuple[VersionCondition, ...]
    """Conditions on the component that has the module: version, flavour, packaging revision."""
    kernel: VersionCondition
    builds: bool
    because: str
    checked: CheckedBy
    date: str
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StackCatalogue:
    """All rows, in the order of their files; `digest` is the SHA-256 of their texts."""

    sources: tuple[StackSource, ...]
    components: tuple[StackComponent, ...]
    devices: tuple[StackDevice, ...]
    releases: tuple[StackRelease, ...]
    facts: tuple[StackFact, ...]
    modules: tuple[ModuleBuild, ...]
    accelerators: tuple[AcceleratorRow, ...] = ()
    """What one device of each kind holds; `device` of a row is the id of the device that it is."""
    bundles: tuple[CatalogBundle, ...] = ()
    """Where rows come from that neither ship nor are files of the owner's own."""
    digest: str


class StackPolicy(StrEnum):
    """How a version is chosen where several are possible."""

    NEWEST = "newest"
    """The newest that is possible, component after component, engines first."""
    STABLE = "stable"
    """What the present lock has, where it is still possible; as few changes as possible, else the newest."""
    PINNED = "pinned"
    """Nothing may differ from the present lock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedAccelerators:
    """Accelerators of one kind in a machine."""

    device: str
    """Id of the device."""
    name: str
    count: int
    """Devices, as the system counts them: a card can be two."""
    vendor: str
    """PCI vendor id, "10de"."""
    memory_bytes: int | None
    """Of one device; None where neither a row nor the machine says it."""
    row: AcceleratorRow | None = None
    """What the memory is taken from; None for a device without figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackHardware:
    """What the resolver knows of a machine: its kinds of accelerators, and properties asked as `host.NAME`."""

    accelerators: tuple[StackDevice, ...] = ()
    counted: tuple[CountedAccelerators, ...] = ()
    """The same, by number and memory; () where that is not known."""
    properties: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """ "nvswitch": ("yes",), "nodes": ("3",). What is missing is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackWish:
    """What somebody wants. Each line can be relaxed by itself when the whole is not possible."""

    engines: tuple[VersionCondition, ...] = ()
    one_layer: bool = False
    """Whether all engines share one root directory; else each has its own."""
    models: tuple[str, ...] = ()
    require: tuple[VersionCondition, ...] = ()
    policy: StackPolicy = StackPolicy.STABLE
    sources: tuple[str, ...] = ()
    """Ids or groups of sources; () allows the default ones."""
    licences: tuple[str, ...] = ()
    """() allows all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryConflict:
    """That an engine cannot hold a model in the machine's accelerators, as two links of a chain."""

    component: str
    """The engine."""
    need: ReasonLink
    """What the model takes, and of what row that follows."""
    memory: ReasonLink
    """What the accelerators have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedModel:
    """A model of a wish that the catalogue has."""

    name: str
    """As the wish writes it."""
    formats: tuple[str, ...]
    """ "safetensors", "gguf": those that one of its published precisions is in."""
    conflicts: tuple[MemoryConflict, ...] = ()
    """The engines that cannot hold it; an engine of which that is not known is not among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenRelease:
    """One component of a lock, and why it is this one."""

    release: StackRelease
    layer: str
    """Name of the layer; "" for what is of the host."""
    because: str
    held_back: str = ""
    """Why a newer release was not taken; "" when there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackLock:
    """One stack that no row forbids: components in the order in which they were chosen, and the facts that bear on it."""

    choices: tuple[ChosenRelease, ...]
    facts: tuple[str, ...]
    """Ids of the facts and module builds whose conditions hold for it, sorted."""
    cautions: tuple[str, ...] = ()
    """What is to be known of this combination, such as what was not tried on hardware, in sentences."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackRecord:
    """A lock as its file has it: what was wished, on what date and with which rows it was made."""

    date: str
    """Day on which it was made, 2026-11-30."""
    catalogue: str
    """SHA-256 of the rows; another digest may give another lock."""
    bundles: tuple[CatalogBundle, ...] = ()
    """Imported bundles whose rows were among them."""
    wish: tuple[str, ...]
    """The lines of the wish, the hardware's first: "accelerators: h100", "engine: vllm >=0.19"."""
    lock: StackLock


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonLink:
    """One step of the shortest chain that makes a wish impossible."""

    sentence: str
    evidence: tuple[str, ...] = ()
    fact: str = ""
    """Id of the row; "" for a line of the wish."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NearestWish:
    """A wish that is possible and differs in one line."""

    line: str
    """The line that was relaxed, as the wish has it."""
    sentence: str
    """What it becomes possible with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackConflict:
    """Why a wish is not possible: without any one of these links it would be."""

    chain: tuple[ReasonLink, ...]
    nearest: tuple[NearestWish, ...]
