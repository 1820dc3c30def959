"""Matrix products and Einstein sums: the cotangent is multiplied by the other operand, transposed."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_letters

from xrt.export.autodiff.rules.broadcasting import reduce_to
from xrt.export.autodiff.table import Call, vjp
from xrt.export.ir.einsum import einsum_letters
from xrt.export.ir.emitter import Tensor
from xrt.export.ir.shapes import Shape, broadcast
from xrt.runtime.errors import ModelError


@vjp("MatMul")
def _matmul(call: Call) -> Sequence[Tensor | None]:
    """dA = g Bᵀ and dB = Aᵀ g, summed over the batch axes that were broadcast.

    A vector is a matrix of one row on the left and of one column on the right. Only the axis over which a product sums
    is expanded.
    """
    emit, a, b, g = call.emit, call.x(0), call.x(1), call.g
    row, column = a.rank == 1, b.rank == 1
    full, g_shape = list(call.outputs[0].shape), list(g.shape)
    if column:
        full, g_shape = [*full, 1], [*g_shape, 1]
    if row:
        full.insert(len(full) - (1 if full else 0), 1)
        g_shape.insert(len(g_shape) - 1, 1)
    a = emit.reshape(a, (1, *a.shape)) if row else a
    b = emit.reshape(b, (*b.shape, 1)) if column else b
    g, full_g = emit.reshape(g, tuple(g_shape)), (g.shape[0], *full)
    results: list[Tensor | None] = [None, None]
    if call.needed[0]:
        expansion = emit.expand_axes(g, full_g, [g.rank - 1])
        product = _operand(call, _product(call, expansion, _swap(call, b)), full, a.shape)
        results[0] = emit.reshape(product, (g.shape[0], product.shape[-1])) if row else product
    if call.needed[1]:
        expansion = emit.expand_axes(g, full_g, [g.rank - 2])
        product = _operand(call, _product(call, _swap(call, a), expansion), full, b.shape)
        results[1] = emit.reshape(product, product.shape[:-1]) if column else product
    return results


@vjp("Gemm")
def _gemm(call: Call) -> Sequence[Tensor | None]:
    """y = alpha A B + beta C, A and B possibly transposed: dA = alpha g Bᵀ, dB = alpha Aᵀ g, dC = beta g."""
    emit, full = call.emit, call.outputs[0].shape
    g, full_g = call.g, (call.g.shape[0], *full)
    alpha, beta = call.attribute("alpha", 1.0), call.attribute("beta", 1.0)
    results: list[Tensor | None] = [None, None, None]
    if call.needed[0]:
        weight = _copy_if_square(call, call.x(1)) if call.attribute("transB", 0) else _swap(call, call.x(1))
        product = _scale(call, _product(call, emit.expand_axes(g, full_g, [2]), weight), alpha)
        results[0] = _swap(call, product) if call.attribute("transA", 0) else product
    if call.needed[1]:
        left = call.x(0) if call.attribute("transA", 0) else _swap(call, call.x(0))
        product = _scale(call, _product(call, left, emit.expand_axes(g, full_g, [1])), alpha)
        results[1] = _swap(call, product) if call.attribute("transB", 0) else product
    if len(call.needed) > 2 and call.needed[2]:
        results[2] = _scale(call, reduce_to(emit, g, full, call.input_shape(2)), beta)
    return results[: len(call.inputs)]


@vjp("Einsum")
def _einsum(call: Call) -> Sequence[Tensor | None]:
    """For "ab,bc->ac", the cotangent of the first operand is "Zac,bc->Zab", where Z is the class.

    The cotangent is constant along a letter that is in one operand only and not in the result.
    """
    terms, result = _letters(call)
    return [_einsum_operand(call, terms, result, i) if needed else None for i, needed in enumerate(call.needed)]


def _einsum_operand(call: Call, terms: list[str], result: str, index: int) -> Tensor:
    emit, term = call.emit, terms[index]
    class_letter = next(letter for letter in ascii_letters if letter not in "".join([*terms, result]))
    others = [i for i in range(len(terms)) if i != index]
    other_letters = "".join(terms[i] for i in others)
    full_g = (call.g.shape[0], *call.outputs[0].shape)
    # A letter of the other operand is multiplied and perhaps summed over; others may stay constant.
    g = emit.expand_axes(call.g, full_g, [1 + i for i, letter in enumerate(result) if letter in other_letters])
    extents = {letter: d for i in others for letter, d in zip(terms[i], call.x(i).shape, strict=True)}
    extents |= dict(zip(class_letter + result, g.shape, strict=True))
    letters = class_letter + "".join(letter for letter in term if letter in extents)
    equation = ",".join([class_letter + result, *(terms[i] for i in others)]) + "->" + letters
    shape = tuple(extents[letter] for letter in letters)
    product = emit("Einsum", g, *(call.x(i) for i in others), shape=shape, equation=equation)
    return emit.reshape(product, (g.shape[0], *(extents.get(letter, 1) for letter in term)))


def _letters(call: Call) -> tuple[list[str], str]:
    """The letters of each operand and of the result. Raises ModelError for forms without a rule."""
    equation: str = call.attribute("equation")
    terms, result = einsum_letters(equation)
    has_diagonal = any(len(set(term)) < len(term) for term in terms)
    if "." in equation or has_diagonal or len(terms) > 2:
        raise ModelError(
            f"node {call.node.name!r}: no gradient rule for Einsum {equation!r}: write it as products of two operands "
            "without ellipsis and without diagonals"
        )
    return terms, result


def _copy_if_square(call: Call, weight: Tensor) -> Tensor:
    """A copy of a square weight that the forward graph reads transposed.

    OpenVINO (2026.4 on CPUs) packs a weight once for all nodes that read it, and confuses a square one with its
    transpose.
    """
    if weight.array is None or weight.rank != 2 or weight.shape[0] != weight.shape[1]:
        return weight
    return call.emit.constant(weight.array.copy())


def _scale(call: Call, tensor: Tensor, factor: float) -> Tensor:
    return tensor if factor == 1.0 else call.emit("Mul", tensor, call.emit.constant(factor, "float32"))


def _swap(call: Call, tensor: Tensor) -> Tensor:
    """The last two axes exchanged."""
    order = list(range(tensor.rank))
    order[-2:] = order[:-3:-1]
    return call.emit.transpose(tensor, order)


def _product(call: Call, a: Tensor, b: Tensor) -> Tensor:
    """MatMul with numpy's broadcasting of the axes before the last two."""
    lead = broadcast(a.shape[:-2], b.shape[:-2])
    return call.emit("MatMul", a, b, shape=(*lead, a.shape[-2], b.shape[-1]))


def _operand(call: Call, product: Tensor, full: Sequence[int | object], operand: Shape) -> Tensor:
    """Sum a product over the batch axes along which the operand was broadcast."""
    return reduce_to(call.emit, product, (*full[:-2], *operand[-2:]), operand)  # type: ignore[arg-type]
