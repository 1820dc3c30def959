"""Case tables as torch data sets of uint8 inputs, preprocessed by the function that screening uses."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from xrt.runtime.bundle.manifest import InputStatistics, Preprocessing
from xrt.runtime.datasets import CaseTable
from xrt.runtime.errors import DataError, ImageError
from xrt.runtime.preprocessing import input_statistics
from xrt.train.data.augmentation import augment, mixed_seed
from xrt.train.data.sampling import Draw, EpochSampler
from xrt.train.models.spec import Normalisation

_log = logging.getLogger("xrt.train")
Batch = tuple[Tensor, Tensor]
Advance = Callable[[int], None]
_SHOWN = 5  # unreadable images that a message names


class Survey(NamedTuple):
    """What is known of every input of a data set: mean and standard deviation in grey levels, and its BLAKE2b hash."""

    means: Float[np.ndarray, " n"]
    stds: Float[np.ndarray, " n"]
    digests: list[bytes]


class CaseDataset(Dataset[Batch]):
    """Inputs uint8 [n, 1, H, W] and targets float32 [n, logits] of a case table, a batch at a time.

    With `cached`, all images are decoded once, when the data set is made, and kept in memory. `advance` is called with
    the number of images that were read since its last call, in the first pass over all: when the data set is made, or
    at its `survey`.
    """

    def __init__(
        self, table: CaseTable, preprocessing: Preprocessing, *, cached: bool, advance: Advance = lambda images: None
    ) -> None:
        """Decode everything if `cached`. Raises DataError naming an image that cannot be read."""
        self.table = table
        self.preprocessing = preprocessing
        self.targets: Float[Tensor, "n logits"] = torch.from_numpy(table.labels)
        self._images: Tensor | None = torch.from_numpy(self._decode(range(len(table)), advance)) if cached else None
        self._advance: Advance = (lambda images: None) if cached else advance

    def __len__(self) -> int:
        """The number of cases."""
        return len(self.table)

    def __getitem__(self, index: int) -> Batch:
        """One case as a batch of one."""
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Inputs uint8 [n, 1, H, W] and targets float32 [n, logits] of the cases at `indices`."""
        return self.images(indices).unsqueeze(1), self.targets[torch.as_tensor(indices)]

    def images(self, indices: Sequence[int]) -> UInt8[Tensor, "n h w"]:
        """Inputs of the cases at `indices`, unchanged."""
        if self._images is not None:
            return self._images[torch.as_tensor(indices)]
        return torch.from_numpy(self._decode(indices))

    @cached_property
    def survey(self) -> Survey:
        """What is known of every input, in one pass. Raises DataError naming images that cannot be read."""
        means, stds, digests = [], [], []
        for images, _ in loader(self, 64, workers=0):
            levels = images.flatten(1).double()
            means.append(levels.mean(1).numpy())
            stds.append(levels.std(1, correction=0).numpy())
            self._advance(len(images))
            digests += [hashlib.blake2b(image.numpy().tobytes(), digest_size=16).digest() for image in images]
        return Survey(np.concatenate(means), np.concatenate(stds), digests)

    def _decode(
        self, indices: Sequence[int], advance: Advance = lambda images: None
    ) -> UInt8[np.ndarray, "n height width"]:
        images = np.empty((len(indices), self.preprocessing.height, self.preprocessing.width), np.uint8)

        def fill(row: int) -> str | None:
            try:
                images[row] = self.table.load(indices[row], self.preprocessing)
            except ImageError as error:
                return str(error)
            return None

        # Threads, not processes: Pillow decodes and resizes without holding the interpreter's lock.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            faults = []
            for fault in pool.map(fill, range(len(indices))):
                advance(1)
                if fault:
                    faults.append(fault)
        if faults:
            more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
            raise DataError(
                f"{len(faults)} of {len(indices)} images cannot be read: {'; '.join(faults[:_SHOWN])}{more}. Restore"
                " them, or remove them from the data set"
            )
        return images


def fits_in_memory(images: int, preprocessing: Preprocessing, limit_mib: int) -> bool:
    """Whether that many inputs of one byte a pixel stay within `limit_mib` MiB."""
    return images * preprocessing.height * preprocessing.width <= limit_mib * 2**20


