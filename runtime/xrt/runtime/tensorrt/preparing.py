"""Engines for a bundle's variants: chosen, built, kept, and run on the known answers where the GPU is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from xrt.runtime.backends import SessionOptions
from xrt.runtime.backends.tensorrt import TensorRtBackend
from xrt.runtime.bundle.manifest import Variant
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.errors import BackendError, UsageError, XrtError
from xrt.runtime.gate.certify import replay
from xrt.runtime.tensorrt.building import Batches, build_engine, check_target
from xrt.runtime.tensorrt.engines import EngineCache, build_and_store, key_of
from xrt.runtime.tensorrt.flavours import FLAVOURS, Flavour, open_library
from xrt.runtime.tensorrt.inspection import Inspection
from xrt.runtime.tensorrt.memory import cuda_lack, open_cuda

NOT_RUN = "built, not yet run"
RUN = "reproduces its known answers"


@dataclass(frozen=True)
class Plan:
    """What is to be built: with which flavour, for which GPUs, from which variants; `passed_over`: why not others."""

    flavour: Flavour
    targets: tuple[str, ...]
    variants: tuple[Variant, ...]
    passed_over: tuple[str, ...]


@dataclass(frozen=True)
class Prepared:
    """What became of one variant for one GPU: an engine with a verdict, or the reason why there is none."""

    file: str
    precision: str
    backend: str
    compute_capability: str
    verdict: str
    ok: bool
    path: Path | None = None
    plan_bytes: int = 0
    seconds: float = 0.0
    inspection: Inspection | None = None

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def plan_builds(bundle: Bundle, backend: str, targets: tuple[str, ...], precisions: tuple[str, ...]) -> Plan:
    """Settle what to build. No targets mean this machine's GPU, no precisions every variant that a GPU may run.

    Raises what `choose_targets` raises, and UsageError for an unknown precision and a variant that was made for a CPU.
    """
    flavour, targets = choose_targets(backend, targets)
    chosen, passed_over = _variants(bundle, precisions)
    return Plan(flavour, targets, chosen, passed_over)


def choose_targets(backend: str, targets: tuple[str, ...]) -> tuple[Flavour, tuple[str, ...]]:
    """With which flavour to build, and for which GPUs; no targets mean the one that is here.

    Raises UsageError for an unknown back end or target, BackendError when the flavour, or the GPU, is not here.
    """
    flavour = _choose(backend, bool(targets))
    library = open_library(flavour)
    if targets and not flavour.ahead_of_time:
        raise UsageError(f"{flavour.title} builds for the GPU it is on alone: leave out --for, or use tensorrt-rtx")
    if not targets:
        if (lack := cuda_lack()) is not None:
            ahead = "; --for sm86 builds for a named GPU without one" if flavour.ahead_of_time else ""
            raise BackendError(f"there is no GPU to build for: {lack}{ahead}")
        targets = (open_cuda().compute_capability(),)
    for target in targets:
        check_target(library, target)
    return flavour, targets


def _choose(backend: str, ahead_of_time: bool) -> Flavour:
    by_name = {flavour.name: flavour for flavour in FLAVOURS}
    if backend != "auto":
        if backend not in by_name:
            raise UsageError(f"engines are built for {' or '.join(by_name)}, not for {backend!r}")
        if (lack := by_name[backend].lacks()) is not None:
            raise BackendError(f"back end {backend} cannot build here: {lack}")
        return by_name[backend]
    candidates = [flavour for flavour in FLAVOURS if flavour.ahead_of_time or not ahead_of_time]
    lacks = {flavour.name: flavour.lacks() for flavour in candidates}
    for flavour in candidates:
        if lacks[flavour.name] is None:
            return flavour
    raise BackendError("no engine can be built here: " + "; ".join(f"{name}: {why}" for name, why in lacks.items()))


def _variants(bundle: Bundle, precisions: tuple[str, ...]) -> tuple[tuple[Variant, ...], tuple[str, ...]]:
    have = bundle.manifest.variants
    chosen = [v for v in have if v.target != "cpu" and (not precisions or v.precision in precisions)]
    for precision in precisions:
        if any(v.precision == precision for v in chosen):
            continue
        for_cpu = next((v for v in have if v.precision == precision), None)
        if for_cpu is not None:
            raise UsageError(f"{_for_cpu(for_cpu)}: export the {precision} variant for the GPU")
        names = ", ".join(sorted({v.precision for v in have}))
        raise UsageError(f"{bundle.path} has no {precision} variant, only {names}: export it with --precision")
    if not chosen:
        raise UsageError(f"{bundle.path} has no variant for a GPU, only {', '.join(v.file for v in have)}")
    passed_over = () if precisions else tuple(_for_cpu(v) for v in have if v.target == "cpu")
    return tuple(chosen), passed_over


def _for_cpu(variant: Variant) -> str:
    return f"{variant.file} was quantised for a CPU (unsigned activations), which TensorRT would compute wrongly"


def prepare(
    bundle: Bundle,
    plan: Plan,
    batches: Batches,
    *,
    folder: Path | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> Iterator[Prepared]:
    """Build every variant of the plan for every GPU, one after the other, and say what became of each.

    Engines go to this machine's cache, or to `folder`. One that was built for the GPU that is here is run on the known
    answers and must reproduce them; of the others the verdict is "built, not yet run". What one variant is refused for
    does not stop the others.
    """
    here = open_cuda().compute_capability() if cuda_lack() is None else None
    for variant in plan.variants:
        for target in plan.targets:
            progress(f"{variant.file}: building for {target} with {plan.flavour.title}")
            found = partial(Prepared, variant.file, variant.precision, plan.flavour.name, target)
            try:
                yield _prepare_one(bundle, plan.flavour, variant, target, batches, folder, target == here, found)
            except XrtError as error:
                yield found(str(error), False)


def _prepare_one(
    bundle: Bundle,
    flavour: Flavour,
    variant: Variant,
    target: str,
    batches: Batches,
    folder: Path | None,
    runs_here: bool,
    found: Callable[..., Prepared],
) -> Prepared:
    manifest, model = bundle.manifest, bundle.read(variant)
    cache = EngineCache(folder)
    key = key_of(flavour.name, open_library(flavour).version, target, variant.precision, model)
    build = partial(
        build_engine,
        flavour,
        model,
        manifest.graph,
        manifest.preprocessing,
        compute_capability=target,
        precision=variant.precision,
        batches=batches,
    )
    with cache.lock(key):
        built = build_and_store(cache, key, lambda timings: build(timing_cache=timings))
    verdict = NOT_RUN
    if runs_here:
        backend = TensorRtBackend(flavour, folder)
        with backend.open(model, manifest.graph, manifest.preprocessing, SessionOptions()) as session:
            replay(session, bundle.known_answers(), manifest, variant, backend)
        verdict = RUN
    return found(verdict, True, cache.plan_path(key), len(built.plan), round(built.seconds, 3), built.inspection)
