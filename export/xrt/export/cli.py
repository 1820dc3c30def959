"""`xrt export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xrt.runtime.cli.output import JsonOption, say, write_json


def export(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="A run of `xrt train`: its folder, or its model.safetensors.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="NAME.xrt", help="The bundle to write; must not exist.")],
    target_layer: Annotated[
        list[str] | None,
        typer.Option(
            help="Layer whose activations the heatmaps explain: a module path such as layer4, or a tensor of the "
            "graph. May be repeated. By default the last spatial layer through which every path runs."
        ),
    ] = None,
    certify: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Radiographs on which the gate compares; by default synthetic phantoms."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Publish a graph that the gate refuses, with the refusal on record.")
    ] = False,
    json: JsonOption = None,
) -> None:
    """Compile a checkpoint and the gradients of its heatmaps into one certified ONNX bundle.

    One forward run of the graph gives the logits and a Grad-CAM of every class. The gate compares it with PyTorch's
    autograd at the same tensor, and nothing is written unless it agrees.

    Example: xrt export runs/pm --out pneumonia.xrt
    """
    from xrt.export.pipeline import export_source
    from xrt.export.source import from_checkpoint

    bundle = export_source(
        from_checkpoint(checkpoint), out, target_layers=target_layer or (), certify=certify, force=force, progress=say
    )
    manifest = bundle.manifest
    for cam in manifest.graph.cams:
        print(f"{cam.output}: {cam.method} at {cam.layer}, {cam.channels} channels, {cam.height} x {cam.width}")
    for certificate in manifest.certificates:
        evidence = certificate.evidence
        print(
            f"{certificate.backend} {certificate.backend_version} {certificate.execution_precision}: "
            f"{certificate.verdict} on {evidence.images} images ({evidence.source})"
        )
        for name, limit in certificate.limits.items():
            if (value := certificate.figures[name]) is not None:
                print(f"  {name:24} {value:10.2e}   limit {limit:g}")
    print(f"bundle: {out}")
    write_json(json, manifest.model_dump(mode="json"))
