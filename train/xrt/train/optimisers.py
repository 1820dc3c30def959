"""Optimisers and learning rate schedules by name."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from xrt.train.recipe import OptimSpec

_OPTIMISERS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": partial(torch.optim.SGD, momentum=0.9, nesterov=True),
}


def build_optimiser(model: nn.Module, head: str, spec: OptimSpec) -> Optimizer:
    """An optimiser over all parameters of `model` that need gradients; `head` is the path of its last layer."""
    in_head = {id(p) for p in model.get_submodule(head).parameters()}
    groups = []
    for of_head, lr in ((False, spec.lr), (True, spec.lr * spec.head_factor)):
        members = [p for p in model.parameters() if p.requires_grad and (id(p) in in_head) == of_head]
        # One dimension: biases and batch norm, whose size is not the network's complexity.
        for vectors, decay in ((False, spec.weight_decay), (True, 0.0)):
            chosen = [p for p in members if (p.ndim <= 1) == vectors]
            groups.append({"params": chosen, "lr": lr, "weight_decay": decay})
    return _OPTIMISERS[spec.name]([group for group in groups if group["params"]], lr=spec.lr)


def build_schedule(optimiser: Optimizer, spec: OptimSpec, steps: int) -> LRScheduler:
    """The factor on the learning rate at each of `steps` batches.

    `cosine` falls from 1 to 0; `onecycle` rises from 1/25 to 1 over the share `warmup` and then falls to 0,
    both along a cosine (Smith, arXiv 1708.07120).
    """

    def factor(step: int) -> float:
        if spec.schedule == "constant":
            return 1.0
        rise = spec.warmup * steps if spec.schedule == "onecycle" else 0.0
        if step < rise:
            return 1 / 25 + (1 - 1 / 25) * _cosine(1 - step / rise)
        return _cosine((step - rise) / max(1.0, steps - rise))

    return LambdaLR(optimiser, factor)


def _cosine(share: float) -> float:
    """From 1 at 0 to 0 at 1."""
    return (1 + math.cos(math.pi * min(1.0, share))) / 2
