"""What a phantom promises: determinism, independence, honest labels and boxes."""

from __future__ import annotations

import numpy as np
import pytest

from xrt.runtime.phantoms import DEFAULT_CONTRAST, LESIONS, generate, phantom
from xrt.runtime.phantoms import patient as patients

SIZE = 128


@pytest.fixture(scope="module")
def sample():
    return list(generate(64, seed=5, size=SIZE))


def test_same_arguments_give_the_same_phantom_and_another_seed_another():
    a, b, c = phantom(7, seed=1, size=SIZE), phantom(7, seed=1, size=SIZE), phantom(7, seed=2, size=SIZE)
    assert np.array_equal(a.image, b.image)
    assert (a.labels, a.lesions, a.patient_id) == (b.labels, b.lesions, b.patient_id)
    assert not np.array_equal(a.image, c.image)


def test_a_phantom_does_not_depend_on_the_ones_made_before(sample):
    alone = phantom(23, seed=5, size=SIZE)
    assert np.array_equal(alone.image, sample[23].image)
    assert alone.lesions == sample[23].lesions


def test_images_are_grey_bytes_with_a_range(sample):
    for radiograph in sample:
        assert radiograph.image.dtype == np.uint8
        assert radiograph.image.shape == (SIZE, SIZE)
        assert np.percentile(radiograph.image, 95) - np.percentile(radiograph.image, 5) > 80


def test_patients_have_one_to_four_images_and_keep_their_body(sample):
    groups: dict[int, list] = {}
    for radiograph in sample:
        groups.setdefault(radiograph.patient_id, []).append(radiograph)
    assert {len(g) for g in groups.values()} <= {1, 2, 3, 4}
    assert len(groups) == len(sample) // 2  # four patients in every block of eight
    for group in groups.values():
        assert [m.follow_up for m in group] == list(range(len(group)))
        assert len({m.sex for m in group}) == 1
        assert [m.age for m in group] == sorted(m.age for m in group)
    assert patients.locate(10**9, 3) == patients.locate(10**9, 3)


def test_labels_are_sorted_known_and_agree_with_the_boxes(sample):
    for radiograph in sample:
        assert list(radiograph.labels) == sorted(radiograph.labels)
        assert set(radiograph.labels) == {b.label for b in radiograph.lesions} <= set(LESIONS)
    share = sum(not m.labels for m in sample) / len(sample)
    assert 0.2 < share < 0.6  # 40 % expected; 64 draws have a standard deviation of 6 %


@pytest.mark.parametrize("label", LESIONS)
def test_boxes_lie_in_the_image_and_hold_what_the_lesion_changes(label):
    for index in range(3):
        with_lesion = phantom(index, seed=9, size=SIZE, findings=(label,), contrast=(60, 60))
        without = phantom(index, seed=9, size=SIZE, findings=(label,), healthy=True)
        assert with_lesion.labels == (label,)
        assert without.labels == without.lesions == ()
        change = (with_lesion.image.astype(float) - without.image) ** 2
        inside = np.zeros((SIZE, SIZE), bool)
        for box in (lesion.box for lesion in with_lesion.lesions):
            assert box.x >= 0
            assert box.y >= 0
            assert box.x + box.width <= SIZE
            assert box.y + box.height <= SIZE
            rows = slice(int(box.y), int(np.ceil(box.y + box.height)) + 1)
            inside[rows, int(box.x) : int(np.ceil(box.x + box.width)) + 1] = True
        # The rest is the fringe under 30 % of the change, and noise that follows the exposure.
        assert change[inside].sum() > 0.8 * change.sum()
        assert change[inside].mean() > 10 * change[~inside].mean()
        assert np.sqrt(change[inside].max()) > 10  # grey levels


@pytest.mark.parametrize("label", ["Nodule", "Mass", "Consolidation"])
def test_more_contrast_changes_the_image_more(label):
    without = phantom(4, seed=2, size=SIZE, findings=(), healthy=True).image.astype(float)
    energies = []
    for contrast in (10, 30, 90):
        radiograph = phantom(4, seed=2, size=SIZE, findings=(label,), contrast=(contrast, contrast))
        energies.append(float(((radiograph.image - without) ** 2).sum()))
    assert energies[0] < energies[1] / 3 < energies[2] / 6


def test_contrasts_stay_in_the_range_asked_for(sample):
    low, high = DEFAULT_CONTRAST
    contrasts = [b.contrast for radiograph in sample for b in radiograph.lesions]
    assert max(contrasts) <= 1.05 * high
    # Lesions behind the heart or in thin lung reach less than was asked for; they are few.
    assert np.mean([c < 0.9 * low for c in contrasts]) < 0.1


def test_a_large_heart_is_wider_than_half_the_chest():
    radiograph = phantom(0, size=256, findings=("Cardiomegaly",))
    body = patients.anatomy(0, radiograph.patient_id)
    heart = radiograph.lesions[0].box.width * radiograph.spacing / 10  # cm
    assert heart / (2 * body.width) > 0.5
    assert body.heart < 0.47


def test_the_exposure_does_not_know_the_lesions():
    """Corners and shoulders, where no lesion is, are the same to the last bit."""
    with_lesion = phantom(3, seed=1, size=SIZE, findings=("Mass", "Effusion"))
    without = phantom(3, seed=1, size=SIZE, healthy=True)
    assert np.array_equal(with_lesion.image[:12], without.image[:12])
    assert np.array_equal(with_lesion.image[-3:], without.image[-3:])


def test_prevalence_chooses_the_lesions():
    radiographs = list(generate(24, seed=1, size=64, prevalence={"Nodule": 3.0, "Mass": 1.0}))
    assert {name for m in radiographs for name in m.labels} == {"Nodule", "Mass"}


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="size is 32; a phantom needs at least 64"):
        phantom(0, size=32)
    with pytest.raises(ValueError, match=r"contrast is \(5, 2\)"):
        phantom(0, size=64, contrast=(5, 2))
    with pytest.raises(ValueError, match="no rule for Hernia; known are Atelectasis"):
        phantom(0, size=64, findings=("Hernia",))
    with pytest.raises(ValueError, match="no rule for Hernia"):
        phantom(0, size=64, prevalence={"Hernia": 1.0})
