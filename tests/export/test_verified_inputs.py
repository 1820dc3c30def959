"""`--verify-inputs` at export and in `xrt parity`, and a factory's own preprocessing function."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from PIL import Image

from xrt.export.publish import ExportOptions, publish_source
from xrt.export.sources import Description, open_source
from xrt.export.sources.stated_preprocessing import StatedPreprocessing
from xrt.runtime.errors import ModelError, RefusedByGate, UsageError
from xrt.runtime.progress import Progress

NETWORK = """
import numpy as np
import torch

def make():
    torch.manual_seed(3)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3, 2, 1), torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 3),
    )
    network[-1].weight.data.mul_(8)
    return network
"""
PREPROCESS = """
def preprocess(image):
    array = np.asarray(image.resize((64, 64), 0), dtype=np.float32) / 127.5 - 1
    return torch.from_numpy(array.transpose(2, 0, 1))
"""


class Notes(Progress):
    """Keeps what was noted."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def network(tmp_path, monkeypatch):
    """A module with a factory, and with a function `preprocess` if it is given one."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(text=""):
        sys.modules.pop("other_network", None)
        (tmp_path / "other_network.py").write_text(NETWORK + text)
        return "other_network:make"

    yield write
    sys.modules.pop("other_network", None)


@pytest.fixture(scope="module")
def archive(phantom_folder, tmp_path_factory):
    """What a Keras pipeline makes of twelve radiographs: nearest, and x / 127.5 - 1."""
    files = sorted((phantom_folder / "images").iterdir())[:12]
    greys = [np.asarray(Image.open(file).convert("RGB").resize((64, 64), Image.Resampling.NEAREST)) for file in files]
    inputs = np.stack(greys).transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
    path = tmp_path_factory.mktemp("original") / "made.npz"
    np.savez(path, files=np.array([file.name for file in files]), inputs=inputs)
    return path


def description(interpolation=None):
    stated = StatedPreprocessing(interpolation, True if interpolation else None, equalisation="none")
    return Description(input_size=(64, 64), mean=(0.5,), std=(0.5,), preprocessing=stated)


def test_the_filter_that_was_not_stated_is_found(network, archive, phantom_folder, tmp_path):
    """The Xception of the field: exported with bilinear, 0 flips, and 6 points of accuracy lost."""
    options = ExportOptions(verify_inputs=archive, images=phantom_folder / "images")
    source = open_source(network(), description())
    with pytest.raises(RefusedByGate, match=r"input_change_p95 is 0\.\d+.*--interpolation nearest"):
        publish_source(source, tmp_path / "a.xrt", options)
    assert not (tmp_path / "a.xrt").exists()
    forced = publish_source(source, tmp_path / "f.xrt", ExportOptions(**{**vars(options), "force": True})).bundle
    certificate = forced.manifest.certificates[0]
    assert (certificate.verdict, certificate.forced) == ("failed", True)
    assert certificate.figures["input_change_p95"] > 1 / 255
    assert forced.manifest.assumed


def test_the_right_filter_is_proved(network, archive, phantom_folder, tmp_path, xrt, capsys):
    source = open_source(network(), description("nearest"))
    assert source.assumed  # the rest was
    progress = Notes()
    options = ExportOptions(verify_inputs=archive, images=phantom_folder / "images")
    bundle = publish_source(source, tmp_path / "a.xrt", options, progress=progress).bundle
    assert "inputs and decisions are those of the original pipeline (made.npz, 12 images)" in progress.notes
    for certificate in bundle.manifest.certificates:
        assert certificate.figures["input_change_max"] <= certificate.limits["input_change_max"] == 3 / 255
        assert certificate.figures["source_flips"] == certificate.limits["source_flips"] == 0
        assert certificate.evidence.original == "12 images of made.npz"
        assert not any(gap.startswith("preprocessing") for gap in certificate.unmeasured)
    assert not bundle.manifest.assumed
    # The same of a bundle, without its model.
    arguments = ("--verify-inputs", archive, "--json", tmp_path / "parity.json")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert xrt("parity", tmp_path / "a.xrt", *arguments) == 1  # its images are not beside the archive
    assert "names images that are not under" in capsys.readouterr().err
    beside = phantom_folder / "images" / "made.npz"
    beside.write_bytes(archive.read_bytes())
    try:
        assert xrt("parity", tmp_path / "a.xrt", "--verify-inputs", beside, *arguments[2:]) == 0
    finally:
        beside.unlink()
    assert "input_change_max" in capsys.readouterr().out
    assert json.loads((tmp_path / "parity.json").read_text())["original"]["figures"]["source_flips"] == 0


def test_a_function_of_the_module_is_asked(network, tmp_path):
    spec = network(PREPROCESS)
    with pytest.raises(RefusedByGate, match=r"preprocess of the model's module.*--interpolation nearest"):
        publish_source(open_source(spec, description()), tmp_path / "a.xrt")
    bundle = publish_source(open_source(spec, description("nearest")), tmp_path / "b.xrt").bundle
    assert bundle.manifest.certificates[0].evidence.original == "8 images of preprocess of the model's module"
    spec = network("\ndef preprocess(image):\n    raise RuntimeError('no such thing')\n")
    with pytest.raises(ModelError, match="preprocess fails on a Pillow image: no such thing"):
        publish_source(open_source(spec, description()), tmp_path / "c.xrt")


def test_images_without_what_was_made_of_them(network, tmp_path):
    with pytest.raises(UsageError, match="--images is where the radiographs of --verify-inputs are"):
        publish_source(open_source(network(), description()), tmp_path / "a.xrt", ExportOptions(images=tmp_path))