class AugmentedDataset(Dataset[Batch]):
    """The cases of another data set, changed at random; each change depends on (seed, epoch, index) alone."""

    def __init__(self, cases: CaseDataset, transform: v2.Transform | None, seed: int) -> None:
        """`transform` as `build_augmentation` makes it; None changes nothing."""
        self.cases = cases
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        """The number of cases."""
        return len(self.cases)

    def __getitem__(self, draw: Draw) -> Batch:
        """One case as a batch of one."""
        return self.__getitems__([draw])

    def __getitems__(self, draws: Sequence[Draw]) -> Batch:
        """Inputs uint8 [n, 1, H, W] and targets float32 [n, logits] of the cases of `draws`."""
        indices = [index for _, index in draws]
        images = self.cases.images(indices)
        if self.transform is not None:
            seeds = [mixed_seed(self.seed, "augmentation", epoch, index) for epoch, index in draws]
            images = augment(images, self.transform, seeds)
        return images.unsqueeze(1), self.cases.targets[torch.as_tensor(indices)]


def loader(dataset: CaseDataset, batch_size: int, *, workers: int) -> DataLoader[Batch]:
    """Batches of `dataset` in order."""
    return DataLoader(
        dataset, batch_size=batch_size, num_workers=workers, persistent_workers=workers > 0, collate_fn=_as_is
    )


def training_loader(
    dataset: AugmentedDataset, sampler: EpochSampler, batch_size: int, *, workers: int
) -> DataLoader[Batch]:
    """Batches in the sampler's order; the last one is left out if it is incomplete.

    An incomplete batch is kept when it is the only one: batch norm is noisy on a few images, but a tiny set must
    still train.
    """
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        drop_last=len(sampler) >= batch_size,
        num_workers=workers,
        persistent_workers=workers > 0,
        # Without one the loader draws from torch's global state, which dropout uses as well.
        generator=torch.Generator(),
        collate_fn=_as_is,
    )


def _as_is(batch: Any) -> Batch:
    # `__getitems__` has made the batch already.
    return batch


def measure(dataset: CaseDataset, channels: int) -> tuple[Normalisation, InputStatistics]:
    """Statistics of the training inputs.

    The normalisation is the mean and standard deviation of pixel / 255 over all images, repeated for every
    channel; the input statistics are the 0.5th and 99.5th percentiles, over images, of each image's mean and
    standard deviation in grey levels 0..255.
    """
    mean, std, _ = dataset.survey
    overall = mean.mean()
    # The variance over all pixels is the mean of the variances plus the variance of the means (equal sizes).
    spread = float(np.sqrt((std**2 + (mean - overall) ** 2).mean()))
    if spread == 0:
        raise DataError(f"{dataset.table.root}: all training images are one flat grey; check the files")
    normalisation = Normalisation(mean=(float(overall / 255),) * channels, std=(spread / 255,) * channels)
    return normalisation, input_statistics(mean, std)


def normalise(images: UInt8[Tensor, "n 1 h w"], normalisation: Normalisation) -> Float[Tensor, "n c h w"]:
    """The model's input float32 [n, C, H, W], (pixel / 255 - mean) / std, from uint8; C is the number of means."""
    mean = torch.tensor(normalisation.mean, device=images.device).view(1, -1, 1, 1)
    std = torch.tensor(normalisation.std, device=images.device).view(1, -1, 1, 1)
    return (images.float() / 255 - mean) / std


def warn_about_absent_classes(table: CaseTable) -> None:
    """Warn about classes that no training image has, or every one."""
    positives = table.labels.sum(axis=0)
    for name, count in zip(table.logit_classes, positives, strict=True):
        if count in (0, len(table)):
            _log.warning("%s: %d of %d training images have it, so it cannot be learned", name, count, len(table))


def count_copies(datasets: Mapping[str, CaseDataset]) -> int:
    """How many images are in a second part as well, under another name; warns about them."""
    first: dict[bytes, tuple[str, str]] = {}
    copies = []
    for part, dataset in datasets.items():
        for case, digest in zip(dataset.table.cases, dataset.survey.digests, strict=True):
            original = first.setdefault(digest, (part, case.key))
            if original[0] != part:
                copies.append((case.key, part, original[1], original[0]))
    if copies:
        _log.warning(
            "%d images are the same in two parts, such as %s in %s and %s in %s: figures may be too good; keep one of"
            " each, or give both one patient",
            len(copies),
            *copies[0],
        )
    return len(copies)
