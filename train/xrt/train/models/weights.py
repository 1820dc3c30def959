"""Starting weights: the library's by name, or a local file of the same architecture.

Two layers may differ from the model's: the last, if it has another number of outputs, keeps its random weights; the
first convolution, if it was made for colour and the model is grey, is summed over its input channels, which gives the
same activations for grey repeated three times.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torchvision
from torch import Tensor, nn
from torchvision.models.vision_transformer import interpolate_embeddings

from xrt.runtime.errors import ModelError
from xrt.train.models.saved_weights import read_state_dict
from xrt.train.models.state_dict import fit_state_dict, in_names_of

_POSITIONS = "encoder.pos_embedding"


def load_starting_weights(model: nn.Module, file: Path, stem: str, head: str) -> None:
    """Load a file of weights into `model`, in place. `stem` and `head` are its first convolution and last layer.

    Raises ModelError if the file cannot be read or its weights are not of this architecture.
    """
    load_starting_state(model, read_state_dict(file), str(file), stem, head)


def load_starting_state(model: nn.Module, state: Mapping[str, Tensor], origin: str, stem: str, head: str) -> None:
    """Load weights by name into `model`, in place; `origin` names them in errors. Raises ModelError."""
    state, own = in_names_of(model, state), model.state_dict()
    stem_key = f"{stem}.weight"
    if stem_key in state and state[stem_key].shape[1:2] == (3,) and own[stem_key].shape[1] == 1:
        state[stem_key] = state[stem_key].sum(dim=1, keepdim=True)
    for key in (f"{head}.weight", f"{head}.bias"):
        if key in state and state[key].shape != own[key].shape:
            state[key] = own[key]
    if _POSITIONS in state and state[_POSITIONS].shape != own[_POSITIONS].shape:
        # A vision transformer's position embeddings, for images of another size.
        transformer: Any = model
        state = interpolate_embeddings(transformer.image_size, transformer.patch_size, OrderedDict(state))
    if unused := fit_state_dict(model, state, origin):
        raise ModelError(
            f"{origin} does not fit the model: {unused[0]} is unknown ({len(unused)} differences). Give weights of the"
            " same architecture and width (model.weights)."
        )


def torchvision_state(name: str) -> dict[str, Tensor]:
    """ImageNet weights, downloaded by torchvision. Raises ModelError naming the file to fetch where that fails."""
    weights: Any = getattr(torchvision.models.get_model_weights(name), "DEFAULT")  # noqa: B009 (made at run time)
    try:
        return dict(weights.get_state_dict(progress=False, check_hash=True))
    except (URLError, OSError, RuntimeError) as error:
        file = weights.url.rsplit("/", 1)[-1]
        raise ModelError(
            f"the ImageNet weights of {name} cannot be downloaded ({error}). Fetch {weights.url} elsewhere and give"
            f" the file: --set model.weights=PATH/{file}"
        ) from error
