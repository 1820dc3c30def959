"""Fixtures shared by all parts. What is costly to make, exported graphs above all, is made once a session."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from functools import cache as cache_results
from pathlib import Path

# Before anything that computes is imported: a worker is given a core, and threads that wait for each other cost far
# more than they save.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory) -> Path:
    """A cache of the tests' own."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["XRT_CACHE_DIR"] = str(folder)
    os.environ["XRT_CACHE_KEY"] = str(folder / "cache.key")
    return folder


@pytest.fixture(scope="session", autouse=True)
def phantoms_once() -> Iterator[None]:
    """Every export asks for the same phantoms: drawing them takes a fifth of the suite, so each is drawn once."""
    from xrt.runtime.phantoms import inputs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "phantom", cache_results(inputs.phantom))
        patch.setattr(inputs, "_input", cache_results(inputs._input))
        yield


@pytest.fixture
def xrt(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run a command in this process, as a user would; gives its exit code."""

    def run(*arguments: object) -> int:
        from xrt.runtime.cli.app import main

        monkeypatch.setattr(sys, "argv", ["xrt", *map(str, arguments)])
        try:
            main()
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    return run


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real radiographs beside the checkout; tests that need it are skipped where it is not."""
    folder = REPOSITORY.parent / "shared"
    if not (folder / "xrays").is_dir():
        pytest.skip("the folder of real radiographs is not beside the checkout")
    return folder


@pytest.fixture(scope="session")
def compact_source():
    """A small untrained classifier of three findings at 64 px, its head and batch statistics re-drawn."""
    import torch

    from xrt.export.sources import TorchSource
    from xrt.runtime.bundle.manifest import ClassSpec, Preprocessing
    from xrt.runtime.certification.inputs import phantom_inputs
    from xrt.train.models import ModelSpec, Normalisation, build_model

    torch.manual_seed(0)
    module = build_model(ModelSpec(architecture="compact", channels=1), 3)
    redraw(module, phantom_inputs(8, 1, Preprocessing(height=64, width=64)).images, 1)
    return TorchSource(
        name="compact",
        module=module.eval(),
        task="multilabel",
        classes=(
            ClassSpec(name="Mass"),
            ClassSpec(name="Nodule", threshold=0.4),
            ClassSpec(name="No Finding", urgency=0),
        ),
        explained_class=None,
        preprocessing=Preprocessing(height=64, width=64),
        normalisation=Normalisation(mean=(0.5,), std=(0.25,)),
        origin="test",
        sha256="0" * 64,
    )


@pytest.fixture(scope="session")
def bundle_path(compact_source, tmp_path_factory) -> Path:
    """A certified bundle of `compact_source`. Never change it in place: copy it."""
    from xrt.export.publish import publish_source

    path = tmp_path_factory.mktemp("bundles") / "compact.xrt"
    publish_source(compact_source, path)
    return path


@pytest.fixture
def bundle(bundle_path):
    from xrt.runtime import Bundle

    return Bundle.open(bundle_path)


@pytest.fixture(scope="session")
def phantom_folder(tmp_path_factory) -> Path:
    """Forty phantoms in the NIH layout."""
    from xrt.runtime.phantoms import write

    folder = tmp_path_factory.mktemp("phantoms") / "nih"
    write(folder, layout="nih", count=40, seed=5, size=128, workers=0)
    return folder


def redraw(module, images: np.ndarray, channels: int) -> None:
    """Give an untrained module weights and batch-norm statistics that make its logits and maps worth comparing.

    Statistics as initialised let signals die out or explode in deep networks, and then every image looks alike: they
    are taken from `images` (uint8 [n, 1, H, W]) instead. Layer scales of 1e-6 and weights that start at zero are drawn
    again. The head is drawn so that logits differ between images but probabilities do not saturate.
    """
    import torch

    # The very normalisation that the tests' sources have: statistics of another one let deep networks explode.
    mean, std = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) if channels == 3 else ((0.5,), (0.25,))
    centre, deviation = (torch.tensor(v).view(1, -1, 1, 1) for v in (mean, std))
    pixels = (torch.from_numpy(images).float() / 255 - centre) / deviation
    norms = [layer for layer in module.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        module.eval()
        for name, parameter in module.named_parameters():
            if parameter.ndim >= 2 and not parameter.any():
                parameter.normal_(0, 0.02)
            # A layer scale, by its size: no weight that is drawn is 1e-4 throughout.
            if 0 < parameter.abs().max() < 1e-3 or "layer_scale" in name:
                parameter.uniform_(0.5, 1.5)
        for block in module.modules():
            # Tame residual branches, or rounding grows from block to block until nothing can be compared.
            last = getattr(block, "bn3", getattr(block, "bn2", None))
            if isinstance(last, torch.nn.BatchNorm2d):
                last.weight.fill_(0.3)
        for layer in norms:
            layer.momentum = 1.0
            layer.train()
        module(pixels)
        module.eval()
        for layer in norms:
            # A channel that hardly varies on these few images would be amplified a hundredfold on others, rounding too.
            layer.running_var.clamp_(min=0.1 * float(layer.running_var.mean()))
        head = [layer for layer in module.modules() if isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d))][-1]
        head.weight.normal_(0, 1.0 / np.sqrt(head.weight[0].numel()))
