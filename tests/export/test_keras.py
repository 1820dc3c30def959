"""Classifiers as Keras itself writes them, with its own pipeline beside them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from xrt.export.publish import ExportOptions, publish_source
from xrt.export.sources import Description, open_source
from xrt.export.sources.stated_preprocessing import StatedPreprocessing
from xrt.runtime import Screener, ScreeningOptions
from xrt.runtime.errors import RefusedByGate

PROGRAM = Path(__file__).with_name("keras_program.py")
PACKAGES = ("tensorflow-cpu", "tf2onnx", "pillow")
UV = ["uv", "run", "--no-project", "--quiet", "--python", "3.11", *(o for name in PACKAGES for o in ("--with", name))]


@pytest.fixture(scope="module")
def keras():
    """How to run a program where Keras is installed."""
    if shutil.which("uv") is None:
        pytest.skip("uv, which makes an environment with Keras, is not installed")
    done = subprocess.run([*UV, "python", "-c", "import keras, tf2onnx"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"Keras cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
    return [*UV, "python", str(PROGRAM)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "side"),
    [("xception", 150), ("mobilenet_v2", 96), ("vgg16", 64), ("densenet", 96), ("mobilenet_v3", 96)],
)
def test_a_keras_application_gets_its_own_figures(keras, phantom_folder, tmp_path, name, side):
    images = tmp_path / "images"
    images.mkdir()
    for file in sorted((phantom_folder / "images").iterdir())[:16]:
        shutil.copy(file, images)
    done = subprocess.run([*keras, str(tmp_path), name, str(side)], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr[-2000:]

    def source(interpolation):
        stated = StatedPreprocessing(interpolation, True if interpolation == "bilinear" else None, "stretch")
        return open_source(
            str(tmp_path / "model.onnx"),
            Description(labels=("Normal", "TB"), normalisation=f"keras:{name}", preprocessing=stated),
        )

    options = ExportOptions(verify_inputs=tmp_path / "made.npz", images=images)
    with pytest.raises(RefusedByGate, match=r"input_change_p95 is .*nearest"):
        publish_source(source("bilinear"), tmp_path / "wrong.xrt", options)
    bundle = publish_source(source("nearest"), tmp_path / "right.xrt", options).bundle
    expected = np.load(tmp_path / "made.npz")["probabilities"]
    assert np.ptp(expected[:, 1]) > 0.2, "it tells images apart"
    with Screener(bundle, options=ScreeningOptions(workers=0)) as screener:
        results = list(screener.screen(sorted(images.iterdir())))
    actual = [[finding.probability for finding in result.findings] for result in results]
    np.testing.assert_allclose(actual, expected, atol=1e-3)
