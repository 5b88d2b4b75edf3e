"""Makes the problem: rows, the hardware's properties and the lines of the wish become masks of candidates."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from bedplate.model.stack import (
    FIXED_SUBJECTS,
    HOST,
    FactKind,
    JudgedModel,
    ModuleBuild,
    StackCatalogue,
    StackFact,
    StackHardware,
    StackRelease,
    StackWish,
)
from bedplate.model.version_condition import VersionCondition
from bedplate.model.versions import version_key
from bedplate.plan.resolve.layout import KERNEL, WISH_SOURCE, engine_layers, find_keys, layer_names, named_releases
from bedplate.plan.resolve.problem import ABSENT, Constraint, Key, Premise, PremiseRank, StackProblem

SAFETENSORS, GGUF = "safetensors", "gguf"
"""The formats of models, as `model.format` has them."""


def make_problem(
    wish: StackWish,
    hardware: StackHardware,
    catalogue: StackCatalogue,
    *,
    present: Mapping[Key, StackRelease] | None = None,
    only: Mapping[Key, StackRelease] | None = None,
    models: Sequence[JudgedModel] = (),
) -> StackProblem:
    """The whole problem of a wish; `models` are those of its models that the catalogue has.

    `present` are releases of the present lock: they are the first choice where they are possible. With `only`, each key
    has exactly this candidate or none: what is judged is an installed state. Raises UsageError for a component, a source or
    a licence that the catalogue does not have.
    """
    return _ProblemBuilder(wish, hardware, catalogue, present or {}, only, models).build()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Subject:
    """A fixed subject that conditions ask: one accelerator, the host, one model."""

    id: str
    values: Mapping[str, tuple[str, ...]]
    premise: str


class _ProblemBuilder:
    def __init__(
        self,
        wish: StackWish,
        hardware: StackHardware,
        catalogue: StackCatalogue,
        present: Mapping[Key, StackRelease],
        only: Mapping[Key, StackRelease] | None,
        models: Sequence[JudgedModel],
    ) -> None:
        self.models = {model.name: model for model in models}
        self.wish, self.hardware, self.catalogue, self.present = wish, hardware, catalogue, present
        self.components = {component.id: component for component in catalogue.components}
        self.premises: dict[str, Premise] = {}
        self.constraints: list[Constraint] = []
        self.layers = layer_names(wish)
        if only is not None:
            self.layers = tuple(sorted({layer for _, layer in only if layer})) or self.layers
        releases = (*catalogue.releases, *named_releases(wish, catalogue))
        offered: dict[str, list[StackRelease]] = {}
        for release in releases if only is None else only.values():
            offered.setdefault(release.component, []).append(release)
        by_component = {component: tuple(those) for component, those in offered.items()}
        self.order = find_keys(wish, hardware, catalogue, by_component, self.layers)
        if only is not None:
            self.order = tuple(dict.fromkeys([*self.order, *only]))
        self.candidates: dict[Key, tuple[StackRelease | None, ...]] = {
            key: (None, *(by_component.get(key[0], ()) if only is None else [only[key]] if key in only else []))
            for key in self.order
        }
        self.fixed = self._fixed_subjects()

    def build(self) -> StackProblem:
        self._forbid(frozenset(), {(KERNEL, ""): ABSENT})
        for fact in self.catalogue.facts:
            if fact.kind is not FactKind.CAUTION:
                self._add_fact(fact)
        for key in self.order:
            self._add_needs(key)
        self._add_device_needs()
        self._add_modules()
        self._add_memory()
        self._add_wish()
        return StackProblem(
            candidates=self.candidates,
            preference={key: self._preference(key) for key in self.order},
            constraints=tuple(self.constraints),
            premises=self.premises,
            order=self.order,
        )

    # What a condition says of the candidates of a key, or of a fixed subject.

    def _mask(self, key: Key, condition: VersionCondition) -> int:
        mask = ABSENT if condition.absent else 0
        for number, release in enumerate(self.candidates[key]):
            if release is not None and condition.holds_for(release.values(condition.name)):
                mask |= 1 << number
        return mask

    def _fixed_subjects(self) -> dict[str, list[_Subject]]:
        subjects: dict[str, list[_Subject]] = {"accelerator": [], "host": [], "model": []}
        for device in self.hardware.accelerators:
            premise = self._premise(
                Premise(id=f"accelerator {device.id}", rank=PremiseRank.MACHINE, sentence=f"the machine has {device.title}")
            )
            values = {**device.properties, "": (device.id,)}
            subjects["accelerator"].append(_Subject(id=device.id, values=values, premise=premise))
        subjects["host"].append(_Subject(id="host", values=self.hardware.properties, premise=""))
        for model in self.wish.models:
            formats: tuple[str, ...] = (GGUF if model.lower().endswith(".gguf") else SAFETENSORS,)
            if model in self.models:
                formats = self.models[model].formats
            text = f"the model {model} has the format {' or '.join(formats)}"
            premise = self._premise(Premise(id=f"model {model}", rank=PremiseRank.WISH, sentence=text))
            subjects["model"].append(_Subject(id=model, values={"": (model,), "format": formats}, premise=premise))
        return subjects

    def _fixed_holds(self, condition: VersionCondition, subject: _Subject) -> bool:
        values = subject.values.get(condition.name, ())
        return (condition.absent and not values) or condition.holds_for(values)

    def _fixed_premise(self, condition: VersionCondition, subject: _Subject) -> str:
        if subject.premise:
            return subject.premise
        values = subject.values.get(condition.name, ())
        if not values:
            return ""
        text = f"{condition.name}: {', '.join(values)}" if values != ("yes",) else condition.name
        if condition.name == "gpu" and values == ("none",):
            text = "no accelerator"
        return self._premise(
            Premise(id=f"host {condition.name}", rank=PremiseRank.MACHINE, sentence=f"the machine has {text}")
        )

    def _premise(self, premise: Premise) -> str:
        self.premises.setdefault(premise.id, premise)
        return premise.id

    def _forbid(self, premises: frozenset[str], masks: Mapping[Key, int]) -> None:
        """Exclude the candidates of all masks together; () of masks means that nothing is possible."""
        if not all(masks.values()):
            return
        keys = sorted(masks, key=self.order.index)
        if len(keys) > 2:
            names = ", ".join(key[0] for key in keys)
            raise ValueError(f"{', '.join(sorted(premises))}: relates {names}; a row relates two components at most")
        if not keys:
            keys = [(KERNEL, "")]
            masks = {keys[0]: self._full(keys[0])}
        left, right = keys[0], keys[-1]
        self.constraints.append(
            Constraint(premises=premises, left=left, left_mask=masks[left], right=right, right_mask=masks[right])
        )

    def _full(self, key: Key) -> int:
        return (1 << len(self.candidates[key])) - 1

    # Facts

    def _add_fact(self, fact: StackFact) -> None:
        conditions = (*fact.when, *fact.needs)
        layered = any(
            condition.component not in FIXED_SUBJECTS and self.components[condition.component].scope != HOST
            for condition in conditions
        )
        order = min((self.components[c.component].order for c in fact.when if c.component not in FIXED_SUBJECTS), default=-1)
        rank = PremiseRank.RULE if fact.kind is FactKind.RULE else PremiseRank.CAUSE
        premise = Premise(id=fact.id, rank=rank, sentence=fact.because, evidence=fact.evidence, fact=fact.id, order=order)
        asked = [kind for kind in FIXED_SUBJECTS if any(condition.component == kind for condition in conditions)]
        for layer in self.layers if layered else ("",):
            for subjects in itertools.product(*(self.fixed[kind] for kind in asked)):
                self._add_instance(premise, fact, layer, dict(zip(asked, subjects, strict=True)))

    def _add_instance(self, premise: Premise, fact: StackFact, layer: str, subjects: Mapping[str, _Subject]) -> None:
        masks: dict[Key, int] = {}
        premises = {premise.id}
        for condition in fact.when:
            if condition.component in FIXED_SUBJECTS:
                subject = subjects[condition.component]
                if not self._fixed_holds(condition, subject):
                    return
                premises |= {self._fixed_premise(condition, subject)} - {""}
                continue
            key = self._key(condition.component, layer)
            if key not in self.candidates:
                if not condition.absent:
                    return
                continue
            masks[key] = masks.get(key, self._full(key)) & self._mask(key, condition)
        self._premise(premise)
        if not fact.needs:
            self._forbid(frozenset(premises), masks)
        for need in fact.needs:
            self._add_need(frozenset(premises), masks, need, layer, subjects)

    def _add_need(
        self,
        premises: frozenset[str],
        masks: Mapping[Key, int],
        need: VersionCondition,
        layer: str,
        subjects: Mapping[str, _Subject],
    ) -> None:
        if need.component in FIXED_SUBJECTS:
            subject = subjects[need.component]
            if not self._fixed_holds(need, subject):
                self._forbid(premises | ({self._fixed_premise(need, subject)} - {""}), masks)
            return
        key = self._key(need.component, layer)
        if key not in self.candidates:
            if not need.absent:
                self._forbid(premises, masks)
            return
        bad = self._full(key) & ~self._mask(key, need)
        self._forbid(premises, {**masks, key: masks.get(key, self._full(key)) & bad})

    def _key(self, component: str, layer: str) -> Key:
        return component, "" if self.components[component].scope == HOST else layer

    # Needs of releases and devices

    def _add_needs(self, key: Key) -> None:
        component, layer = key
        order = self.components[component].order
        for number, release in enumerate(self.candidates[key]):
            if release is None:
                continue
            for need in release.needs:
                premise = self._premise(
                    Premise(
                        id=f"{component} {release.version} {release.variant} needs {need}",
                        rank=PremiseRank.NEED,
                        sentence=f"{component} {release.version} needs {need}",
                        evidence=release.evidence,
                        need=(component, release.version, str(need)),
                        order=order,
                    )
                )
                layers = (layer,) if layer else self.layers
                self._add_own_need(frozenset({premise}), {key: 1 << number}, need, layers)

    def _add_device_needs(self) -> None:
        for device in self.hardware.accelerators:
            for need in device.needs:
                premise = self._premise(
                    Premise(
                        id=f"{device.id} needs {need}",
                        rank=PremiseRank.RULE,
                        sentence=f"{device.title} needs {need}",
                        evidence=device.evidence,
                        fact=device.id,
                    )
                )
                layered = need.component not in FIXED_SUBJECTS and self.components[need.component].scope != HOST
                layers = self.layers if layered else ("",)
                self._add_own_need(frozenset({premise, f"accelerator {device.id}"}), {}, need, layers)

    def _add_own_need(
        self, premises: frozenset[str], masks: Mapping[Key, int], need: VersionCondition, layers: Iterable[str]
    ) -> None:
        """What one release or device needs, in each layer; of the machine or the models it is asked of each of them."""
        kind = need.component
        subjects = [{kind: subject} for subject in self.fixed[kind]] if kind in FIXED_SUBJECTS else [{}]
        for layer in layers:
            for asked in subjects:
                self._add_need(premises, masks, need, layer, asked)

    # Kernel modules

    def _add_modules(self) -> None:
        kernel = (KERNEL, "")
        for component in dict.fromkeys(build.module[0].component for build in self.catalogue.modules):
            key = (component, "")
            if key not in self.candidates:
                continue
            builds = [build for build in self.catalogue.modules if build.module[0].component == component]
            for number, release in enumerate(self.candidates[key]):
                if release is not None:
                    self._hold_kernel(key, number, release, builds)
            for build in builds:
                if not build.builds:
                    premise = self._premise(
                        Premise(
                            id=build.id,
                            rank=PremiseRank.CAUSE,
                            sentence=build.because,
                            evidence=build.evidence,
                            fact=build.id,
                            order=self.components[component].order,
                        )
                    )
                    mask = self._full(key)
                    for condition in build.module:
                        mask &= self._mask(key, condition)
                    self._forbid(frozenset({premise}), {key: mask & ~ABSENT, kernel: self._mask(kernel, build.kernel)})

    def _hold_kernel(self, key: Key, number: int, release: StackRelease, builds: Sequence[ModuleBuild]) -> None:
        """A kernel without a module that was seen to build is never taken."""
        right = [build for build in builds if build.builds and _matches(build.module, release)]
        mask = 0
        for build in right:
            mask |= self._mask((KERNEL, ""), build.kernel)
        ranges = " | ".join(dict.fromkeys(build.kernel.bounds for build in right))
        name = f"{release.component} {release.version} ({release.variant or release.source})"
        premise = self._premise(
            Premise(
                id=f"unknown build {release.component} {release.version} {release.variant}",
                rank=PremiseRank.UNKNOWN_BUILD,
                sentence=f"{name} was seen to build for {ranges}" if ranges else f"{name} for no kernel",
                evidence=tuple(dict.fromkeys(text for build in right for text in build.evidence)),
                order=self.components[release.component].order,
            )
        )
        self._forbid(frozenset({premise}), {key: 1 << number, (KERNEL, ""): self._full((KERNEL, "")) & ~mask & ~ABSENT})

    # The memory that models need

    def _add_memory(self) -> None:
        """Exclude each engine that cannot hold a model of the wish in the machine's accelerators."""
        machine = {f"accelerator {device.id}" for device in self.hardware.accelerators}
        for model in self.models.values():
            for conflict in model.conflicts:
                order = self.components[conflict.component].order if conflict.component in self.components else -1
                links = {"needs": conflict.need, "has no room": conflict.memory}
                premises = {f"model {model.name}", *machine} | {
                    self._premise(
                        Premise(
                            id=f"{model.name} {what} in {conflict.component}",
                            rank=PremiseRank.CAUSE,
                            sentence=link.sentence,
                            evidence=link.evidence,
                            order=order,
                            any_release=True,
                        )
                    )
                    for what, link in links.items()
                }
                for key in self.order:
                    if key[0] == conflict.component:
                        self._forbid(frozenset(premises), {key: self._full(key) & ~ABSENT})

    # The wish

    def _add_wish(self) -> None:
        for condition, layer in engine_layers(self.wish, self.layers):
            self._bound((condition.component, layer), condition, "want the engine", presence=PremiseRank.MACHINE)
        for condition in self.wish.require:
            presence = PremiseRank.MACHINE if condition.bounds else PremiseRank.WISH
            for key in [key for key in self.order if key[0] == condition.component]:
                self._bound(key, condition, "require", presence=presence)
        self._add_sources()
        if self.wish.licences:
            text = ", ".join(self.wish.licences)
            premise = Premise(
                id="wish licences", rank=PremiseRank.SOURCES, sentence=f"the licences that you allow are {text}"
            )
            self._filter(premise, lambda release: release.licence in self.wish.licences)

    def _bound(self, key: Key, condition: VersionCondition, verb: str, *, presence: PremiseRank) -> None:
        """Two premises: that the component is there, and its bounds; so the nearest wish may keep the component."""
        if not condition.absent:
            premise = Premise(id=f"wish {key[0]}", rank=presence, sentence=f"you {verb} {key[0]}", relaxes=key)
            self._premise(premise)
            self._forbid(frozenset({premise.id}), {key: ABSENT})
        if condition.bounds:
            premise = Premise(id=f"wish {condition}", rank=PremiseRank.WISH, sentence=f"you {verb} {condition}", relaxes=key)
            self._premise(premise)
            bad = self._full(key) & ~self._mask(key, condition) & ~(0 if condition.bounds == "absent" else ABSENT)
            self._forbid(frozenset({premise.id}), {key: bad & self._full(key)})

    def _add_sources(self) -> None:
        allowed = allowed_sources(self.wish, self.catalogue)
        default = sorted({source.group or source.id for source in self.catalogue.sources if source.default})
        shown = ", ".join(self.wish.sources) or f"the default ones ({', '.join(default)})"
        premise = Premise(id="wish sources", rank=PremiseRank.SOURCES, sentence=f"the sources that you allow are {shown}")
        self._filter(premise, lambda release: release.source in allowed or release.source == WISH_SOURCE)

    def _filter(self, premise: Premise, keep: Callable[[StackRelease], bool]) -> None:
        self._premise(premise)
        for key, candidates in self.candidates.items():
            mask = 0
            for number, release in enumerate(candidates):
                if release is not None and not keep(release):
                    mask |= 1 << number
            self._forbid(frozenset({premise.id}), {key: mask})

    def _preference(self, key: Key) -> tuple[int, ...]:
        """Absent first, so that nothing comes in that nothing needs; then the present one, then by version and source."""
        allowed = allowed_sources(self.wish, self.catalogue)
        places = {source: place for place, source in enumerate(source.id for source in self.catalogue.sources)}
        numbers = [number for number, release in enumerate(self.candidates[key]) if release is not None]
        if not self.components[key[0]].listed:
            numbers.sort(key=lambda number: (places.get(self._release(key, number).source, -1), number))
            numbers.sort(key=lambda number: version_key(self._release(key, number).version), reverse=True)
        numbers.sort(key=lambda number: self._release(key, number).source not in (*allowed, WISH_SOURCE))
        present = self.present.get(key)
        if present is not None:
            numbers.sort(key=lambda number: not same_release(self._release(key, number), present))
        return (0, *numbers)

    def _release(self, key: Key, number: int) -> StackRelease:
        release = self.candidates[key][number]
        assert release is not None
        return release


def allowed_sources(wish: StackWish, catalogue: StackCatalogue) -> frozenset[str]:
    """Ids of the sources that a wish allows: those that it names, and those of a group that it names."""
    return frozenset(
        source.id
        for source in catalogue.sources
        if source.always
        or (source.default and not wish.sources)
        or source.id in wish.sources
        or (source.group in wish.sources and not source.named)
    )


def same_release(left: StackRelease, right: StackRelease) -> bool:
    """Whether two are the same artefact, whatever the rows say of it by now."""
    return (left.component, left.version, left.source, left.variant) == (
        right.component,
        right.version,
        right.source,
        right.variant,
    )


def _matches(conditions: Iterable[VersionCondition], release: StackRelease) -> bool:
    return all(condition.holds_for(release.values(condition.name)) for condition in conditions)
