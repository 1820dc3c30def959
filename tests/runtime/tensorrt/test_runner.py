"""Slots, buffers and graphs, on a simulated GPU. The same on a real one: `test_on_a_gpu.py`."""

from __future__ import annotations

import numpy as np
import pytest
from runtime.tensorrt.fakes import FakeCuda, fake_distribution

from xrt.runtime.errors import BackendError
from xrt.runtime.tensorrt.distributions import open_library
from xrt.runtime.tensorrt.engine_cache import StoredEngine
from xrt.runtime.tensorrt.runner import EngineRunner

OUTPUTS = ["logits", "cams"]
PLAN = StoredEngine(b"plan", batch_most=4)


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 1, 4, 4)).astype(np.uint8)


def opened(cuda: FakeCuda, outputs=OUTPUTS, kernels: bytes = b"", **options) -> EngineRunner:
    library = open_library(fake_distribution(cuda, **options))
    return EngineRunner(library, cuda, PLAN, "image", outputs, kernels)


def check(engine: EngineRunner, batch: np.ndarray) -> None:
    outputs = engine.run(batch)
    assert outputs["logits"][:, 0].tolist() == batch.sum(axis=(1, 2, 3)).tolist()
    assert outputs["logits"][:, 1].tolist() == batch.max(axis=(1, 2, 3)).tolist()
    assert np.array_equal(outputs["cams"], 2.0 * batch[:, :, :2, :2])


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 9, 23])
def test_any_number_of_images_comes_out_in_order(count):
    cuda = FakeCuda()
    engine = opened(cuda)
    for seed in range(3):
        check(engine, images(count, seed))
    engine.close()
    assert cuda.held == {}


def test_results_outlive_the_buffers():
    engine = opened(FakeCuda())
    first = engine.run(images(4, 1))["cams"]
    copy = first.copy()
    engine.run(images(4, 2))
    engine.close()
    assert np.array_equal(first, copy)


def test_a_size_that_repeats_is_recorded_once_and_launched():
    cuda = FakeCuda()
    engine = opened(cuda)
    for seed in range(4):
        check(engine, images(2, seed))
    assert cuda.log == ["execute", "execute", "record", "launch", "launch", "launch"]
    engine.close()
    assert cuda.held == {}


def test_another_size_drops_the_graph():
    cuda = FakeCuda()
    engine = opened(cuda)
    for count in (2, 2, 3, 2, 2):
        check(engine, images(count, count))
    assert cuda.log == ["execute", "execute", "record", "launch", "execute", "execute", "execute", "record", "launch"]
    engine.close()
    assert cuda.held == {}


def test_where_nothing_can_be_recorded_it_runs_plainly():
    cuda = FakeCuda(records=False)
    engine = opened(cuda)
    for seed in range(3):
        check(engine, images(2, seed))
    assert cuda.log == ["execute"] * 3


def test_a_recording_that_fails_is_ended_and_not_tried_again():
    cuda = FakeCuda()
    fails = iter([True, False, True, True])
    engine = opened(cuda, works=lambda: next(fails))
    for seed in range(3):
        check(engine, images(2, seed))
    assert cuda.log == ["execute", "execute", "record", "execute", "execute"]
    engine.close()
    assert cuda.held == {}


def test_a_runtime_with_kernels_of_its_own_captures_by_itself():
    cuda = FakeCuda()
    distribution = fake_distribution(cuda, runtime_cache=True)
    library = open_library(distribution)
    engine = EngineRunner(library, cuda, PLAN, "image", OUTPUTS, b"old")
    for seed in range(3):
        check(engine, images(2, seed))
    assert cuda.log == ["kernels old", "execute", "execute", "execute"]
    assert library.module.config.cuda_graph_strategy == "whole"
    assert engine.runtime_cache() == b"compiled"
    assert opened(FakeCuda()).runtime_cache() == b""


def test_logits_alone():
    engine = opened(FakeCuda(), outputs=["logits"])
    assert list(engine.run(images(3))) == ["logits"]


def test_a_plan_that_does_not_load_is_one_line():
    with pytest.raises(BackendError, match=r"TensorRT 11\.4\.0 cannot load the engine \(the plan is for another vers"):
        opened(FakeCuda(), loads=False)


def test_a_failed_run_is_one_line():
    with pytest.raises(BackendError, match="TensorRT failed while running"):
        opened(FakeCuda(), works=lambda: False).run(images(1))


@pytest.mark.parametrize(
    ("output", "message"),
    [("other", "the engine has no tensor 'other', only image, logits"), ("odd", "odd is bf16, which is none of float")],
)
def test_an_output_that_cannot_be_had_is_named(output, message):
    with pytest.raises(BackendError, match=message):
        opened(FakeCuda(), outputs=[output])


def test_too_little_memory_gives_everything_back():
    cuda = FakeCuda(memory=40)
    with pytest.raises(BackendError, match="out of memory"):
        opened(cuda)
    assert cuda.held == {}
