"""Checkpoints: `model.safetensors` and, beside it, `model.json` with all that export needs to know.

Needs torch, not Lightning: export reads checkpoints with this module alone. Nothing in a checkpoint is unpickled.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
from pydantic import Field, ValidationError, model_validator
from safetensors import SafetensorError
from torch import Tensor, nn

from xrt.runtime._io import sha256_of
from xrt.runtime.bundle.manifest import ClassSpec, InputStatistics, Part, Preprocessing, Sha256, Task
from xrt.runtime.errors import ModelError
from xrt.train.models import ModelSpec, Normalisation, build_model, logit_weight

WEIGHTS = "model.safetensors"
SPEC = "model.json"


class CheckpointSpec(Part):
    """The whole of `model.json`.

    The model takes float32 [n, C, H, W], which is (pixel / 255 - mean) / std with one mean and deviation per channel,
    and gives logits [n, len(logit_classes)]. `binary` is a one-logit model: it has two classes, negative
    first, and `explained_class` says which of them its heatmaps explain. Thresholds apply to sigmoid(logit).
    """

    schema_version: Literal[1] = 1
    model: ModelSpec
    task: Task
    classes: tuple[ClassSpec, ...] = Field(min_length=1)
    explained_class: int | None = None
    preprocessing: Preprocessing
    normalisation: Normalisation
    input_statistics: InputStatistics | None = None
    dataset: str | None = None
    population: str | None = None
    recipe: str | None = None
    seed: int | None = None
    metrics: dict[str, Any] = {}
    versions: dict[str, str] = {}
    created: str | None = None
    weights_sha256: Sha256 | None = None

    @property
    def logit_classes(self) -> tuple[ClassSpec, ...]:
        """The classes of the logits' columns, in order."""
        return (self.classes[1],) if self.task == "binary" else self.classes

    @model_validator(mode="after")
    def _consistent(self) -> CheckpointSpec:
        if self.task == "binary" and (len(self.classes) != 2 or self.explained_class not in (0, 1)):
            raise ValueError("a binary model names two classes and says which one its maps explain")
        names = [spec.name for spec in self.classes]
        if len(set(names)) < len(names):
            raise ValueError(f"class names repeat: {', '.join(names)}")
        if len(self.normalisation.mean) != self.model.channels:
            raise ValueError(
                f"normalisation has {len(self.normalisation.mean)} channels, the model {self.model.channels}"
            )
        return self


def save_checkpoint(directory: Path, model: nn.Module, spec: CheckpointSpec) -> CheckpointSpec:
    """Write `model.safetensors` and then `model.json` into `directory`, which is made if need be.

    Returns the specification as written, with the weights' hash. The JSON comes last: a directory that has it
    is complete. Raises ModelError if the model has another number of logits than the specification has classes.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    _require_head(state, spec, "this model")
    data = safetensors.torch.save(state)
    # Starting weights are no part of a finished model: loading must not need their file.
    model_spec = spec.model.model_copy(update={"weights": None})
    spec = spec.model_copy(update={"model": model_spec, "weights_sha256": sha256_of(data)})
    directory.mkdir(parents=True, exist_ok=True)
    (directory / WEIGHTS).write_bytes(data)
    (directory / SPEC).write_text(spec.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return spec


def load_checkpoint(path: str | Path) -> tuple[nn.Module, CheckpointSpec]:
    """The model, in evaluation mode on the CPU, and the specification of a checkpoint.

    `path` is a run's directory or either of the two files. Raises ModelError if a file is missing, damaged,
    does not match its hash, or does not fit the specification.
    """
    path = Path(path)
    directory = path if path.is_dir() else path.parent
    weights = path if path.suffix == ".safetensors" else directory / WEIGHTS
    spec_file = weights.with_suffix(".json")
    if not path.exists():
        raise ModelError(f"{path} does not exist; give a run's directory or its {WEIGHTS}")
    for file in (spec_file, weights):
        if not file.is_file():
            raise ModelError(
                f"{directory} has no {file.name}; a checkpoint is {weights.name} and {spec_file.name} side by side,"
                " as xrt train writes them at its end"
            )
    spec = _read_spec(spec_file)
    state = _read_weights(weights, spec)
    _require_head(state, spec, str(weights))
    size = spec.preprocessing.height, spec.preprocessing.width
    model = build_model(spec.model, len(spec.logit_classes), size)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise ModelError(
            f"{weights} does not fit the {spec.model.architecture} of {spec_file.name}: {first} Put the two files of"
            " one run together again."
        ) from error
    return model.eval(), spec


def _read_spec(file: Path) -> CheckpointSpec:
    try:
        return CheckpointSpec.model_validate_json(file.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        reason = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        where = ".".join(map(str, reason["loc"])) or "the file"
        raise ModelError(
            f"{file} is not a checkpoint's description: {where}: {reason['msg']}. Restore it from its run."
        ) from error


def _read_weights(file: Path, spec: CheckpointSpec) -> dict[str, Tensor]:
    data = file.read_bytes()
    digest = sha256_of(data)
    # Checked before the hash, because "truncated" says more than "differs".
    if _is_truncated(data):
        raise ModelError(f"{file} is truncated ({len(data)} bytes); copy it again from the run that wrote it")
    if spec.weights_sha256 is not None and digest != spec.weights_sha256:
        raise ModelError(
            f"{file} has SHA-256 {digest[:12]}…, its description records {spec.weights_sha256[:12]}…: the weights were"
            " changed or belong to another run. Put the two files of one run together again."
        )
    try:
        return safetensors.torch.load(data)
    except SafetensorError as error:
        raise ModelError(f"{file} is not a safetensors file ({error}); restore it from its run") from error


def _is_truncated(data: bytes) -> bool:
    """Whether the file ends before the last tensor that its header lists (safetensors format, 8 bytes + JSON)."""
    if len(data) < 8:
        return True
    length = int.from_bytes(data[:8], "little")
    if length > 100_000_000:
        return False
    if len(data) < 8 + length:
        return True
    try:
        header = json.loads(data[8 : 8 + length])
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return False
    return len(data) < 8 + length + max(ends, default=0)


def _require_head(state: dict[str, Tensor], spec: CheckpointSpec, what: str) -> None:
    for key in logit_weight(spec.model):
        if key in state and len(state[key]) != len(spec.logit_classes):
            names = ", ".join(c.name for c in spec.logit_classes)
            raise ModelError(
                f"{what} has {len(state[key])} logits, but the description has {len(spec.logit_classes)} classes for"
                f" them ({names}); correct the classes, or use the weights of the same run"
            )
