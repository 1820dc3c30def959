"""`bundle.json` as pydantic models: everything that a consumer must know to run, decide, draw and report."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from pydantic import AliasChoices, Field, model_validator

from xrt.runtime._io import sha256_of
from xrt.runtime.bundle.certificate import Certificate
from xrt.runtime.bundle.part import FileName, Part, Sha256

SCHEMA_VERSION = 7
"""2: certificates name the decision rules that they were measured under, and the worst cases.

3: classes may name the labels of data sets that count as them.
4: preprocessing may average areas, crop to a fraction and invert; what nobody stated is listed; the population may be
not stated.
5: certificates say which images they counted, the reference's AUROCs, the figures of the known answers and what they do
not prove; what passed on phantoms alone says so.
6: a digest of the whole manifest.
7: what the checks of a picture's content do may be stated.
"""

_SINCE_SCHEMA_4 = {"crop": 1.0, "invert": False}
"""Fields of `Preprocessing` with the values that earlier bundles mean: as such they are no part of the digest."""

Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
Task = Literal["multilabel", "multiclass", "binary"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "area"]
WithoutWindow = Literal["minmax", "bits"]
ContentCheck = Literal["aspect", "colour", "flat", "inverted", "statistics", "turned"]
CONTENT_CHECKS: tuple[ContentCheck, ...] = ("aspect", "colour", "flat", "inverted", "statistics", "turned")
"""Checks of a picture: its proportions, colour, large flat areas, polarity, brightness and contrast, orientation."""
Reaction = Literal["note", "reject", "off"]
REACTIONS: tuple[Reaction, ...] = ("note", "reject", "off")
"""What is done where a check strikes; a note where nothing is stated."""
CamMethod = Literal["gradcam", "hirescam", "gradcam++", "xgradcam", "layercam"]


class ClassSpec(Part):
    """One class of the model.

    `threshold` applies to the calibrated probability sigmoid(logit / temperature); without one a class is never a
    finding. A multiclass model decides by argmax and has no thresholds. `urgency` weighs the class in the order of
    the worklist (0: never urgent). `labels` are the labels of a data set that count as this class; `*` means all
    that count as no other class, and None the label of the class's own name.
    """

    name: str = Field(min_length=1)
    threshold: float | None = Field(default=0.5, ge=0, le=1)
    urgency: float = Field(default=1.0, ge=0)
    temperature: float = Field(default=1.0, gt=0)
    labels: tuple[str, ...] | None = Field(default=None, min_length=1)


class Preprocessing(Part):
    """How a decoded radiograph becomes the graph's uint8 input (see `xrt.runtime.preprocessing`).

    `border_crop` is the fraction of each side cut away first; `invert` then exchanges black and white, for models that
    were trained on bright air; `equalisation` is applied at stored resolution. `fit` is how the input is filled: by
    the whole image, `stretch`ed; by its centre, a fraction `crop` of the largest rectangle in the input's proportions;
    or by the whole image with black borders (`pad`). `area` is the mean of the pixels that an output pixel covers.
    `without_window` (`unwindowed` in files) says how more than 8 bits become 8 when neither a window nor a VOI LUT is
    given: `minmax` over the image, or the `bits` that are stored. Without `antialias` there is no lanczos: recipes that
    ask for it are refused, and bundles of earlier versions that say so were, and are, made with bicubic.
    """

    height: int = Field(ge=8, le=4096)
    width: int = Field(ge=8, le=4096)
    fit: Literal["stretch", "crop", "pad"] = "stretch"
    crop: float = Field(default=1.0, gt=0, le=1)
    interpolation: Interpolation = "bilinear"
    antialias: bool = True
    equalisation: Literal["none", "histogram"] = "none"
    border_crop: float = Field(default=0.0, ge=0, lt=0.5)
    invert: bool = False
    without_window: WithoutWindow = Field(
        default="minmax",
        validation_alias=AliasChoices("without_window", "unwindowed"),
        serialization_alias="unwindowed",
    )

    @model_validator(mode="after")
    def _obeyed(self) -> Preprocessing:
        if self.crop < 1 and self.fit != "crop":
            raise ValueError(f"a crop to {self.crop:g} of the image is for fit crop, not {self.fit}")
        if self.interpolation == "area" and not self.antialias:
            raise ValueError("interpolation area averages what an output pixel covers: it is antialiased by definition")
        return self

    def rules(self) -> dict[str, object]:
        """All fields that turn pixels into the input, as the digest of decision rules covers them."""
        fields = self.model_dump()
        return {name: value for name, value in fields.items() if _SINCE_SCHEMA_4.get(name, ...) != value}


class CamSpec(Part):
    """One CAM output of the graph: float32 [n, maps, height, width], non-negative, unscaled.

    `layer` names the target activation as its source does (a torch module path where there is one, else the
    tensor); `tensor` is its name in the graph; `module` is the torch module at it, or nearest before it, where a user
    of hooks would put one.
    """

    output: str
    layer: str
    tensor: str
    module: str | None = None
    channels: int = Field(gt=0)
    height: int = Field(gt=0)
    width: int = Field(gt=0)
    method: CamMethod = "gradcam"


class GraphSpec(Part):
    """Inputs and outputs of every graph in the bundle: uint8 [n, 1, H, W] in, logits and CAMs out, dynamic batch.

    The maps axis of a CAM output follows `explained`, indices into the logits; with `top_k` it holds each image's
    k highest classes instead, and the int64 output `cam_classes` [n, k] says which.
    """

    image: str = "image"
    logits: str = "logits"
    cams: tuple[CamSpec, ...] = Field(min_length=1)
    explained: tuple[int, ...] | None = None
    top_k: int | None = Field(default=None, gt=0)
    cam_classes: str | None = None
    opset: int = 18

    @model_validator(mode="after")
    def _one_selection(self) -> GraphSpec:
        if (self.explained is None) == (self.top_k is None):
            raise ValueError("exactly one of `explained` and `top_k` must be given")
        if (self.top_k is None) != (self.cam_classes is None):
            raise ValueError("`cam_classes` names an output exactly when `top_k` is given")
        return self


@dataclass(frozen=True)
class GraphInterface:
    """What a back end must know of a graph: its inputs and outputs, and the size of its images."""

    graph: GraphSpec
    preprocessing: Preprocessing

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """The shape of one image, (1, H, W)."""
        return 1, self.preprocessing.height, self.preprocessing.width

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of all outputs, the logits first."""
        names = (self.graph.logits, *(cam.output for cam in self.graph.cams))
        return (*names, self.graph.cam_classes) if self.graph.cam_classes else names

    @property
    def maps(self) -> int:
        """How many maps each CAM output has for an image."""
        return self.graph.top_k or len(self.graph.explained or ())


