"""The order of training images: a function of seed and epoch alone, so that an interrupted run can be resumed."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Sampler

from xrt.train.data.augmentation import mixed_seed

Draw = tuple[int, int]
"""An epoch and the index of a case: both decide how it is augmented."""


class EpochSampler(Sampler[Draw]):
    """Every case once per epoch in random order or, with `weights`, drawn with repetition in their proportion.

    Each of several processes gets its part. `start` says where the first epoch begins: (epoch, draws already used).
    """

    def __init__(
        self, size: int, *, seed: int, weights: Float[Tensor, " n"] | None = None, start: tuple[int, int] = (0, 0)
    ) -> None:
        """`size` counts the cases."""
        self.size = size
        self.seed = seed
        self.weights = weights
        self.start = start
        self.epoch = start[0]

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch; Lightning calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Draws per epoch of this process, from its beginning."""
        return self.size // _processes()[1]

    def __iter__(self) -> Iterator[Draw]:
        """The draws of the epoch that are not used yet."""
        epoch = self.epoch
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, "order", epoch))
        if self.weights is None:
            order = torch.randperm(self.size, generator=generator)
        else:
            order = torch.multinomial(self.weights.double(), self.size, replacement=True, generator=generator)
        rank, processes = _processes()
        used = self.start[1] if epoch == self.start[0] else 0
        own = order[rank : len(self) * processes : processes]
        yield from ((epoch, index) for index in own[used:].tolist())


def balancing_weights(targets: Float[Tensor, "n logits"]) -> Float[Tensor, " n"]:
    """Weights under which the classes are drawn equally often, as far as labels that come together allow.

    A case weighs as much as its rarest class, and cases without any class are one class more: 1 over its count.
    """
    columns = torch.cat([targets, 1 - targets.amax(dim=1, keepdim=True)], dim=1)
    counts = columns.sum(dim=0)
    return (columns / counts.clamp(min=1)).amax(dim=1)


def _processes() -> tuple[int, int]:
    """This process's rank and how many train together."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
