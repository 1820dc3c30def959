"""A graph that explains another layer than it says, as a whole export: every precision's limits see it."""

from __future__ import annotations

import pytest
import torch
from export.parity import manifest_of, randomise, run, source_of
from torch import nn

from xrt.export.compile import Request, compile_source
from xrt.runtime.certification.inputs import phantom_inputs
from xrt.runtime.gate import LIMITS, judge, measure


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_heatmaps_of_the_wrong_layer(precision):
    torch.manual_seed(1)
    trunk = [nn.Conv2d(1, 12, 3, 4, 1), nn.ReLU(), nn.Conv2d(12, 12, 3, 1, 1), nn.ReLU()]
    source = source_of(randomise(nn.Sequential(*trunk, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 3))))
    right, wrong = (compile_source(source, Request((layer,))) for layer in ("3", "1"))
    images = phantom_inputs(6, 3, source.preprocessing).images
    figures = measure(right.reference.outputs(images), run(wrong, source, images), manifest_of(source, right.graph))
    limits = {name: limit for name, limit in LIMITS[precision].items() if name != "peak"}
    verdict, reasons = judge(figures, limits, enough=False)
    assert verdict == "failed"
    assert all(reason.startswith("map_") for reason in reasons)