class InputStatistics(Part):
    """Ranges (0.5th to 99.5th percentile, grey levels 0..255) in training, for the out-of-distribution note."""

    mean: tuple[float, float]
    std: tuple[float, float]


class Variant(Part):
    """One executable form of the model. `target` is the device family it was quantised or cast for."""

    file: FileName
    sha256: Sha256
    precision: Precision
    target: Literal["cpu", "gpu", "any"] = "any"


class KnownAnswersSpec(Part):
    """The file of uint8 inputs with reference logits and CAMs that every session must reproduce."""

    file: FileName
    sha256: Sha256
    count: int = Field(gt=0)
    source: str


class Provenance(Part):
    """Where the bundle comes from.

    `weights` is the file loaded into the model, `output` the one chosen of an ONNX file's; `notes` are remarks of
    the export, such as defaults that were used.
    """

    source: str
    weights: str | None = None
    output: str | None = None
    notes: tuple[str, ...] = ()
    checkpoint_sha256: Sha256 | None = None
    dataset: str | None = None
    recipe: str | None = None
    normalisation: dict[str, tuple[float, ...]] = {}
    versions: dict[str, str] = {}
    created: str


class IntendedUse(Part):
    """The limits that every report repeats. `population` is None where nobody stated whom the model is for."""

    population: str | None = None
    notice: str = "Not a medical device. For research and evaluation; every result needs a radiologist's reading."


