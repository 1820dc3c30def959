"""Models that xrt trains: the table of architectures, heads, and what a checkpoint says about them."""

from xrt.train.models.architectures import ARCHITECTURES, architecture_of
from xrt.train.models.factory import build_model, head_path, last_block, logit_weight, start_at_prevalence
from xrt.train.models.spec import CompactSpec, HeadSpec, ModelSpec, Normalisation, SmallCnnSpec

__all__ = [
    "ARCHITECTURES",
    "CompactSpec",
    "HeadSpec",
    "ModelSpec",
    "Normalisation",
    "SmallCnnSpec",
    "architecture_of",
    "build_model",
    "head_path",
    "last_block",
    "logit_weight",
    "start_at_prevalence",
]
