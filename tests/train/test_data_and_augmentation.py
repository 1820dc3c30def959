"""Inputs come from the runtime's own preprocessing; augmentation changes what it says and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from xrt.runtime.bundle.manifest import Preprocessing
from xrt.runtime.cases import open_cases
from xrt.runtime.errors import DataError
from xrt.runtime.preprocessing import preprocess
from xrt.train.augmentation import AugmentationSpec, augment
from xrt.train.data import CaseDataset, fits_in_memory, loader, normalise
from xrt.train.models import Normalisation

SPEC = Preprocessing(height=20, width=16, fit="crop")


@pytest.mark.parametrize("cached", [True, False])
def test_batches_are_the_runtimes_preprocessing(blobs: Path, cached: bool) -> None:
    table = open_cases(blobs).subset(range(5, 12))
    dataset = CaseDataset(table, SPEC, cached=cached)
    images, targets = dataset.__getitems__([3, 0])
    assert images.dtype == torch.uint8
    assert images.shape == (2, 1, 20, 16)
    np.testing.assert_array_equal(images[0, 0].numpy(), preprocess(table.pixels(3), SPEC)[0])
    np.testing.assert_array_equal(targets.numpy(), table.labels[[3, 0]])


def test_shuffling_follows_the_seed(blobs: Path) -> None:
    dataset = CaseDataset(open_cases(blobs), Preprocessing(height=28, width=28), cached=True)

    def order(seed: int) -> list[float]:
        batches = loader(dataset, 64, workers=0, seed=seed, shuffle=True)
        assert len(batches) == 3, "200 images: the last 8 wait for another epoch"
        return [float(images.float().mean()) for images, _ in batches]

    assert order(0) == order(0) != order(1)


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / "images" / name)
    (tmp_path / "images" / "b.png").write_bytes(b"not an image")
    (tmp_path / "Data_Entry_2017.csv").write_text("Image Index,Finding Labels,Patient ID\na.png,Mass,1\nb.png,Mass,2\n")
    with pytest.raises(DataError, match=r"images/b\.png: .*restore the image or remove its row"):
        CaseDataset(open_cases(tmp_path), SPEC, cached=True)


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


def test_no_augmentation_changes_nothing() -> None:
    images = torch.rand(3, 1, 12, 10)
    assert torch.equal(augment(images, AugmentationSpec()), images)


def test_images_are_changed_one_by_one_and_stay_in_range() -> None:
    torch.manual_seed(0)
    spec = AugmentationSpec(rotation=10, translation=0.1, scale=0.1, contrast=0.3, brightness=0.2, noise=0.1)
    same = torch.rand(1, 1, 24, 24).expand(4, 1, 24, 24)
    changed = augment(same, spec)
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert all(not torch.allclose(changed[0], other) for other in changed[1:])


def test_a_certain_flip_mirrors_left_and_right() -> None:
    images = torch.rand(2, 1, 8, 8)
    # Bilinear sampling at pixel centres: exact but for rounding of the coordinates.
    torch.testing.assert_close(augment(images, AugmentationSpec(flip=1.0)), images.flip(3), rtol=0, atol=1e-5)


def test_turning_keeps_shapes_of_non_square_images() -> None:
    # A disc stays a disc under rotation only if the aspect ratio is respected.
    torch.manual_seed(1)
    rows, columns = torch.meshgrid(torch.arange(40.0) - 19.5, torch.arange(80.0) - 39.5, indexing="ij")
    disc = ((rows**2 + columns**2) < 144).float()[None, None].expand(8, 1, 40, 80)
    turned = augment(disc, AugmentationSpec(rotation=90))
    # The rim is interpolated; a squeezed disc would differ over hundreds of pixels.
    assert (turned - disc).abs().sum(dim=(1, 2, 3)).max() < 40


def test_flips_are_off_unless_asked_for() -> None:
    assert AugmentationSpec().flip == 0.0
