"""The checks of `xrt doctor`: each says what this machine has and, where something is wrong, the remedy."""

from __future__ import annotations

import importlib.util
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions, version
from pathlib import Path
from typing import Literal

from xrt.runtime.errors import XrtError

ONNX_RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml")


@dataclass(frozen=True)
class Check:
    """One line of the report: `ok`, `missing` (something optional is not there) or `broken`."""

    name: str
    state: Literal["ok", "missing", "broken"]
    finding: str


def examine(bundle: Path | None = None, trust: Path | None = None) -> list[Check]:
    """All checks of this machine, and of `bundle`, if one is given, with the public key that signed it."""
    checks = [_python(), *_parts(), _wheel_clash(), _namespace(), *_backends(), *_decoders()]
    if bundle is not None:
        checks += _bundle(bundle, trust)
    return checks


def _python() -> Check:
    from xrt.runtime.device import cpu_class

    return Check("machine", "ok", f"Python {platform.python_version()}, {platform.system()}, {cpu_class()}")


def _parts() -> Iterator[Check]:
    for name in ("xrt-runtime", "xrt-train", "xrt-export", "xrt-benchmarks"):
        number = installed(name)
        yield Check(name, "ok", number) if number else Check(name, "missing", f"not installed: pip install {name}")


def _wheel_clash() -> Check:
    wheels = [name for name in ONNX_RUNTIMES if installed(name)]
    if len(wheels) > 1:
        return Check(
            "onnxruntime wheels",
            "broken",
            f"{' and '.join(wheels)} overwrite each other's files: uninstall all of them, then install one",
        )
    return Check("onnxruntime wheels", "ok", wheels[0] if wheels else "none installed")


def _namespace() -> Check:
    """XRayTracer is a package that is also called `xrt` and hides the namespace."""
    owners = set(packages_distributions().get("xrt", []))
    foreign = {name for name in owners if not name.startswith("xrt-")}
    spec = importlib.util.find_spec("xrt")
    if foreign or (spec is not None and spec.origin):
        culprit = ", ".join(sorted(foreign)) or spec.origin  # type: ignore[union-attr]
        return Check("namespace xrt", "broken", f"hidden by another package ({culprit}): uninstall that one")
    return Check("namespace xrt", "ok", "shared by the installed parts")


def _backends() -> Iterator[Check]:
    from xrt.runtime.backends import BACKENDS

    for backend in BACKENDS.values():
        reason = backend.unavailable_reason()
        if reason is None:
            yield Check(f"back end {backend.name}", "ok", f"{backend.version()} on {backend.device_class()}")
        else:
            yield Check(f"back end {backend.name}", "missing", reason)


def _decoders() -> Iterator[Check]:
    from xrt.runtime.imaging.decoders import DECODERS

    for decoder in DECODERS:
        missing = decoder.missing()
        for package, reads in decoder.packages.items():
            if package in missing:
                yield Check(package, "missing", f"{reads} cannot be read: {decoder.remedy}")
            else:
                yield Check(package, "ok", installed(package) or "installed")


def _bundle(path: Path, trust: Path | None) -> Iterator[Check]:
    from xrt.runtime.backends import available_backends
    from xrt.runtime.bundle.reader import Bundle
    from xrt.runtime.session import open_session

    try:
        bundle = Bundle.open(path, trust=trust)
    except XrtError as error:
        yield Check(path.name, "broken", str(error))
        return
    manifest = bundle.manifest
    yield Check(path.name, "ok", f"{manifest.task}, {len(manifest.classes)} classes")
    state = "missing" if bundle.signature == "unsigned" else "ok"
    yield Check("signature", state, f"{bundle.signature}; digest {bundle.sha256[:16]}")
    finding = manifest.assumption or "stated, or of an earlier bundle"
    yield Check("preprocessing", "missing" if manifest.assumption else "ok", finding)
    if manifest.input_statistics is None:
        yield Check("input statistics", "missing", "not stated: images unlike those of training are not noted")
    if manifest.intended_use.population is None:
        yield Check("population", "missing", "it is not stated for whom the model was made (xrt export --population)")
    for backend in available_backends():
        for variant in bundle.manifest.variants:
            name = f"{variant.file} on {backend.name}"
            if variant.target not in (backend.family, "any"):
                continue
            try:
                opened = open_session(bundle, backend=backend.name, precision=variant.precision, whole_replay=True)
            except XrtError as error:
                yield Check(name, "broken", str(error))
                continue
            opened.close()
            origin = "this machine's" if opened.from_this_machine else "the bundle's"
            yield Check(name, "ok", f"reproduces its known answers; {origin} certificate: {opened.certificate.verdict}")
            if unmeasured := opened.certificate.unmeasured:
                yield Check(name, "missing", f"not measured: {'; '.join(unmeasured)}")


def installed(name: str) -> str | None:
    """The version of an installed distribution; None when it is not installed."""
    try:
        distribution(name)
        return version(name)
    except PackageNotFoundError:
        return None
