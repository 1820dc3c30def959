from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from xrt.runtime.bundle.manifest import Preprocessing
from xrt.runtime.preprocessing import equalise, preprocess


def spot(height, width, y, x, side):
    """A white square on black, centred on (x, y)."""
    image = np.zeros((height, width), dtype=np.uint8)
    image[y - side : y + side, x - side : x + side] = 255
    return image


@given(
    height=st.integers(100, 300),
    width=st.integers(100, 300),
    fit=st.sampled_from(["stretch", "crop", "pad"]),
    border=st.sampled_from([0.0, 0.05]),
    antialias=st.booleans(),
    size=st.tuples(st.integers(32, 90), st.integers(32, 90)),
)
def test_the_placement_says_where_the_input_lies(height, width, fit, border, antialias, size):
    image = spot(height, width, height // 2, width // 2, 12)
    spec = Preprocessing(height=size[0], width=size[1], fit=fit, border_crop=border, antialias=antialias)
    result, placement = preprocess(image, spec)
    assert result.shape == size
    weights = result.astype(float)
    rows, columns = np.indices(result.shape) + 0.5
    centre = (columns * weights).sum() / weights.sum(), (rows * weights).sum() / weights.sum()
    x, y = placement.to_stored(*centre)
    # Half an input pixel of resampling, in stored pixels.
    assert abs(x - width // 2) <= 0.6 * placement.scale[0] + 0.5
    assert abs(y - height // 2) <= 0.6 * placement.scale[1] + 0.5
    assert placement.to_input(*placement.to_stored(3.0, 5.0)) == pytest.approx((3.0, 5.0))


@given(st.integers(0, 2**32 - 1))
def test_equalisation_spreads_the_grey_levels(seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(40, 90, (50, 60)).astype(np.uint8)
    result = equalise(image)
    assert (result.min(), result.max()) == (0, 255)
    order = np.argsort(image.ravel(), kind="stable")
    assert (np.diff(result.ravel()[order].astype(int)) >= 0).all()
    pillow = np.asarray(ImageOps.equalize(Image.fromarray(image)))
    # Pillow's steps are whole numbers of pixels, so its levels lie up to one of 50 steps lower.
    assert np.abs(result.astype(int) - pillow).mean() < 256 / 25


def test_one_grey_level_is_left_alone():
    flat = np.full((9, 9), 77, dtype=np.uint8)
    assert np.array_equal(equalise(flat), flat)


def test_padding_keeps_the_whole_image():
    image = np.full((100, 200), 200, dtype=np.uint8)
    result, _ = preprocess(image, Preprocessing(height=64, width=64, fit="pad"))
    assert (result[:15] == 0).all()
    assert (result[-15:] == 0).all()
    assert (result[18:46] == 200).all()


def test_an_image_of_the_right_size_passes_through():
    image = np.random.default_rng(0).integers(0, 256, (28, 28)).astype(np.uint8)
    assert np.array_equal(preprocess(image, Preprocessing(height=28, width=28))[0], image)


def test_area_is_the_mean_of_what_a_pixel_covers():
    image = np.random.default_rng(0).integers(0, 256, (96, 64), dtype=np.uint8)
    ours, _ = preprocess(image, Preprocessing(height=24, width=16, interpolation="area"))
    means = image.reshape(24, 4, 16, 4).mean(axis=(1, 3))
    assert np.abs(ours - means).max() <= 1  # Pillow rounds once in each direction


def test_a_crop_to_a_fraction_keeps_the_centre():
    image = np.zeros((100, 100), dtype=np.uint8)
    image[25:75, 25:75] = 200
    ours, placement = preprocess(image, Preprocessing(height=50, width=50, fit="crop", crop=0.5))
    assert (ours == 200).all()
    assert placement.offset == (25.0, 25.0)


def test_inverting_comes_before_equalising():
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    spec = Preprocessing(height=16, width=16, invert=True)
    assert (preprocess(image, spec)[0] == 255 - image).all()


def test_later_fields_leave_the_digest_of_earlier_bundles_alone():
    earlier = {"height", "width", "fit", "interpolation", "antialias", "equalisation", "border_crop", "unwindowed"}
    assert Preprocessing(height=64, width=64).rules().keys() == earlier
    assert "invert" in Preprocessing(height=64, width=64, invert=True).rules()


@pytest.mark.parametrize("fields", [{"crop": 0.5}, {"interpolation": "area", "antialias": False}])
def test_what_contradicts_itself_is_refused(fields):
    with pytest.raises(ValueError, match="crop to|area averages"):
        Preprocessing(height=64, width=64, **fields)
