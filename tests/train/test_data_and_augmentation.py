"""Inputs come from the runtime's own preprocessing; augmentation changes what it says and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from xrt.runtime.bundle.manifest import Preprocessing
from xrt.runtime.datasets import open_dataset
from xrt.runtime.errors import DataError
from xrt.runtime.preprocessing import preprocess
from xrt.train.data.augmentation import AugmentationSpec, augment, build_augmentation
from xrt.train.data.dataset import CaseDataset, fits_in_memory, normalise
from xrt.train.models import Normalisation

SPEC = Preprocessing(height=20, width=16, fit="crop")


@pytest.mark.parametrize("cached", [True, False])
def test_batches_are_the_runtimes_preprocessing(blobs: Path, cached: bool) -> None:
    table = open_dataset(blobs).subset(range(5, 12))
    dataset = CaseDataset(table, SPEC, cached=cached)
    images, targets = dataset.__getitems__([3, 0])
    assert images.dtype == torch.uint8
    assert images.shape == (2, 1, 20, 16)
    np.testing.assert_array_equal(images[0, 0].numpy(), preprocess(table.pixels(3), SPEC)[0])
    np.testing.assert_array_equal(targets.numpy(), table.labels[[3, 0]])


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / "images" / name)
    (tmp_path / "images" / "b.png").write_bytes(b"not an image")
    (tmp_path / "Data_Entry_2017.csv").write_text("Image Index,Finding Labels,Patient ID\na.png,Mass,1\nb.png,Mass,2\n")
    with pytest.raises(DataError, match=r"1 of 2 images cannot be read: .*images/b\.png: .*\. Restore them, or"):
        CaseDataset(open_dataset(tmp_path), SPEC, cached=True)


def test_memory_limit() -> None:
    assert fits_in_memory(1024, Preprocessing(height=32, width=32), 1)
    assert not fits_in_memory(1025, Preprocessing(height=32, width=32), 1)


def test_normalise_repeats_grey() -> None:
    images = torch.tensor([[[[0, 255], [51, 102]]]], dtype=torch.uint8)
    out = normalise(images, Normalisation(mean=(0.0, 0.2, 0.4), std=(1.0, 0.5, 0.1)))
    expected = torch.tensor([[0.0, 1.0], [0.2, 0.4]])
    assert out.shape == (1, 3, 2, 2)
    torch.testing.assert_close(out[0, 1], (expected - 0.2) / 0.5)
    torch.testing.assert_close(out[0, 2], (expected - 0.4) / 0.1)


def change(images: torch.Tensor, seeds: list[int], **limits: float) -> torch.Tensor:
    """Grey images uint8 [n, h, w], augmented."""
    transform = build_augmentation(AugmentationSpec(**limits), *images.shape[1:])
    assert transform is not None
    return augment(images, transform, seeds)


def grey(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_no_augmentation_is_none() -> None:
    assert build_augmentation(AugmentationSpec(), 12, 10) is None


def test_a_change_depends_on_its_seed_alone() -> None:
    same = grey(1, 24, 24).expand(3, 24, 24)
    limits = {"rotation": 10.0, "translation": 0.1, "scale": 0.1, "contrast": 0.3, "brightness": 0.2, "gamma": 0.3}
    state = torch.get_rng_state()
    first = change(same, [1, 2, 3], **limits, noise=0.05, crop=0.2)
    assert torch.equal(torch.get_rng_state(), state), "dropout must not depend on how images are augmented"
    again = change(same, [3, 1, 2], **limits, noise=0.05, crop=0.2)
    assert torch.equal(first, again[[1, 2, 0]])
    assert not torch.equal(first[0], first[1])
    assert first.shape == same.shape
    assert first.dtype == torch.uint8


def test_a_certain_flip_mirrors_left_and_right() -> None:
    images = grey(2, 8, 8)
    # To float and back: uint8 survives exactly.
    assert torch.equal(change(images, [0, 1], flip=1.0), images.flip(2))


def test_turning_keeps_shapes_of_non_square_images() -> None:
    # A disc stays a disc under rotation only if the aspect ratio is respected.
    rows, columns = torch.meshgrid(torch.arange(40.0) - 19.5, torch.arange(80.0) - 39.5, indexing="ij")
    disc = ((rows**2 + columns**2) < 144).to(torch.uint8).mul(255)[None].expand(8, 40, 80)
    turned = change(disc, list(range(8)), rotation=90)
    # The rim is interpolated; a squeezed disc would differ over hundreds of pixels.
    assert (turned.float() - disc.float()).abs().sum(dim=(1, 2)).max() < 40 * 255


def test_no_black_wedges_come_in() -> None:
    bright = torch.full((6, 32, 48), 200, dtype=torch.uint8)
    moved = change(bright, list(range(6)), rotation=30, translation=0.2, scale=0.3, shear=10)
    assert (moved == 200).all(), "outside the film it is as dark as at its edge"


def test_gamma_keeps_black_and_white() -> None:
    ramp = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    bent = change(ramp, [4], gamma=1.0).flatten().int()
    assert (bent[0], bent[-1]) == (0, 255)
    assert (bent.diff() >= 0).all()
    assert not torch.equal(bent, ramp.flatten().int())


def test_flips_are_off_unless_asked_for() -> None:
    assert AugmentationSpec().flip == 0.0
