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

    A vector is a matrix of one row on the left and of one column on the right. Only the axis that a product sums over
    is expanded.
    """
    emit, a, b, g = call.emit, call.x(0), call.x(1), call.g
    row, column = a.rank == 1, b.rank == 1
    full, held = list(call.outputs[0].shape), list(g.shape)
    if column:
        full, held = [*full, 1], [*held, 1]
    if row:
        full.insert(len(full) - (1 if full else 0), 1)
        held.insert(len(held) - 1, 1)
    a = emit.reshape(a, (1, *a.shape)) if row else a
    b = emit.reshape(b, (*b.shape, 1)) if column else b
    g, whole = emit.reshape(g, tuple(held)), (g.shape[0], *full)
    results: list[Tensor | None] = [None, None]
    if call.needed[0]:
        spread = emit.expand_axes(g, whole, [g.rank - 1])
        product = _operand(call, _product(call, spread, _swap(call, b)), full, a.shape)
        results[0] = emit.reshape(product, (g.shape[0], product.shape[-1])) if row else product
    if call.needed[1]:
        spread = emit.expand_axes(g, whole, [g.rank - 2])
        product = _operand(call, _product(call, _swap(call, a), spread), full, b.shape)
        results[1] = emit.reshape(product, product.shape[:-1]) if column else product
    return results


@vjp("Gemm")
def _gemm(call: Call) -> Sequence[Tensor | None]:
    """y = alpha A B + beta C, A and B possibly transposed: dA = alpha g Bᵀ, dB = alpha Aᵀ g, dC = beta g."""
    emit, full = call.emit, call.outputs[0].shape
    g, whole = call.g, (call.g.shape[0], *full)
    alpha, beta = call.attribute("alpha", 1.0), call.attribute("beta", 1.0)
    results: list[Tensor | None] = [None, None, None]
    if call.needed[0]:
        weight = _of_its_own(call, call.x(1)) if call.attribute("transB", 0) else _swap(call, call.x(1))
        product = _scaled(call, _product(call, emit.expand_axes(g, whole, [2]), weight), alpha)
        results[0] = _swap(call, product) if call.attribute("transA", 0) else product
    if call.needed[1]:
        left = call.x(0) if call.attribute("transA", 0) else _swap(call, call.x(0))
        product = _scaled(call, _product(call, left, emit.expand_axes(g, whole, [1])), alpha)
        results[1] = _swap(call, product) if call.attribute("transB", 0) else product
    if len(call.needed) > 2 and call.needed[2]:
        results[2] = _scaled(call, reduce_to(emit, g, full, call.input_shape(2)), beta)
    return results[: len(call.inputs)]


@vjp("Einsum")
def _einsum(call: Call) -> Sequence[Tensor | None]:
    """For "ab,bc->ac", the cotangent of the first operand is "Zac,bc->Zab", Z being the class.

    Along a letter that only one operand has and the result lacks, the cotangent is constant.
    """
    terms, result = _letters(call)
    return [_einsum_operand(call, terms, result, i) if needed else None for i, needed in enumerate(call.needed)]


def _einsum_operand(call: Call, terms: list[str], result: str, index: int) -> Tensor:
    emit, own = call.emit, terms[index]
    class_letter = next(letter for letter in ascii_letters if letter not in "".join([*terms, result]))
    others = [i for i in range(len(terms)) if i != index]
    elsewhere = "".join(terms[i] for i in others)
    whole = (call.g.shape[0], *call.outputs[0].shape)
    # A letter of the other operand is multiplied and perhaps summed over; others may stay constant.
    g = emit.expand_axes(call.g, whole, [1 + i for i, letter in enumerate(result) if letter in elsewhere])
    extents = {letter: d for i in others for letter, d in zip(terms[i], call.x(i).shape, strict=True)}
    extents |= dict(zip(class_letter + result, g.shape, strict=True))
    kept = class_letter + "".join(letter for letter in own if letter in extents)
    equation = ",".join([class_letter + result, *(terms[i] for i in others)]) + "->" + kept
    shape = tuple(extents[letter] for letter in kept)
    product = emit("Einsum", g, *(call.x(i) for i in others), shape=shape, equation=equation)
    return emit.reshape(product, (g.shape[0], *(extents.get(letter, 1) for letter in own)))


def _letters(call: Call) -> tuple[list[str], str]:
    """The letters of each operand and of the result. Raises ModelError for forms without a rule."""
    equation: str = call.attribute("equation")
    terms, result = einsum_letters(equation)
    repeated = any(len(set(term)) < len(term) for term in terms)
    if "." in equation or repeated or len(terms) > 2:
        raise ModelError(
            f"node {call.node.name!r}: no gradient rule for Einsum {equation!r}: write it as products of two operands "
            "without ellipsis and without diagonals"
        )
    return terms, result


def _of_its_own(call: Call, weight: Tensor) -> Tensor:
    """A square weight that the forward graph reads transposed, in memory of its own.

    OpenVINO (2026.4 on CPUs) packs a weight once for all its readers, and cannot tell a square one from its transpose.
    """
    if weight.array is None or weight.rank != 2 or weight.shape[0] != weight.shape[1]:
        return weight
    return call.emit.constant(weight.array.copy())


def _scaled(call: Call, tensor: Tensor, factor: float) -> Tensor:
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
