"""Starting weights: torchvision's by name, or a local file of the same architecture.

Two layers may differ from the model's: the head, if it has another number of outputs, starts anew; the first
convolution, if it was made for colour and the model is grey, is summed over its input channels, which gives
the same activations for grey repeated three times.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.error import URLError

import torchvision
from torch import Tensor, nn

from xrt.runtime.errors import ModelError
from xrt.train.models.state_dict import read_state_dict

IMAGENET = "imagenet"


def load_starting_weights(model: nn.Module, weights: str, pretrained: str | None, stem: str, head: str) -> None:
    """Load `weights` into `model`, in place. `pretrained` is torchvision's name of the model, if it has one.

    Raises ModelError if the weights cannot be had or are not of this architecture.
    """
    if weights == IMAGENET:
        if pretrained is None:
            raise ModelError(
                "this architecture has no ImageNet weights; train it from scratch (model.weights=null) or choose a"
                " torchvision architecture"
            )
        state = _download(pretrained)
    else:
        state = read_state_dict(Path(weights))
    own = model.state_dict()
    stem_key = f"{stem}.weight"
    if stem_key in state and state[stem_key].shape[1:2] == (3,) and own[stem_key].shape[1] == 1:
        state[stem_key] = state[stem_key].sum(dim=1, keepdim=True)
    for key in (f"{head}.weight", f"{head}.bias"):
        if key in state and state[key].shape != own[key].shape:
            state[key] = own[key]
    problems = [f"{key} is missing" for key in own.keys() - state.keys()]
    problems += [f"{key} is unknown" for key in state.keys() - own.keys()]
    problems += [
        f"{key} is {list(state[key].shape)} where the model has {list(own[key].shape)}"
        for key in own.keys() & state.keys()
        if state[key].shape != own[key].shape
    ]
    if problems:
        raise ModelError(
            f"{weights} does not fit the model: {sorted(problems)[0]} ({len(problems)} differences). Give weights of"
            " the same architecture and width (model.weights)."
        )
    model.load_state_dict(state)


def _download(name: str) -> dict[str, Tensor]:
    weights: Any = getattr(torchvision.models.get_model_weights(name), "DEFAULT")  # noqa: B009 (made at run time)
    try:
        return dict(weights.get_state_dict(progress=False, check_hash=True))
    except (URLError, OSError, RuntimeError) as error:
        file = weights.url.rsplit("/", 1)[-1]
        raise ModelError(
            f"the ImageNet weights of {name} cannot be downloaded ({error}). Fetch {weights.url} elsewhere and give"
            f" the file: --set model.weights=PATH/{file}"
        ) from error
