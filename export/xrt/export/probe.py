"""Giving a name that hooks can hold to a tensor that no module owns."""

from __future__ import annotations

import torch
from jaxtyping import Float

from xrt.runtime.errors import ModelError


class Probe(torch.nn.Module):
    """Hands on a copy: whatever follows in place cannot reach what a hook has kept."""

    def forward(self, activation: Float[torch.Tensor, "..."]) -> Float[torch.Tensor, "..."]:
        """The same values in memory of their own."""
        return activation.clone()


def probed_module(program: torch.export.ExportedProgram, tensor: str) -> torch.fx.GraphModule:
    """The program as a module whose submodule `probe` gives the tensor of that name.

    Raises ModelError when the program has no such tensor.
    """
    module = program.module()
    for node in module.graph.nodes:
        if node.name == tensor:
            break
    else:
        raise ModelError(f"tensor {tensor!r} is not in torch's program")
    module.add_submodule("probe", Probe())
    with module.graph.inserting_after(node):
        probe = module.graph.call_module("probe", (node,))
    node.replace_all_uses_with(probe, delete_user_cb=lambda user: user is not probe)
    module.recompile()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module
