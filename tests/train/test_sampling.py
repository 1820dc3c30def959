"""The order of cases, and which come more often."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from xrt.train.data.sampling import EpochSampler, balancing_weights


def test_an_epoch_has_every_case_once_in_an_order_of_its_own() -> None:
    sampler = EpochSampler(50, seed=3)
    first = list(sampler)
    assert sorted(index for _, index in first) == list(range(50))
    assert {epoch for epoch, _ in first} == {0}
    assert list(sampler) == first
    sampler.set_epoch(1)
    second = list(sampler)
    assert [index for _, index in second] != [index for _, index in first]
    assert [index for _, index in EpochSampler(50, seed=4)] != [index for _, index in first]


def test_a_run_that_is_taken_up_gets_the_rest_of_its_epoch() -> None:
    whole = EpochSampler(50, seed=3)
    whole.set_epoch(2)
    resumed = EpochSampler(50, seed=3, start=(2, 30))
    assert list(resumed) == list(whole)[30:]
    assert len(resumed) == 50, "the epoch is as long as ever"
    for sampler in (whole, resumed):
        sampler.set_epoch(3)
    assert list(resumed) == list(whole)


def test_balancing_draws_rare_classes_as_often_as_common_ones() -> None:
    # 90 healthy, 8 of class 0, 2 of class 1.
    targets = torch.zeros(100, 2)
    targets[:8, 0] = 1
    targets[8:10, 1] = 1
    weights = balancing_weights(targets)
    assert weights.tolist() == pytest.approx([1 / 8] * 8 + [1 / 2] * 2 + [1 / 90] * 90)
    sampler = EpochSampler(100, seed=0, weights=weights)
    counts: Counter[int] = Counter()
    for epoch in range(60):
        sampler.set_epoch(epoch)
        counts.update(0 if i < 8 else 1 if i < 10 else 2 for _, i in sampler)
    # A third of 6000 each; five standard deviations of a binomial count are 183.
    assert all(abs(counts[kind] - 2000) < 183 for kind in range(3))


def test_balancing_exclusive_classes() -> None:
    weights = balancing_weights(torch.eye(3)[[0, 0, 0, 1, 2, 2]])
    assert weights.tolist() == pytest.approx([1 / 3] * 3 + [1] + [1 / 2] * 2)
