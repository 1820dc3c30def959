"""Every rule of the table against the oracle, with shapes, attributes and broadcasting drawn."""

from __future__ import annotations

import numpy as np
import pytest
from export.autodiff.graphs import VARIED
from export.autodiff.oracle import check, parse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xrt.export.autodiff import VJPS

# Enough to meet most attributes once; run with hundreds after a rule has changed.
EXAMPLES = 12


def test_every_rule_is_varied():
    assert set(VARIED) == set(VJPS)


@pytest.mark.parametrize("operator", VARIED)
def test_rule_agrees_with_the_directional_derivative(operator):
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def agrees(data):
        text = data.draw(VARIED[operator])
        rng = np.random.default_rng(data.draw(st.integers(0, 99)))
        model = parse(text, rng)
        assert operator in {node.op_type for node in model.graph.node}
        axes = range(len(model.graph.output[0].type.tensor_type.shape.dim))
        # Along these axes of the output the cotangent is constant, as it is before a pooling or a mean.
        constant_axes = data.draw(st.sets(st.sampled_from(axes)) if axes else st.just(set()))
        check(model, rng, constant_axes)

    agrees()
