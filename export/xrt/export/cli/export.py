"""`xrt export`."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from xrt.export.cli import arguments
from xrt.export.cli.summary import print_summary
from xrt.runtime.cli.output import (
    CheckOption,
    JsonOption,
    TerminalProgress,
    comma_separated,
    content_checks,
    numbers,
    say,
    write_json,
)
from xrt.runtime.cli.renamed import renamed_options


@renamed_options({"--tensorrt": "--build-engines"})
def export(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A run of `xrt train` (its folder, or its model.safetensors); an .onnx file; MODULE:FACTORY, a "
            "function without arguments that returns an nn.Module; torchvision:NAME, timm:NAME or "
            "torchxrayvision:NAME.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="NAME.xrt", help="The bundle to write; must not exist.")],
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="FILE[:KEY]",
            help="State dict for a MODULE:FACTORY or a named model: .safetensors, .pth, .pt or .ckpt, old names and "
            "prefixes included; FILE:KEY for one of several in a file (model.pth:ema); a folder of Hugging Face; or "
            "the word 'pretrained'.",
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,…|FILE",
            help="The classes in the order of the logits, or a text file with one a line. A one-logit model has two, "
            "the negative one first.",
        ),
    ] = None,
    task: Annotated[
        Literal["multilabel", "multiclass", "binary"] | None,
        typer.Option(help="What the logits mean, if the model does not end in a softmax or sigmoid that shows it."),
    ] = None,
    input_size: Annotated[
        str | None, typer.Option(metavar="H[xW]", help="The size of the model's input in pixels; by default its own.")
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(
            metavar="M,…",
            help="Mean of each input channel, pixels scaled to 0..1; default ImageNet's for colour, 0 and 1 for grey.",
        ),
    ] = None,
    std: Annotated[
        str | None,
        typer.Option(metavar="S,…", help="Standard deviation of each input channel, in the same units."),
    ] = None,
    normalisation: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A mean and std with a name: imagenet, or keras:xception, keras:vgg16 and so on for what "
            "preprocess_input of keras.applications does.",
        ),
    ] = None,
    channel_order: Annotated[
        Literal["rgb", "bgr"] | None,
        typer.Option(
            help="bgr: the model takes blue first, so mean and std are reversed; a radiograph is the same in every "
            "channel, so the order has no other effect."
        ),
    ] = None,
    interpolation: Annotated[
        Literal["nearest", "bilinear", "bicubic", "lanczos", "area"] | None,
        typer.Option(help="The filter with which images were resized for training."),
    ] = None,
    antialias: Annotated[
        bool | None, typer.Option("--antialias/--no-antialias", help="Whether that filter was widened when shrinking.")
    ] = None,
    fit: Annotated[
        Literal["stretch", "crop", "pad"] | None,
        typer.Option(help="How the input was filled: the whole image stretched, its centre, or black borders."),
    ] = None,
    crop: Annotated[
        float | None,
        typer.Option(
            metavar="0..1", help="With --fit crop: the fraction of the resized image that was cut out, such as 0.875."
        ),
    ] = None,
    equalisation: Annotated[
        Literal["none", "histogram"] | None, typer.Option(help="Whether the histogram was equalised first.")
    ] = None,
    border_crop: Annotated[
        float | None, typer.Option(metavar="0..0.5", help="The fraction of every side that was cut away first.")
    ] = None,
    invert: Annotated[
        bool | None, typer.Option("--invert/--no-invert", help="Whether it was trained on bright air and dark bone.")
    ] = None,
    population: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="For whom the model was made, as 'adults, frontal chest radiographs'."),
    ] = None,
    check: CheckOption = None,
    output: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Which of several outputs are the logits: a name, of a tuple the position (0, 1, …). By default the "
            "one called logits, or the only one of the shape [n, classes].",
        ),
    ] = None,
    target_layer: Annotated[
        list[str] | None,
        typer.Option(
            help="Layer whose activations the heatmaps explain: a module path such as layer4, or a tensor of the "
            "graph. May be repeated: maps of every layer side by side. By default the last spatial layer on every "
            "path to the logits."
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METHOD",
            help="gradcam (default), hirescam, gradcam++, xgradcam or layercam. May be repeated: maps of every method "
            "side by side.",
        ),
    ] = None,
    classes: Annotated[
        str,
        typer.Option(
            metavar="all|top:K|A,B,…",
            help="Which classes are explained: all; the K highest of each image, chosen in the graph, which keeps "
            "early layers and models of many classes cheap; or some by name.",
        ),
    ] = "all",
    precision: Annotated[
        str,
        typer.Option(
            metavar="P,…",
            help="Variants besides fp32: fp16 (a cast graph), int8 (explicit Q/DQ; one file for CPUs, one for GPUs).",
        ),
    ] = "fp32",
    calibrate: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR|DATASET",
            help="Radiographs that int8 is calibrated on: 32 at least, better a few hundred of the kind that will "
            "be screened. Of a data set with official parts, the training part. The result is cached.",
        ),
    ] = None,
    certify: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR|DATASET",
            help="Radiographs on which the gate compares, none of them used for calibration; of a data set, the test "
            "part, and with its labels AUROCs are compared. By default synthetic phantoms.",
        ),
    ] = None,
    verify_inputs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.npz|DIR",
            help="What the original pipeline made of radiographs, so that inputs, probabilities and decisions are "
            "compared with it: an .npz with 'files' and 'inputs' (float, as the network takes them) or "
            "'probabilities'; or a folder with one .npy for each image, of its stem.",
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the radiographs of --verify-inputs are; by default beside it."),
    ] = None,
    require_radiographs: Annotated[
        bool,
        typer.Option(
            "--require-radiographs",
            help="Refuse to certify on synthetic phantoms: --certify must name radiographs.",
        ),
    ] = False,
    accept_labels: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,…",
            help="Classes whose labels are right although the gate objects: the model ranks the class worse than "
            "chance, or the data set does not name its labels as the classes are named.",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write the gate's report: all figures, and the heatmaps of the worst image and class."
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Publish a graph that the gate refuses, with the refusal on record.")
    ] = False,
    engines: Annotated[
        str | None,
        typer.Option(
            "--build-engines",
            metavar="here|SM,…",
            help="Then build TensorRT engines of the bundle, as `xrt build` does: for this GPU, or ahead "
            "of time for others by compute capability, such as sm86,sm89.",
        ),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Print every pass over the graph with its node counts.")
    ] = False,
    json: JsonOption = None,
) -> None:
    """Compile a classifier and the gradients of its heatmaps into one certified ONNX bundle.

    One forward run of the graph gives the logits and a heatmap of every class. The gate compares it with PyTorch's
    autograd at the same tensor (an ONNX file: with its own graph and float64 derivatives), and nothing is written
    unless it agrees. A faster variant is published only if it passes too; otherwise the command prints which one fails,
    and the exit code is 1.

    Examples:

      xrt export runs/pm --out pneumonia.xrt

      xrt export torchvision:resnet50 --weights old.pth --labels Normal,Pneumonia --out r50.xrt

      xrt export mymodels.chest:make_model --weights best.pt --mean 0.5 --std 0.25 --out chest.xrt

      xrt export runs/pm --precision fp32,fp16,int8 --calibrate pm.npz --certify pm.npz --report gate/ --out pm.xrt

      xrt export tb.onnx --interpolation nearest --normalisation keras:xception --verify-inputs made.npz --out tb.xrt

      xrt export lost_source.onnx --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --classes top:5 --out lost.xrt
    """
    from xrt.export.compile import Request
    from xrt.export.publish import ExportOptions, publish_source
    from xrt.export.sources import Description, open_source
    from xrt.export.sources.stated_preprocessing import StatedPreprocessing
    from xrt.runtime.bundle.writer import check_destination

    check_destination(out)
    _check_engines(engines)
    description = Description(
        labels=arguments.class_names(labels),
        task=task,
        input_size=arguments.input_size(input_size),
        mean=None if mean is None else numbers("--mean", mean, "0.485,0.456,0.406"),
        std=None if std is None else numbers("--std", std, "0.229,0.224,0.225"),
        normalisation=normalisation,
        channel_order=channel_order,
        weights=weights,
        output=output,
        preprocessing=StatedPreprocessing(interpolation, antialias, fit, crop, equalisation, border_crop, invert),
        population=population,
    )
    request = Request(tuple(target_layer or ()), arguments.methods(method), classes)
    options = ExportOptions(
        request=request,
        precisions=arguments.precisions(precision),
        calibrate=calibrate,
        certify=certify,
        accept_labels=tuple(comma_separated("--accept-labels", accept_labels, "Mass,Nodule")) if accept_labels else (),
        require_radiographs=require_radiographs,
        verify_inputs=verify_inputs,
        images=images,
        content_checks=content_checks(check),
        report=report,
        force=force,
    )
    if verbose:
        logging.getLogger("xrt.export").setLevel(logging.INFO)
    # As `python -m` does: a factory may be in a module of this folder, and import others when it is called.
    sys.path.insert(0, str(Path.cwd()))
    source = open_source(model, description)
    for note in source.notes:
        say(f"note: {note}")
    with TerminalProgress() as progress:
        publication = publish_source(source, out, options, progress=progress)
    manifest = publication.bundle.manifest
    print_summary(manifest)
    print(f"bundle: {out}")
    write_json(json, manifest.model_dump(mode="json"))
    if engines is not None:
        from xrt.runtime.cli.build import build

        build(out, targets=None if engines == "here" else engines)
    if publication.refusal is not None:
        print(
            f"xrt: {publication.refusal}; --force publishes it with this verdict on record",
            file=sys.stderr,
        )
        raise typer.Exit(1)


def _check_engines(engines: str | None) -> None:
    """Raise before the export what `--build-engines` would raise after it."""
    if engines is not None:
        from xrt.runtime.cli.build import gpu_targets
        from xrt.runtime.engine_builds import choose_targets

        choose_targets("auto", () if engines == "here" else gpu_targets(engines))