class Manifest(Part):
    """The whole of `bundle.json`.

    `binary` is a one-logit model: it has two `classes`, negative first, and `explained_class` says which of them
    the maps explain. Otherwise there is one logit per class. `assumed` names what nobody stated of the preprocessing,
    with the value that was taken: every report repeats it. `content_checks` says what each check of a picture does, by
    default `note`. `content_sha256` is the digest of all other fields as they
    are written (see `xrt.runtime.bundle.content`).
    """

    schema_version: int = SCHEMA_VERSION
    name: str = Field(min_length=1)
    task: Task
    classes: tuple[ClassSpec, ...] = Field(min_length=1)
    explained_class: int | None = None
    preprocessing: Preprocessing
    graph: GraphSpec
    box_method: Literal["otsu"] = "otsu"
    input_statistics: InputStatistics | None = None
    variants: tuple[Variant, ...] = Field(min_length=1)
    certificates: tuple[Certificate, ...] = ()
    known_answers: KnownAnswersSpec
    provenance: Provenance
    intended_use: IntendedUse = IntendedUse()
    assumed: dict[str, str] = {}
    content_checks: dict[ContentCheck, Reaction] = {}
    content_sha256: Sha256 | None = None

    @property
    def assumption(self) -> str | None:
        """What nobody stated, in one line; None when everything was."""
        if not self.assumed:
            return None
        values = ", ".join(f"{name} {value}" for name, value in self.assumed.items())
        return f"nobody stated how images were prepared for training; assumed: {values}"

    @property
    def logit_classes(self) -> tuple[ClassSpec, ...]:
        """The classes of the logits' columns, in order."""
        return (self.classes[1],) if self.task == "binary" else self.classes

    @property
    def decisions_sha256(self) -> str:
        """The digest of all that turns pixels into decisions around the graph; certificates hold for it alone."""
        classes = [(c.name, c.threshold, c.temperature) for c in self.classes]
        rules = [self.task, classes, self.explained_class, self.preprocessing.rules(), self.graph.model_dump()]
        return sha256_of(json.dumps(rules, sort_keys=True))

    @property
    def interface(self) -> GraphInterface:
        """What a back end must know of the graph."""
        return GraphInterface(self.graph, self.preprocessing)

    @property
    def decisions_per_image(self) -> int:
        """One for a multiclass model, which decides by argmax; else one for each logit."""
        return 1 if self.task == "multiclass" else len(self.logit_classes)

    def map_class(self, index: int) -> str:
        """The name of the class that the CAM of logit `index` explains."""
        if self.task == "binary" and self.explained_class is not None:
            return self.classes[self.explained_class].name
        return self.classes[index].name

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        names = [c.name for c in self.classes]
        if len(set(names)) != len(names):
            raise ValueError(f"class names repeat: {names}")
        labels = [label for c in self.classes for label in set(c.labels or (c.name,))]
        if shared := sorted({label for label in labels if labels.count(label) > 1}):
            raise ValueError(f"labels count as more than one class: {shared}")
        if self.task == "binary" and (len(self.classes) != 2 or self.explained_class not in (0, 1)):
            raise ValueError("a binary model names two classes and says which one its maps explain")
        if self.task == "multiclass" and len({c.temperature for c in self.classes}) > 1:
            raise ValueError("a multiclass model has one temperature for all classes")
        if self.task != "multiclass" and all(c.threshold is None for c in self.logit_classes):
            raise ValueError("a multilabel or binary model needs a threshold for one class at least")
        if (self.graph.top_k or 0) > len(self.logit_classes):
            raise ValueError(f"`top_k` is {self.graph.top_k}, but there are {len(self.logit_classes)} logits")
        bad = [i for i in self.graph.explained or () if not 0 <= i < len(self.logit_classes)]
        if bad:
            raise ValueError(f"`explained` names logits {bad}, but there are {len(self.logit_classes)}")
        return self
