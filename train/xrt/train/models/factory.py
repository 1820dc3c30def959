"""`build_model`: any architecture of the table, any head, any number of outputs, grey or repeated input."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from xrt.runtime.errors import ModelError
from xrt.train.models.architectures import Size, architecture_of, require_size
from xrt.train.models.assembled import assemble
from xrt.train.models.spec import ModelSpec
from xrt.train.models.weights import load_starting_state, load_starting_weights

IMAGENET = "imagenet"


def build_model(spec: ModelSpec, classes: int, size: Size | None = None) -> nn.Module:
    """A model that takes normalised images float32 [n, spec.channels, H, W] and gives logits [n, classes].

    `classes` counts logits: 1 for a binary model. `size` is (H, W); models whose weights depend on it need it. The
    model is in training mode; its random weights depend on torch's global seed. Raises ModelError for an unknown
    architecture, for weights that cannot be had or do not fit, and for a head that does not fit the architecture.
    """
    if classes < 1:
        raise ModelError(f"a model needs at least one logit, not {classes}")
    architecture = architecture_of(spec)
    model = architecture.build(spec, classes, size)
    stem = model.get_submodule(architecture.stem)
    if isinstance(stem, nn.Conv2d) and stem.in_channels != spec.channels:
        model.set_submodule(architecture.stem, _with_input_channels(stem, spec.channels))
    if spec.weights == IMAGENET:
        if architecture.pretrained is None:
            raise ModelError(
                f"{spec.architecture} has no ImageNet weights; train it from scratch (model.weights=null) or choose an"
                " architecture of torchvision"
            )
        load_starting_state(model, architecture.pretrained(), IMAGENET, architecture.stem, architecture.head)
    elif spec.weights is not None:
        if not Path(spec.weights).is_file():
            raise ModelError(
                f"model.weights: {spec.weights} does not exist; give a file of weights, or imagenet, which downloads it"
                " or says what to fetch"
            )
        load_starting_weights(model, Path(spec.weights), architecture.stem, architecture.head)
    if spec.head is not None:
        if architecture.trunk is None:
            raise ModelError(f"{spec.architecture} has no last map for another head; use its own (model.head=null)")
        image = (spec.channels, *require_size(size, "another head"))
        return assemble(architecture.trunk(model), spec.head, image, classes, spec.dropout)
    if spec.dropout and architecture.pretrained is not None:
        # After the weights, whose names are those of a model without this layer.
        head = model.get_submodule(architecture.head)
        model.set_submodule(architecture.head, nn.Sequential(nn.Dropout(spec.dropout), head))
    return model


def head_path(spec: ModelSpec) -> str:
    """The module path of the model's head: its last layer, or the whole head that replaces it."""
    return architecture_of(spec).head if spec.head is None else "head"


def logit_weight(spec: ModelSpec) -> tuple[str, ...]:
    """The names that the weight of the last layer, [logits, features], may have in the model's state dict."""
    head = head_path(spec)
    # With dropout, it is the second of two layers.
    return (f"{head}.classifier.weight",) if spec.head is not None else (f"{head}.weight", f"{head}.1.weight")


def last_block(spec: ModelSpec) -> tuple[str, ...]:
    """The module paths of the last block of the trunk. Raises ModelError where the table names none."""
    paths = architecture_of(spec).last_block
    if not paths:
        raise ModelError(
            f"the last block of {spec.architecture} is not named in the table of architectures; name module paths"
            " instead (training.phases)"
        )
    return paths if spec.head is None else tuple(f"trunk.{path}" for path in paths)


@torch.no_grad()
def start_at_prevalence(model: nn.Module, spec: ModelSpec, targets: Float[Tensor, "n logits"]) -> None:
    """Set the head's biases to the logits of the classes' prevalence in `targets`, kept within 0.1 % and 99.9 %.

    Training then need not first learn that findings are rare (Lin et al., arXiv 1708.02002, section 4.1).
    """
    last = [layer for layer in model.get_submodule(head_path(spec)).modules() if isinstance(layer, nn.Linear)]
    if last and last[-1].bias is not None:
        last[-1].bias.copy_(targets.mean(dim=0).clamp(1e-3, 1 - 1e-3).logit())


def _with_input_channels(convolution: nn.Conv2d, channels: int) -> nn.Conv2d:
    new = nn.Conv2d(
        channels,
        convolution.out_channels,
        convolution.kernel_size,  # type: ignore[arg-type]
        convolution.stride,  # type: ignore[arg-type]
        convolution.padding,  # type: ignore[arg-type]
        bias=convolution.bias is not None,
    )
    with torch.no_grad():
        nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    return new
