"""Making a tensor that is no module's output accessible to hooks."""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float

from xrt.runtime.errors import ModelError


class Probe(torch.nn.Module):
    """Returns a copy, from which gradients start: an in-place operator after it cannot change what a hook stored."""

    def forward(self, activation: Float[torch.Tensor, ...]) -> Float[torch.Tensor, ...]:
        """A copy of the values, as a leaf of the autograd graph."""
        return activation.detach().clone().requires_grad_()


def probed_module(
    program: torch.export.ExportedProgram, tensor: str, logits: str | None = None
) -> torch.fx.GraphModule:
    """The program as a module whose submodule `probe` gives the tensor of that name.

    `logits` is the node that the module is to return, where that is not the program's output. Raises ModelError when
    the program has no such tensor.
    """
    program_module = copy.deepcopy(program.module())
    # A plain GraphModule: the exported one refuses `eval()`, which tools call on every model.
    module = torch.fx.GraphModule(program_module, program_module.graph)
    for node in module.graph.nodes:
        if node.name == tensor:
            break
    else:
        raise ModelError(f"tensor {tensor!r} is not in torch's program")
    module.add_submodule("probe", Probe())
    with module.graph.inserting_after(node):
        probe = module.graph.call_module("probe", (node,))
    node.replace_all_uses_with(probe, delete_user_cb=lambda user: user is not probe)
    if logits is not None:
        (end,) = module.graph.find_nodes(op="output")
        end.args = (next(n for n in module.graph.nodes if n.name == logits),)
    module.recompile()
    return module
