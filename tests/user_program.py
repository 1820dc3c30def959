# pyright: strict, reportAny=true, reportExplicitAny=true
"""A user's program against the public names: gradients of a graph, a bundle, screening, an evaluation."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx

from xrt.benchmarks import EvaluationRequest, evaluate
from xrt.export import Description, ExportOptions, Request, explain, gradients, open_source, publish_source
from xrt.runtime import (
    Bundle,
    Finding,
    Result,
    Screener,
    ScreeningOptions,
    TriageOptions,
    XrtError,
    open_dataset,
    open_session,
    read_radiograph,
    triage,
)
from xrt.train import fit, load_recipe


def positives(result: Result[Path]) -> list[str]:
    """The names of the findings."""
    findings: tuple[Finding, ...] = result.findings
    return [finding.class_name for finding in findings if finding.positive]


def main(folder: Path, data: Path) -> None:
    """Train, export, differentiate, screen, evaluate."""
    run = fit(
        load_recipe("phantoms", ["training.epochs=12", "preprocessing={height: 64, width: 64}"]), data, folder / "run"
    )
    print(run.spec.task)
    options = ExportOptions(Request(methods=("gradcam", "hirescam")), precisions=("fp32", "fp16"))
    publication = publish_source(open_source(str(folder / "run")), folder / "chest.xrt", options)
    print(publication.refusal, [c.built.variant.file for c in publication.certification.accepted])
    bundle: Bundle = publication.bundle
    with open_session(bundle) as opened:
        print(opened.description, opened.certificate.verdict)
    graph = onnx.ModelProto.FromString((folder / "chest.xrt" / "model.fp32.onnx").read_bytes())
    tensor: str = bundle.manifest.graph.cams[0].tensor
    print([output.name for output in gradients(graph, of="logits", wrt=[tensor]).graph.output])
    print([output.name for output in explain(graph, layers=[tensor]).graph.output])
    images = sorted((data / "images").glob("*.png"))[:4]
    print(read_radiograph(images[0]).pixels.shape)
    with Screener(bundle, options=ScreeningOptions(workers=0)) as screener:
        for result in screener.screen(images):
            print(result.status, positives(result))
    summary = triage(bundle, images, folder / "results", TriageOptions(screening=ScreeningOptions(workers=0)))
    print(dict(summary.counts))
    print(len(open_dataset(data)))
    evaluation, _ = evaluate(EvaluationRequest(folder / "chest.xrt", data))
    print(evaluation.mean)
    try:
        open_source("torchvision:nothing", Description(labels=("a", "b")))
    except XrtError as error:
        print(error)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
