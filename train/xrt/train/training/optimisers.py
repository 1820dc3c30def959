"""Optimisers and learning rate schedules by name."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from xrt.train.recipes.spec import OptimSpec
from xrt.train.training.phases import Phases

_OPTIMISERS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": partial(torch.optim.SGD, momentum=0.9, nesterov=True),
}


def build_optimiser(model: nn.Module, head: str, spec: OptimSpec) -> Optimizer:
    """An optimiser over all parameters of `model`; `head` is the path of its head.

    Parameters that a phase of fine-tuning freezes have no gradients and stay as they are.
    """
    in_head = {id(p) for p in model.get_submodule(head).parameters()}
    groups = []
    for of_head, lr in ((False, spec.lr), (True, spec.lr * spec.head_factor)):
        members = [p for p in model.parameters() if (id(p) in in_head) == of_head]
        # One dimension: biases and batch norm, whose size is not the network's complexity.
        for vectors, decay in ((False, spec.weight_decay), (True, 0.0)):
            parameters = [p for p in members if (p.ndim <= 1) == vectors]
            groups.append({"params": parameters, "lr": lr, "weight_decay": decay})
    return _OPTIMISERS[spec.name]([group for group in groups if group["params"]], lr=spec.lr)


def build_schedule(optimiser: Optimizer, spec: OptimSpec, phases: Phases, steps_per_epoch: int) -> LRScheduler:
    """The learning rate at each batch: the phase's own peak, times the factor of the schedule within the phase."""

    def factor(step: int) -> float:
        phase = phases.current
        # A schedule is built at step 0, also in a run that is resumed in a later phase.
        fraction = max(0, step - phases.first_step) / (phase.epochs * steps_per_epoch)
        return phase.lr / spec.lr * schedule_factor(spec, fraction)

    return LambdaLR(optimiser, factor)


def schedule_factor(spec: OptimSpec, fraction: float) -> float:
    """The factor on the peak rate when `fraction`, 0..1, of a phase is over.

    `cosine` falls from 1 to 0; `onecycle` rises from 1/25 to 1 over the fraction `warmup` and then falls to 0,
    both along a cosine (Smith, arXiv 1708.07120).
    """
    if spec.schedule == "constant":
        return 1.0
    rise = spec.warmup if spec.schedule == "onecycle" else 0.0
    if fraction < rise:
        return 1 / 25 + (1 - 1 / 25) * _cosine(1 - fraction / rise)
    return _cosine((fraction - rise) / (1 - rise))


def _cosine(fraction: float) -> float:
    """From 1 at 0 to 0 at 1."""
    return (1 + math.cos(math.pi * min(1.0, fraction))) / 2
