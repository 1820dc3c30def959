"""The table of docs/precision.md: quantiser × architecture × (probability change, flips, maps, size, time).

    python -m xrt.benchmarks.quantisers --pneumoniamnist pneumoniamnist.npz --work quantisers/ --out docs/precision.md

Small networks are trained on phantoms and on PneumoniaMNIST, then every quantiser makes an int8 file of each for every
family of devices that it serves, and each file is held against autograd and timed on every CPU back end. What was
trained before is taken from the work folder. About an hour on two cores. Needs the extra `torch`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from xrt.benchmarks.speed.protocol import Ratio, race, ratio
from xrt.export.compilation import ExplainedModel, Request, compile_source
from xrt.export.precision.quantisers import QUANTISERS
from xrt.export.precision.variants import made_variants, quantised_file
from xrt.export.sources import open_source
from xrt.runtime.backends import BACKENDS, SessionOptions
from xrt.runtime.bundle.manifest import Manifest, Precision
from xrt.runtime.cli.output import say
from xrt.runtime.files import write_durably
from xrt.runtime.gate import LIMITS, Figures, answer, judge, measure
from xrt.runtime.gate.evidence import EvidenceImages, gathered_inputs
from xrt.runtime.phantoms import write as write_phantoms

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
    made_by: str
    target: str
    backend: str
    figures: Figures
    verdict: str
    megabytes: float
    ms_per_image: float
    speed: Ratio


def measure_subject(subject: Subject, work: Path, data: Path, budget_s: float) -> Iterator[Row]:
    """Train, or take the run that is there, then make, judge and time every file of one network."""
    model, manifest, calibration, evidence = _prepared(subject, work, data)
    expected = model.reference.answer(evidence.images)
    baseline = BACKENDS["onnxruntime"].open(model.data, model.graph, manifest.preprocessing, SessionOptions())
    batch = evidence.images[:BATCH]
    with baseline:
        for made_by, target, precision, content in _files(model, calibration):
            for backend in (b for b in BACKENDS.values() if b.family == "cpu" and b.lacks() is None):
                say(f"{subject.name} on {subject.data}: {made_by} for {target} on {backend.name}")
                with backend.open(content, model.graph, manifest.preprocessing, SessionOptions()) as session:
                    figures = measure(expected, answer(session, evidence.images), manifest, labels=evidence.labels)
                    contenders = {"fp32": partial(baseline.infer, batch), "this": partial(session.infer, batch)}
                    times = race(contenders, budget_s=budget_s)
                yield Row(
                    subject,
                    made_by,
                    target,
                    backend.name,
                    figures,
                    judge(figures, LIMITS[precision])[0],
                    len(content) / 1e6,
                    1e3 * float(np.median(times["this"])) / BATCH,
                    ratio(times["this"], times["fp32"]),
                )


def _prepared(
    subject: Subject, work: Path, data: Path
) -> tuple[ExplainedModel, Manifest, EvidenceImages, EvidenceImages]:
    from xrt.train.recipes.loading import load_recipe
    from xrt.train.running.fit import fit

    run = work / f"{subject.data}-{subject.name}"
    if not (run / "model.safetensors").is_file():
        say(f"training {subject.name} on {subject.data}")
        fit(load_recipe(subject.data, list(subject.changes)), data, run)
    source = open_source(str(run))
    model = compile_source(source, Request())
    spec = source.preprocessing
    calibration = gathered_inputs(data, spec, source, "train", limit=CALIBRATION_IMAGES)
    evidence = gathered_inputs(data, spec, source, "test", limit=600)
    manifest = Manifest.model_construct(
        task=source.task, classes=source.classes, preprocessing=spec, graph=model.graph, explained_class=1
    )
    return model, manifest, calibration, evidence


def _files(model: ExplainedModel, calibration: EvidenceImages) -> Iterator[tuple[str, str, Precision, bytes]]:
    for made in made_variants(model.data, model.graph, ("fp32", "fp16"), None):
        yield f"({made.variant.precision})", "any", made.variant.precision, made.data
    for quantiser in QUANTISERS.values():
        for target in quantiser.targets:
            yield (
                quantiser.name,
                target,
                "int8",
                quantised_file(model.data, model.graph, quantiser, target, calibration),
            )


def as_table(rows: list[Row]) -> str:
    """The rows in Markdown, one table a network."""
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
            f, took = row.figures, f"{row.ms_per_image:.2f} | {row.speed}"
            drop = "" if f.auroc_drop is None else f"{f.auroc_drop:+.4f}"
            lines.append(
                f"| {row.made_by} | {row.target} | {row.backend} | {f.probability_change_p95:.4f} "
                f"| {f.probability_change_max:.3f} | {100 * f.flips:.2f} % | {drop} | {f.map_correlation:.3f} "
                f"| {f.map_difference:.3f} | {row.verdict} | {row.megabytes:.1f} | {took} |"
            )
        lines.append("")
    return "\n".join(lines)


def between(text: str, table: str) -> str:
    """The page with its table replaced; a page without one gets it at its end."""
    if BEGIN not in text or END not in text:
        return f"{text.rstrip()}\n\n{BEGIN}\n\n{table}\n{END}\n"
    head, _, rest = text.partition(BEGIN)
    return f"{head}{BEGIN}\n\n{table}\n{END}{rest.partition(END)[2]}"


def run(
    pneumoniamnist: Annotated[Path, typer.Option(help="The MedMNIST file.")],
    work: Annotated[Path, typer.Option(help="Folder for phantoms and trained networks.")],
    out: Annotated[Path, typer.Option(help="The page whose table is replaced.")],
    budget: Annotated[float, typer.Option(help="Seconds for each race.")] = 6.0,
) -> None:
    """Compare all quantisers on small networks trained here, and write the table."""
    phantoms = work / "phantoms"
    if not phantoms.is_dir():
        say(f"drawing {PHANTOMS} phantoms")
        write_phantoms(phantoms, layout="nih", count=PHANTOMS, seed=SEED, size=128, contrast=CONTRAST)
    data: dict[str, Path] = {"phantoms": phantoms, "pneumoniamnist": pneumoniamnist}
    rows: list[Row] = []
    for subject in SUBJECTS:
        rows += measure_subject(subject, work, data[subject.data], budget)
        text = out.read_text(encoding="utf-8") if out.is_file() else ""
        write_durably(out, between(text, as_table(rows)).encode())
    print(f"table: {out}")


if __name__ == "__main__":
    typer.run(run)
