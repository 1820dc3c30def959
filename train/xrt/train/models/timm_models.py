"""Any model of timm by its name (extra `timm`)."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from xrt.runtime._io import first_line
from xrt.runtime.errors import MissingDependency, ModelError


@dataclass(frozen=True)
class TimmModel:
    """A model of timm: its name, and the module paths of its first convolution and its last layer."""

    name: str
    layers: tuple[str, str]

    def build(self, channels: int, outputs: int, size: tuple[int, int] | None) -> nn.Module:
        """The model with random weights."""
        options: dict[str, Any] = {"in_chans": channels, "num_classes": outputs}
        if size is not None and not self._takes_any_size():
            options["img_size"] = size
        try:
            return _timm().create_model(self.name, pretrained=False, **options)
        except (ValueError, AssertionError, RuntimeError, TypeError) as error:
            raise ModelError(f"timm:{self.name} cannot be built with {options}: {error}") from error

    def _takes_any_size(self) -> bool:
        return not self.configuration.get("fixed_input_size")

    @property
    def configuration(self) -> dict[str, Any]:
        """What timm records about the model's weights."""
        return _timm().get_pretrained_cfg(self.name).to_dict()


def timm_model(name: str) -> TimmModel:
    """The model of that name. Raises MissingDependency without timm and ModelError for a name it does not know."""
    timm = _timm()
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=5)
        raise ModelError(f"timm has no model {name!r}" + (f"; near it: {', '.join(close)}" if close else ""))
    configuration = timm.get_pretrained_cfg(name)
    if configuration is None or not configuration.first_conv or not configuration.classifier:
        raise ModelError(f"timm:{name} does not say which layers are its first and its last; use another model")
    first = (
        layer if isinstance(layer, str) else layer[0] for layer in (configuration.first_conv, configuration.classifier)
    )
    return TimmModel(name, (next(first), next(first)))


def timm_state(name: str) -> dict[str, Tensor]:
    """ImageNet weights, downloaded by timm. Raises ModelError naming the file to fetch where that fails."""
    timm = _timm()
    configuration = timm_model(name).configuration
    origin = configuration.get("hf_hub_id") or configuration.get("url") or "its publisher"
    try:
        return dict(timm.create_model(name, pretrained=True).state_dict())
    except Exception as error:  # the hub's client raises whatever its transports raise
        raise ModelError(
            f"the weights of timm:{name} cannot be downloaded ({first_line(error)}). Fetch model.safetensors of"
            f" {origin} elsewhere and give the file: --set model.weights=PATH/model.safetensors"
        ) from error


class _Features(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        features: Any = self.model.forward_features
        return features(x)


def timm_trunk(model: nn.Module) -> nn.Module:
    """The model without its head: what `forward_features` gives."""
    reset: Any = model.reset_classifier
    reset(0)
    return _Features(model)


def _timm() -> Any:
    try:
        import timm
    except ModuleNotFoundError as error:
        raise MissingDependency(
            "a timm: architecture needs timm, which is not installed: pip install 'xrt-train[timm]'"
        ) from error
    return timm
