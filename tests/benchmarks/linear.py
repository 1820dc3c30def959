"""A bundle without a network: logits that are linear in the mean grey of sixteen cells, so that all is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from xrt.runtime.backends import Backend, Execution, Session, SessionOptions
from xrt.runtime.bundle.certificate import Certificate, Evidence
from xrt.runtime.bundle.manifest import (
    CamSpec,
    ClassSpec,
    GraphSpec,
    KnownAnswersSpec,
    Manifest,
    Preprocessing,
    Provenance,
    Variant,
)
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.datasets import CaseTable
from xrt.runtime.datasets.case import Case, LabelledBox
from xrt.runtime.datasets.images import ArrayImages
from xrt.runtime.geometry import Box
from xrt.runtime.session import OpenedSession

SIDE, CELLS = 32, 4
# Left sees the brightness of the left half, Right that of the right half; Never is never predicted.
WEIGHTS = np.zeros((3, CELLS, CELLS), np.float32)
WEIGHTS[0, :, :2] = WEIGHTS[1, :, 2:] = 8
BIAS = np.array([-20, -20, -50], np.float32)
NAMES = ("Left", "Right", "Never")


class LinearSession(Session[object]):
    """logit = sum over cells of weight × mean grey / 255, plus bias; the map is what each cell adds, if positive."""

    runs = 0

    def _open(self, model, outputs):
        return self

    def _opened(self, cams):
        return self  # there is no file that could be cut down to the logits

    def _run(self, opened, images, outputs):
        graph = self.interface.graph
        self.runs += len(images)
        side = SIDE // CELLS
        grey = images.reshape(len(images), CELLS, side, CELLS, side).mean(axis=(2, 4)) / 255
        parts = (WEIGHTS * grey[:, None]).astype(np.float32)
        logits = parts.sum(axis=(2, 3)) + BIAS
        maps = np.maximum(parts, 0)
        results = {graph.logits: logits}
        if graph.top_k:
            top = np.argsort(-logits, axis=1)[:, : graph.top_k]
            maps = np.take_along_axis(maps, top[:, :, None, None], 1)
            results[graph.cam_classes] = top.astype(np.int64)
        return results | {spec.output: maps.copy() for spec in graph.cams}


class LinearBackend(Backend):
    """Opens linear sessions."""

    name = "linear"

    def unavailable_reason(self):
        return None

    def version(self):
        return "1"

    def device_class(self):
        return "test"

    def open(self, model, interface, options):
        return LinearSession(model, interface, options)


def make_bundle(*, top_k: int | None = None, outputs: tuple[str, ...] = ("cams",), path: str = "linear.xrt") -> Bundle:
    explained = None if top_k else (0, 1, 2)
    graph = GraphSpec(
        cams=tuple(
            CamSpec(output=name, layer=name, tensor="t", channels=1, height=CELLS, width=CELLS) for name in outputs
        ),
        explained=explained,
        top_k=top_k,
        cam_classes="cam_classes" if top_k else None,
    )
    manifest = Manifest(
        name="linear",
        task="multilabel",
        classes=tuple(ClassSpec(name=name) for name in NAMES),
        preprocessing=Preprocessing(height=SIDE, width=SIDE),
        graph=graph,
        variants=(Variant(file="m.onnx", sha256="0" * 64, precision="fp32"),),
        known_answers=KnownAnswersSpec(file="k.npz", sha256="0" * 64, count=1, source="none"),
        provenance=Provenance(source="test", created="2026-01-01T00:00:00+00:00"),
    )
    return Bundle(Path(path), manifest, "0" * 64)


def make_opened(bundle: Bundle) -> OpenedSession:
    execution = Execution(bundle.manifest.variants[0], LinearBackend())
    certificate = Certificate(
        file_sha256=execution.variant.sha256,
        backend="linear",
        backend_version="1",
        execution_precision="fp32",
        device_class="test",
        verdict="passed",
        figures={},
        limits={},
        evidence=Evidence(source="none", images=0, decisions=0, reference="none"),
        created="2026-01-01T00:00:00+00:00",
    )
    session = execution.backend.open(b"", bundle.manifest.interface, SessionOptions())
    return OpenedSession(bundle, session, execution, certificate, from_this_machine=False)


def make_table(root: Path, count: int = 12, seed: int = 0) -> CaseTable:
    """Images with one bright half, in turn left, right and neither; labels say so, but every sixth is wrong."""
    rng = np.random.default_rng(seed)
    images, cases = [], []
    for i in range(count):
        image = rng.integers(0, 60, (SIDE, SIDE), dtype=np.uint8)
        side = i % 3
        if side < 2:
            image[:, side * 16 : side * 16 + 16] += rng.integers(80, 140, (SIDE, 16)).astype(np.uint8)
            # One cell is brightest, and a reader's box frames it.
            row, column = rng.integers(CELLS), 2 * side + rng.integers(2)
            image[row * 8 : row * 8 + 8, column * 8 : column * 8 + 8] = 250
        label = NAMES[side] if side < 2 and i % 6 != 0 else ""
        box = Box(float(column * 8), float(row * 8), 8.0, 8.0) if label else None
        boxes = (LabelledBox(label, box),) if box else ()
        images.append(image)
        cases.append(Case(key=f"test/{i}", labels=(label,) if label else (), patient=str(i), boxes=boxes))
    source = ArrayImages({"test": np.stack(images)})
    return CaseTable("halves", root, "multilabel", NAMES, tuple(cases), source)
