"""Model architectures, their weights, and the one factory that builds them. Needs torch, not Lightning."""

from xrt.train.models.factory import ARCHITECTURES, build_model, start_at_prevalence
from xrt.train.models.spec import CompactSpec, ModelSpec, Normalisation

__all__ = ["ARCHITECTURES", "CompactSpec", "ModelSpec", "Normalisation", "build_model", "start_at_prevalence"]
