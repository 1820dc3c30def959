"""What export refuses, and that it then leaves no files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from xrt.export import publish as publishing
from xrt.export.compile import Request, compile_source
from xrt.export.publish import ExportOptions, publish_source
from xrt.export.references.torch_reference import TorchReference
from xrt.runtime.errors import ModelError, RefusedByGate, UsageError
from xrt.runtime.outputs import ModelOutputs
from xrt.runtime.progress import Progress
from xrt.runtime.session import open_session
from xrt.train.models import Normalisation


class Tiny(torch.nn.Module):
    """A classifier of 64 px whose tail is given."""

    def __init__(self, tail) -> None:
        super().__init__()
        self.features = torch.nn.Conv2d(1, 4, 3, 8, 1)
        self.tail = tail

    def forward(self, x):
        return self.tail(self.features(x))


class Pooled(torch.nn.Module):
    def forward(self, x):
        return x.mean((2, 3))


def test_an_operator_without_a_rule_is_named(compact_source):
    class Tail(torch.nn.Module):
        def forward(self, x):
            grid = torch.zeros(1, 1, 1, 2).expand(x.shape[0], 1, 1, 2)
            return torch.nn.functional.grid_sample(x, grid, align_corners=False).mean((2, 3))[:, :3]

    with pytest.raises(ModelError, match=r"no gradient rule for operator GridSample \(node .*--target-layer"):
        compile_source(replace(compact_source, module=Tiny(Tail()).eval()))


def test_a_model_without_a_spatial_layer(compact_source):
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64 * 64, 3)).eval()
    with pytest.raises(ModelError, match=r"no spatial layer .*--target-layer"):
        compile_source(replace(compact_source, module=module))


def test_the_map_of_class_scores_is_not_explained(compact_source):
    tail = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Conv2d(4, 3, 1), Pooled())
    model = compile_source(replace(compact_source, module=Tiny(tail).eval()))
    assert model.graph.cams[0].channels == 4


def test_an_unknown_target_layer_lists_some_that_exist(compact_source):
    with pytest.raises(ModelError, match=r"no layer 'layer9' on the way to the logits .*some .*features"):
        compile_source(compact_source, Request(("layer9",)))


def test_weights_that_are_not_finite(compact_source):
    module = Tiny(torch.nn.Sequential(Pooled(), torch.nn.Linear(4, 3))).eval()
    with torch.no_grad():
        module.features.weight[0] = float("nan")
    with pytest.raises(ModelError, match=r"weights are not finite: features\.weight"):
        compile_source(replace(compact_source, module=module))


def test_normalisation_of_another_number_of_channels(compact_source):
    with pytest.raises(ModelError, match="torch cannot export|3 means"):
        compile_source(replace(compact_source, normalisation=Normalisation(mean=(0.5,) * 3, std=(0.2,) * 3)))


def test_a_bundle_that_exists_is_kept(compact_source, bundle_path):
    before = (bundle_path / "bundle.json").read_bytes()
    with pytest.raises(UsageError, match="immutable"):
        publish_source(compact_source, bundle_path)
    assert (bundle_path / "bundle.json").read_bytes() == before


@pytest.fixture
def wrong_reference(monkeypatch):
    """A reference whose maps are those of another class: what a wrong gradient graph would look like."""
    outputs = TorchReference._outputs

    def shifted(self, images):
        right = outputs(self, images)
        return ModelOutputs(right.logits, {name: np.roll(cams, 1, axis=1) for name, cams in right.cams.items()})

    monkeypatch.setattr(TorchReference, "_outputs", shifted)


@pytest.mark.usefixtures("wrong_reference")
def test_a_graph_that_misses_a_limit_is_not_written(compact_source, tmp_path):
    with pytest.raises(RefusedByGate, match="map_correlation is .*the limit is 0.999"):
        publish_source(compact_source, tmp_path / "wrong.xrt")
    assert not list(tmp_path.iterdir())


def test_a_forced_bundle_says_so(compact_source, tmp_path, monkeypatch):
    """Forced in spite of too little evidence: the known answers hold, and every session warns."""
    monkeypatch.setattr(publishing, "images_needed", lambda decisions: 4)
    with pytest.raises(RefusedByGate, match="insufficient"):
        publish_source(compact_source, tmp_path / "few.xrt")
    bundle = publish_source(compact_source, tmp_path / "few.xrt", ExportOptions(force=True)).bundle
    assert bundle.manifest.certificates[0].forced
    opened = open_session(bundle)
    opened.session.close()
    assert "12 decisions on different images are insufficient evidence" in (opened.warning or "")


def test_long_steps_are_counted(compact_source, tmp_path):
    """The reference and every back end run all images: with a large network that takes minutes."""
    counted = {}

    class Counts(Progress):
        def count(self, done, total, what):
            counted[what] = (done, total)

    publish_source(compact_source, tmp_path / "a.xrt", progress=Counts())
    assert counted.keys() == {"reference", "session"}
    assert all(done == total for done, total in counted.values())
