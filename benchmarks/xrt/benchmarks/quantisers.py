"""The table of docs/precision.md: quantiser × architecture × (probability change, flips, maps, size, time).

Small networks are trained on phantoms and on PneumoniaMNIST, then every quantiser makes an int8 file of each for every
family of devices that it serves, and each file is compared with autograd and timed on every CPU back end. Networks
that the work folder holds already are not trained again. About an hour on two cores. Needs the extra `torch`.
`python -m xrt.benchmarks.cli.quantisers` writes the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from xrt.benchmarks.speed.protocol import race
from xrt.benchmarks.statistics import Ratio, ratio
from xrt.export.compile import ExplainedModel, Request, compile_source
from xrt.export.quantisation.quantisers import QUANTISERS
from xrt.export.quantisation.variants import VariantRequest, build_variants, quantised_file
from xrt.export.sources import open_source
from xrt.runtime._io import write_atomically
from xrt.runtime.backends import BACKENDS, DEFAULT_SESSION, cpu_backends
from xrt.runtime.bundle.manifest import Manifest, Precision
from xrt.runtime.certification.inputs import ValidationInputs, read_inputs
from xrt.runtime.gate import LIMITS, Figures, judge, measure
from xrt.runtime.phantoms import write as write_phantoms
from xrt.runtime.progress import SILENT, Progress
from xrt.train.recipes.loader import load_recipe
from xrt.train.training.fit import fit

BEGIN, END = "<!-- quantisers: begin -->", "<!-- quantisers: end -->"
CALIBRATION_IMAGES, BATCH = 128, 8
PHANTOMS, SEED, CONTRAST = 1200, 7, (40.0, 110.0)


@dataclass(frozen=True)
class Subject:
    """A network and what it is trained on: a recipe with changes, on `phantoms` or `pneumoniamnist`."""

    name: str
    data: str
    changes: tuple[str, ...] = ()


_SHORT = ("training.epochs=6", "optim.lr=2.0e-3")
_ENLARGED = (
    "preprocessing.height=128",
    "preprocessing.width=128",
    "training.epochs=4",
    "training.ema=0.98",
    "training.threads=null",
    "optim.lr=1.0e-3",
)
SUBJECTS = (
    Subject("compact", "pneumoniamnist"),
    Subject("compact", "phantoms"),
    Subject("resnet18", "phantoms", ("model.architecture=resnet18", *_SHORT)),
    Subject("densenet121", "phantoms", ("model.architecture=densenet121", *_SHORT)),
    # At 128 px its last map is 4 x 4; from so few phantoms it learns little in an hour.
    Subject("efficientnet_b0", "pneumoniamnist", ("model.architecture=efficientnet_b0", *_ENLARGED)),
)


@dataclass(frozen=True)
class Row:
    """One file on one back end. `speed` is its time over that of the fp32 file on ONNX Runtime, paired."""

    subject: Subject
    quantiser: str
    target: str
    backend: str
    figures: Figures
    verdict: str
    megabytes: float
    ms_per_image: float
    speed: Ratio


def write_table(
    pneumoniamnist: Path, work: Path, out: Path, *, budget_s: float = 6.0, progress: Progress = SILENT
) -> None:
    """Compare all quantisers on small networks, and replace the table in the page `out` after each network.

    Phantoms and trained networks go into the folder `work`; a race takes at most `budget_s` seconds.
    """
    phantoms = work / "phantoms"
    if not phantoms.is_dir():
        progress.step(f"drawing {PHANTOMS} phantoms")
        write_phantoms(phantoms, layout="nih", count=PHANTOMS, seed=SEED, size=128, contrast=CONTRAST)
    data = {"phantoms": phantoms, "pneumoniamnist": pneumoniamnist}
    rows: list[Row] = []
    for subject in SUBJECTS:
        rows += measure_subject(prepare_subject(subject, work, data[subject.data], progress), budget_s, progress)
        text = out.read_text(encoding="utf-8") if out.is_file() else ""
        write_atomically(out, with_table(text, as_table(rows)).encode())


@dataclass(frozen=True)
class PreparedSubject:
    """A trained and compiled network, the images to calibrate on, and the images to compare on."""

    subject: Subject
    model: ExplainedModel
    manifest: Manifest
    calibration: ValidationInputs
    inputs: ValidationInputs


def prepare_subject(subject: Subject, work: Path, data: Path, progress: Progress = SILENT) -> PreparedSubject:
    """Train the network, or take the one in the work folder, and compile it."""
    run = work / f"{subject.data}-{subject.name}"
    if not (run / "model.safetensors").is_file():
        progress.step(f"training {subject.name} on {subject.data}")
        fit(load_recipe(subject.data, list(subject.changes)), data, run)
    source = open_source(str(run))
    model = compile_source(source, Request())
    spec = source.preprocessing
    manifest = Manifest.model_construct(
        task=source.task, classes=source.classes, preprocessing=spec, graph=model.graph, explained_class=1
    )
    return PreparedSubject(
        subject,
        model,
        manifest,
        read_inputs(data, spec, source, "train", limit=CALIBRATION_IMAGES),
        read_inputs(data, spec, source, "test", limit=600),
    )


def measure_subject(prepared: PreparedSubject, budget_s: float, progress: Progress = SILENT) -> Iterator[Row]:
    """Make, judge and time every file of one network."""
    subject, model, manifest, inputs = prepared.subject, prepared.model, prepared.manifest, prepared.inputs
    expected = model.reference.outputs(inputs.images)
    batch = inputs.images[:BATCH]
    with BACKENDS["onnxruntime"].open(model.data, manifest.interface, DEFAULT_SESSION) as baseline:
        for file in _files(model, prepared.calibration):
            for backend in cpu_backends():
                progress.step(f"{subject.name} on {subject.data}: {file.quantiser} for {file.target} on {backend.name}")
                with backend.open(file.data, manifest.interface, DEFAULT_SESSION) as session:
                    outputs = session.infer_all(inputs.images)
                    figures = measure(expected, outputs, manifest, labels=inputs.labels)
                    contenders = {"fp32": partial(baseline.infer, batch), "this": partial(session.infer, batch)}
                    times = race(contenders, budget_s=budget_s)
                yield Row(
                    subject,
                    file.quantiser,
                    file.target,
                    backend.name,
                    figures,
                    judge(figures, LIMITS[file.precision])[0],
                    len(file.data) / 1e6,
                    1e3 * float(np.median(times["this"])) / BATCH,
                    ratio(times["this"], times["fp32"]),
                )


@dataclass(frozen=True)
class _File:
    quantiser: str
    target: str
    precision: Precision
    data: bytes


def _files(model: ExplainedModel, calibration: ValidationInputs) -> Iterator[_File]:
    for built in build_variants(model.data, model.graph, VariantRequest(("fp32", "fp16"))):
        yield _File(f"({built.variant.precision})", "any", built.variant.precision, built.data)
    for quantiser in QUANTISERS.values():
        for target in quantiser.families:
            data = quantised_file(model.data, model.graph, quantiser, target, calibration)
            yield _File(quantiser.name, target, "int8", data)


def as_table(rows: Sequence[Row]) -> str:
    """The rows in Markdown, one table per network."""
    lines: list[str] = []
    for subject in dict.fromkeys(row.subject for row in rows):
        own = [row for row in rows if row.subject == subject]
        images = own[0].figures.images
        lines += [
            f"**{subject.name}, trained on {subject.data}** ({images} images of the test part, "
            f"{own[0].figures.decisions} decisions)\n",
            "| quantiser | for | back end | Δp p95 | Δp max | flips | AUROC drop | map r | map Δ | verdict | MB "
            "| ms an image | time over fp32's |",
            "|---|---|---|---:|---:|---:|---:|---:|---:|---|---:|---:|---:|",
        ]
        for row in own:
            f, time = row.figures, f"{row.ms_per_image:.2f} | {row.speed}"
            drop = "" if f.auroc_drop is None else f"{f.auroc_drop:+.4f}"
            lines.append(
                f"| {row.quantiser} | {row.target} | {row.backend} | {f.probability_change_p95:.4f} "
                f"| {f.probability_change_max:.3f} | {100 * f.flips:.2f} % | {drop} | {f.map_correlation:.3f} "
                f"| {f.map_difference:.3f} | {row.verdict} | {row.megabytes:.1f} | {time} |"
            )
        lines.append("")
    return "\n".join(lines)


def with_table(page: str, table: str) -> str:
    """The page with its table replaced; a page without one gets it at its end."""
    if BEGIN not in page or END not in page:
        return f"{page.rstrip()}\n\n{BEGIN}\n\n{table}\n{END}\n"
    head, _, rest = page.partition(BEGIN)
    return f"{head}{BEGIN}\n\n{table}\n{END}{rest.partition(END)[2]}"
