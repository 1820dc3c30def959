"""The gate sees what it must see. Each sabotage is one that passes every check but the gate's own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from math import comb

import numpy as np
import pytest

from xrt.runtime.backends import Execution, Session, SessionOptions
from xrt.runtime.backends.onnxruntime import OnnxRuntimeCpu
from xrt.runtime.bundle import KnownAnswers
from xrt.runtime.bundle.manifest import Manifest
from xrt.runtime.certification.known_answers import certify_known_answers
from xrt.runtime.gate import LIMITS, judge, measure
from xrt.runtime.gate.figures import upper_bound
from xrt.runtime.outputs import ModelOutputs


@pytest.fixture
def truth(bundle):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(120, 3)).astype(np.float32)
    cams = np.maximum(rng.normal(size=(120, 3, 8, 8)), 0).astype(np.float32)
    cams[::5, 1] = 0  # a fifth of a DenseNet's maps are all zero
    return ModelOutputs(logits, {"cams": cams})


def verdict(truth, candidate, bundle, precision="fp32"):
    return judge(measure(truth, candidate, bundle.manifest), LIMITS[precision])


def altered(truth, *, logits=None, cams=None):
    return ModelOutputs(
        truth.logits if logits is None else logits, {"cams": truth.cams["cams"] if cams is None else cams}
    )


def test_the_same_answers_pass(truth, bundle):
    assert verdict(truth, truth, bundle) == ("passed", ())


def test_rounding_passes(truth, bundle):
    rng = np.random.default_rng(1)
    noise = (1 + 1e-6 * rng.normal(size=truth.cams["cams"].shape)).astype(np.float32)
    assert verdict(truth, altered(truth, cams=truth.cams["cams"] * noise), bundle)[0] == "passed"


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize(
    ("sabotage", "reason"),
    [
        (lambda t: altered(t, cams=t.cams["cams"] * np.float32(0.5)), "map_difference"),
        (lambda t: altered(t, logits=t.logits[:, [1, 0, 2]]), "probability_change_max"),
        (lambda t: altered(t, cams=t.cams["cams"][:, [1, 0, 2]]), "map_correlation"),
        (lambda t: altered(t, cams=t.cams["cams"][:, :, ::-1]), "map_correlation"),
        (lambda t: altered(t, cams=np.broadcast_to(t.cams["cams"][:1], t.cams["cams"].shape)), "do not change"),
        (lambda t: altered(t, cams=np.zeros_like(t.cams["cams"])), "do not change"),
        (lambda t: altered(t, cams=np.where(np.arange(8) == 3, np.nan, t.cams["cams"]).astype(np.float32)), "NaN"),
        (lambda t: altered(t, logits=np.where(t.logits > 2, np.inf, t.logits).astype(np.float32)), "infinity"),
    ],
)
def test_sabotage_is_caught(truth, bundle, precision, sabotage, reason):
    result, reasons = verdict(truth, sabotage(truth), bundle, precision)
    assert result == "failed"
    assert any(reason in r for r in reasons), reasons


def test_a_flipped_decision_is_caught_in_fp32(truth, bundle):
    logits = truth.logits.copy()
    near = np.abs(logits[:, 0]).argmin()
    logits[near, 0] *= -1
    figures = measure(truth, altered(truth, logits=logits), bundle.manifest)
    assert figures.flips == pytest.approx(1 / 360)
    assert "flips is 0.00278, the limit is 0" in judge(figures, LIMITS["fp32"])[1]


def test_an_empty_map_agrees_with_an_empty_map_and_with_nothing_else(truth, bundle):
    """Below 1e-6 of the image's scale both are empty; a map where the reference has none is a mismatch."""
    cams = truth.cams["cams"].copy()
    cams[::5, 1] = 1e-8
    assert verdict(truth, altered(truth, cams=cams), bundle)[0] == "passed"
    # Every finding's map is looked at, so let the class with the empty maps be found everywhere.
    logits = truth.logits.copy()
    logits[:, 1] = 3
    outputs = altered(truth, logits=logits)
    cams[::5, 1] = 1e-3 * truth.cams["cams"][::5, 2]
    assert measure(outputs, altered(outputs, cams=cams), bundle.manifest).map_correlation == 0


def test_too_few_decisions_are_no_evidence(truth, bundle):
    few = ModelOutputs(truth.logits[:99], {"cams": truth.cams["cams"][:99]})
    result, reasons = verdict(few, few, bundle)
    assert result == "insufficient"
    assert reasons == (
        "297 decisions on different images that could be another are insufficient evidence, 300 are needed",
    )


@pytest.mark.parametrize(("events", "trials"), [(0, 300), (1, 50), (7, 300), (3, 3)])
def test_the_upper_bound_is_clopper_and_pearsons(events, trials):
    p = upper_bound(events, trials)
    if events == trials:
        assert p == 1
    else:
        at_most = sum(comb(trials, k) * p**k * (1 - p) ** (trials - k) for k in range(events + 1))
        assert at_most == pytest.approx(0.05, abs=1e-6)


class FixedOutputs(Session):
    """Gives the known answers in their order, with other logits."""

    def __init__(self, manifest: Manifest, known: KnownAnswers, logits: np.ndarray) -> None:
        super().__init__(b"", manifest.interface, SessionOptions())
        self._known, self._logits, self._at = known, logits, 0

    def _open(self, model: bytes, outputs: Sequence[str]) -> str:
        return "nothing is open"

    def _run(self, opened: str, images: np.ndarray, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        rows = slice(self._at, self._at + len(images))
        self._at = rows.stop
        maps = {name: cam[rows] for name, cam in self._known.cams.items()}
        return {self.interface.graph.logits: self._logits[rows], **maps}


@pytest.mark.parametrize(
    ("precision", "flipped", "verdict"), [("int8", 1, "passed"), ("int8", 2, "failed"), ("fp32", 1, "failed")]
)
def test_one_flip_in_few_decisions_is_within_a_limit_that_allows_flips(bundle, precision, flipped, verdict):
    """24 images of 3 classes: 1 of 72 decisions is over int8's 1 %, but there is no smaller share."""
    known, manifest = bundle.known_answers(), bundle.manifest
    cut = np.array([0.0, np.log(0.4 / 0.6), 0.0], dtype=np.float32)
    # Every logit lies far from its threshold, but those that will flip, which lie just under it.
    expected = np.where(known.logits > cut, cut + 2, cut - 2).astype(np.float32)
    expected[:flipped, 0] = cut[0] - 1e-3
    logits = expected.copy()
    logits[:flipped, 0] = cut[0] + 1e-3
    known = KnownAnswers(known.images, expected, known.cams)
    variant = bundle.manifest.variants[0].model_copy(update={"precision": precision})
    session = FixedOutputs(manifest, known, logits)
    certificate = certify_known_answers(
        session.infer_all(known.images), Execution(variant, OnnxRuntimeCpu()), known, manifest
    )
    assert certificate.verdict == verdict


def test_the_gate_needs_numpy_alone():
    """jaxtyping spells out shapes; what it brings itself is not counted."""
    code = (
        "import jaxtyping, sys; before = set(sys.modules); import xrt.runtime.gate;"
        "print(*({m.partition('.')[0] for m in set(sys.modules) - before} - set(sys.stdlib_module_names)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(result.stdout.split()) - {"numpy", "xrt"} == set()
