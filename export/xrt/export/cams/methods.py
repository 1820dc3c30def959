"""The CAM family as ordinary operators, each from an activation A and the gradient G of the explained logits.

A is [n, K, h, w]; G is [C, n, K, h, w] with 1 where it is constant. All give ReLU(Σ_k …), [n, C, h, w]. Conventions
are those of pytorch-grad-cam, the constants in denominators included, so that its maps are the reference.
"""

from __future__ import annotations

from collections.abc import Callable

from xrt.export.ir.emitter import Emitter, Tensor
from xrt.export.ir.shapes import Shape
from xrt.runtime.bundle.manifest import CamMethod

_ROWS, _COLUMNS = 3, 4


def grad_cam(emit: Emitter, activation: Tensor, gradient: Tensor) -> Tensor:
    """α = the mean of G over positions (Selvaraju et al. 2017, arXiv 1610.02391)."""
    return _weighted_map(emit, activation, emit.reduce("ReduceMean", gradient, _spatial_axes(gradient)))


def hires_cam(emit: Emitter, activation: Tensor, gradient: Tensor) -> Tensor:
    """Σ_k G A at each position (Draelos and Carin 2020, arXiv 2011.08891)."""
    return _elementwise_map(emit, activation, gradient)


def layer_cam(emit: Emitter, activation: Tensor, gradient: Tensor) -> Tensor:
    """Σ_k ReLU(G) A at each position (Jiang et al. 2021, doi 10.1109/TIP.2021.3089943)."""
    return _elementwise_map(emit, activation, emit("Relu", gradient))


def xgrad_cam(emit: Emitter, activation: Tensor, gradient: Tensor) -> Tensor:
    """α = Σ G A / (Σ A + 1e-7) (Fu et al. 2020, arXiv 2008.02312)."""
    total = emit("Add", _spatial_sum(emit, activation), emit.constant(1e-7, "float32"))
    if _spatial_axes(gradient):
        product = emit("Mul", gradient, emit("Div", activation, total))
        return _weighted_map(emit, activation, emit.reduce("ReduceSum", product, [_ROWS, _COLUMNS]))
    return _weighted_map(emit, activation, emit("Mul", gradient, emit("Div", _spatial_sum(emit, activation), total)))


def grad_cam_plus_plus(emit: Emitter, activation: Tensor, gradient: Tensor) -> Tensor:
    """α = Σ ReLU(G) G² / (2 G² + G³ Σ A + 1e-6), 0 where G is 0 (Chattopadhay et al. 2018, arXiv 1710.11063).

    The paper's factor exp(y) is left out and the 1e-6 is absolute, as in pytorch-grad-cam.
    """
    square = emit("Mul", gradient, gradient)
    cubic_term = emit("Mul", emit("Mul", square, gradient), _spatial_sum(emit, activation))
    double_square = emit("Mul", square, emit.constant(2.0, "float32"))
    denominator = emit("Add", emit("Add", double_square, cubic_term), emit.constant(1e-6, "float32"))
    # ReLU(G) is 0 where G is 0, so no mask is needed; the quotient is finite there.
    ratio = emit("Mul", emit("Relu", gradient), emit("Div", square, denominator))
    full: Shape = (ratio.shape[0], *activation.shape)
    return _weighted_map(emit, activation, emit.reduce_sum(ratio, full, [_ROWS, _COLUMNS]))


METHODS: dict[CamMethod, Callable[[Emitter, Tensor, Tensor], Tensor]] = {
    "gradcam": grad_cam,
    "hirescam": hires_cam,
    "gradcam++": grad_cam_plus_plus,
    "xgradcam": xgrad_cam,
    "layercam": layer_cam,
}


def _spatial_axes(tensor: Tensor) -> list[int]:
    """The spatial axes along which a tensor [C, n, K, h, w] varies."""
    return [axis for axis in (_ROWS, _COLUMNS) if tensor.shape[axis] != 1]


def _spatial_sum(emit: Emitter, activation: Tensor) -> Tensor:
    """Σ A over positions, [n, K, 1, 1]."""
    return emit.reduce("ReduceSum", activation, [2, 3])


def _weighted_map(emit: Emitter, activation: Tensor, weights: Tensor) -> Tensor:
    """ReLU(Σ_k α A) for weights [C, n, K, 1, 1]; constant over the batch, they are the kernel of a 1×1 convolution."""
    batch, channels, height, width = activation.shape
    weights = emit.expand_axes(weights, (weights.shape[0], batch, channels, 1, 1), [2])
    classes = weights.shape[0]
    if weights.shape[1] == 1:
        kernel = emit.reshape(weights, (classes, channels, 1, 1))
        maps = emit("Conv", activation, kernel, shape=(batch, classes, height, width), kernel_shape=[1, 1])
    else:
        cells = int(height) * int(width)  # type: ignore[arg-type]
        per_image = emit.transpose(emit.reshape(weights, (classes, batch, channels)), [1, 0, 2])
        flat = emit.reshape(activation, (batch, channels, cells))
        product = emit("MatMul", per_image, flat, shape=(batch, classes, cells))
        maps = emit.reshape(product, (batch, classes, height, width))
    return emit("Relu", maps)


def _elementwise_map(emit: Emitter, activation: Tensor, gradient: Tensor) -> Tensor:
    """ReLU(Σ_k G A), position by position."""
    if not _spatial_axes(gradient):
        return _weighted_map(emit, activation, gradient)
    maps = emit.reduce("ReduceSum", emit("Mul", gradient, activation), [2])
    classes, batch, _, height, width = maps.shape
    return emit("Relu", emit.transpose(emit.reshape(maps, (classes, batch, height, width)), [1, 0, 2, 3]))
