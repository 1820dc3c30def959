"""Engines for a bundle's variants: chosen, built, kept, and run on the known answers where the GPU is there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from xrt.runtime._selection import choose
from xrt.runtime.backends import Execution, SessionOptions
from xrt.runtime.backends.tensorrt import TensorRtBackend
from xrt.runtime.bundle.manifest import Variant
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.certification.known_answers import verify_known_answers
from xrt.runtime.errors import BackendError, UsageError, XrtError
from xrt.runtime.progress import SILENT, Progress
from xrt.runtime.tensorrt.builder import Batches, build_engine, check_target
from xrt.runtime.tensorrt.cuda import cuda_unavailable_reason, open_cuda
from xrt.runtime.tensorrt.distributions import DISTRIBUTIONS, Distribution, open_library
from xrt.runtime.tensorrt.engine_cache import EngineCache, build_and_store, key_of
from xrt.runtime.tensorrt.network_report import NetworkReport

NOT_RUN = "built, not yet run"
INSTALLED = "installed, not yet run"
RUN = "reproduces its known answers"


@dataclass(frozen=True)
class BuildPlan:
    """With which distribution to build, for which GPUs, from which variants; `left_out` says why not from others."""

    distribution: Distribution
    targets: tuple[str, ...]
    variants: tuple[Variant, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class EngineBuild:
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
    network_report: NetworkReport | None = None

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def plan_builds(bundle: Bundle, backend: str, targets: tuple[str, ...], precisions: tuple[str, ...]) -> BuildPlan:
    """Decide what to build. No targets mean this machine's GPU, no precisions every variant that a GPU may run.

    Raises what `choose_targets` raises, and UsageError for an unknown precision and a variant that was made for a CPU.
    """
    distribution, targets = choose_targets(backend, targets)
    chosen, left_out = _variants(bundle, precisions)
    return BuildPlan(distribution, targets, chosen, left_out)


def choose_targets(backend: str, targets: tuple[str, ...]) -> tuple[Distribution, tuple[str, ...]]:
    """With which distribution to build, and for which GPUs; no targets mean the one that is here.

    Raises UsageError for an unknown back end or target, BackendError when the distribution, or the GPU, is not here.
    """
    candidates = DISTRIBUTIONS
    if backend == "auto" and targets:
        candidates = tuple(d for d in DISTRIBUTIONS if d.ahead_of_time)
    distribution = choose(backend, candidates, "build engines")
    library = open_library(distribution)
    if targets and not distribution.ahead_of_time:
        raise UsageError(f"{distribution.title} builds only for its own GPU: leave out --for, or use tensorrt-rtx")
    if not targets:
        if (reason := cuda_unavailable_reason()) is not None:
            ahead = "; --for sm86 builds for a named GPU without one" if distribution.ahead_of_time else ""
            raise BackendError(f"there is no GPU to build for: {reason}{ahead}")
        targets = (open_cuda().compute_capability(),)
    for target in targets:
        check_target(library, target)
    return distribution, targets


def _variants(bundle: Bundle, precisions: tuple[str, ...]) -> tuple[tuple[Variant, ...], tuple[str, ...]]:
    variants = bundle.manifest.variants
    chosen = [v for v in variants if v.target != "cpu" and (not precisions or v.precision in precisions)]
    for precision in precisions:
        if any(v.precision == precision for v in chosen):
            continue
        for_cpu = next((v for v in variants if v.precision == precision), None)
        if for_cpu is not None:
            raise UsageError(f"{_for_cpu(for_cpu)}: export the {precision} variant for the GPU")
        names = ", ".join(sorted({v.precision for v in variants}))
        raise UsageError(f"{bundle.path} has no {precision} variant, only {names}: export it with --precision")
    if not chosen:
        raise UsageError(f"{bundle.path} has no variant for a GPU, only {', '.join(v.file for v in variants)}")
    left_out = () if precisions else tuple(_for_cpu(v) for v in variants if v.target == "cpu")
    return tuple(chosen), left_out


def _for_cpu(variant: Variant) -> str:
    return f"{variant.file} was quantised for a CPU (unsigned activations), which TensorRT would compute wrongly"


def build_engines(
    bundle: Bundle, plan: BuildPlan, batches: Batches, *, folder: Path | None = None, progress: Progress = SILENT
) -> Iterator[EngineBuild]:
    """Build every variant of the plan for every GPU, one after the other, and say what became of each.

    Engines go to this machine's cache, or to `folder`. One that was built for the GPU that is here is run on the known
    answers and must reproduce them; of the others the verdict is "built, not yet run". What one variant is refused for
    does not stop the others.
    """
    here = open_cuda().compute_capability() if cuda_unavailable_reason() is None else None
    for variant in plan.variants:
        for target in plan.targets:
            progress.step(f"{variant.file}: building for {target} with {plan.distribution.title}")
            blank = EngineBuild(variant.file, variant.precision, plan.distribution.name, target, verdict="", ok=False)
            try:
                result = _build(bundle, variant, blank, plan.distribution, batches, EngineCache(folder))
                if target == here:
                    _verify(bundle, variant, TensorRtBackend(plan.distribution, folder))
                    result = replace(result, verdict=RUN)
            except XrtError as error:
                result = replace(blank, verdict=str(error))
            yield result


def _build(
    bundle: Bundle,
    variant: Variant,
    blank: EngineBuild,
    distribution: Distribution,
    batches: Batches,
    cache: EngineCache,
) -> EngineBuild:
    """`blank` with the engine that was built and stored."""
    model, target = bundle.read(variant), blank.compute_capability
    key = key_of(distribution.name, open_library(distribution).version, target, variant.precision, model)
    build = partial(
        build_engine,
        distribution,
        model,
        bundle.manifest.interface,
        compute_capability=target,
        precision=variant.precision,
        batches=batches,
    )
    with cache.lock(key):
        built = build_and_store(cache, key, lambda timings: build(timing_cache=timings))
    return replace(
        blank,
        verdict=NOT_RUN,
        ok=True,
        path=cache.plan_path(key),
        plan_bytes=len(built.plan),
        seconds=round(built.seconds, 3),
        network_report=built.network_report,
    )


def install_engines(
    bundle: Bundle, plan: BuildPlan, source: Path, *, progress: Progress = SILENT
) -> Iterator[EngineBuild]:
    """Take the engines of the plan that were built ahead of time in the folder `source` into this machine's cache.

    One for the GPU that is here is run on the known answers and must reproduce them. What one is refused for does not
    stop the others.
    """
    here = open_cuda().compute_capability() if cuda_unavailable_reason() is None else None
    cache, version = EngineCache(), open_library(plan.distribution).version
    for variant in plan.variants:
        for target in plan.targets:
            progress.step(f"{variant.file}: installing the engine for {target}")
            result = EngineBuild(variant.file, variant.precision, plan.distribution.name, target, verdict="", ok=False)
            try:
                key = key_of(plan.distribution.name, version, target, variant.precision, bundle.read(variant))
                path = cache.install(key, source)
                if path is None:
                    raise BackendError(f"{source} holds no engine of this file for {target} by {version}")
                if target == here:
                    _verify(bundle, variant, TensorRtBackend(plan.distribution))
                verdict = RUN if target == here else INSTALLED
                result = replace(result, verdict=verdict, ok=True, path=path, plan_bytes=path.stat().st_size)
            except XrtError as error:
                result = replace(result, verdict=str(error))
            yield result


def _verify(bundle: Bundle, variant: Variant, backend: TensorRtBackend) -> None:
    """Run an engine on the bundle's known answers. Raises KnownAnswersFailed."""
    with backend.open(bundle.read(variant), bundle.manifest.interface, SessionOptions()) as session:
        known = bundle.known_answers()
        verify_known_answers(session.infer_all(known.images), Execution(variant, backend), known, bundle.manifest)
