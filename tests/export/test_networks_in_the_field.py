"""Networks as people write them: called twice, random, bounded, with a head for each class, pooled to pyramids."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
import torch
import torch.nn.functional as F
from export.parity import source_of
from torch import nn

from xrt.export.compile import Request, compile_source
from xrt.export.passes.sigmoids import join_sigmoids
from xrt.export.sources import Description, open_source
from xrt.export.sources.torch_program import capture
from xrt.runtime.errors import ModelError

SIDE = 64


def trunk(channels=1):
    torch.manual_seed(2)
    layers = []
    for before, after in ((channels, 8), (8, 16), (16, 16)):
        layers += [nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers)


class Network(nn.Module):
    """A trunk, and a head that each test writes."""

    def __init__(self, head=None, outputs=3):
        super().__init__()
        self.trunk, self.fc = trunk(), nn.Linear(16, outputs)
        self.fc.weight.data.mul_(8)
        self.head = head

    def pooled(self, x):
        return self.trunk(x).mean((2, 3))

    def forward(self, x):
        return self.head(self, x) if self.head else self.fc(self.pooled(x))


def source(head, module=None):
    return source_of(module or Network(head), classes=3, size=SIDE)


def check(module, images=5):
    """The graph gives the module's logits. Returns the compiled model."""
    model = compile_source(source(None, module))
    pixels = np.random.default_rng(0).integers(0, 256, size=(images, 1, SIDE, SIDE), dtype=np.uint8)
    import onnxruntime

    session = onnxruntime.InferenceSession(model.data, providers=["CPUExecutionProvider"])
    logits, cams = session.run(["logits", "cams"], {"image": pixels})
    expected = model.reference.outputs(pixels)
    # fp32 rounding through a dozen layers.
    np.testing.assert_allclose(logits, expected.logits, atol=1e-4)
    np.testing.assert_allclose(cams, expected.cams["cams"], atol=1e-5 * max(expected.cams["cams"].max(), 1))
    return model


def flipped(network, x):
    return (network.fc(network.pooled(x)) + network.fc(network.pooled(x.flip(-1)))) / 2


def test_a_module_that_is_called_twice_is_no_layer():
    """It took one call's tensor: the mirrored image's map was certified, so that left and right were exchanged."""
    with pytest.raises(ModelError, match=r"layer 'trunk' is called 2 times.*--target-layer: relu_2, relu_5"):
        compile_source(source(flipped), Request(("trunk",)))
    plain = compile_source(source(flipped), Request(("relu_2",)))
    assert plain.notes == ()
    mirrored = compile_source(source(flipped), Request(("relu_5",)))
    assert mirrored.notes == (
        "heatmaps of relu_5 do not lie as the radiograph does: the image is mirrored left to right before it (flip)",
    )
    assert [cam.layer for cam in plain.graph.cams] == ["relu_2"]


def test_suggestions_can_be_explained():
    with pytest.raises(ModelError) as caught:
        compile_source(source(flipped))
    names = str(caught.value).partition("can be explained ")[2].split(", ")
    assert len(names) >= 3
    for name in names:
        compile_source(source(flipped), Request((name,)))


class Stream(nn.Module):
    """A stem, and two blocks whose last part is a projection."""

    def __init__(self):
        super().__init__()
        self.stem = trunk()
        self.blocks = nn.ModuleList(nn.Sequential(nn.ReLU(), nn.Conv2d(16, 16, 1)) for _ in range(2))

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return x.mean((2, 3))


def test_whole_blocks_are_suggested_before_their_parts():
    class TwoStreams(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right, self.fc = Stream(), Stream(), nn.Linear(16, 3)

        def forward(self, x):
            return self.fc(self.left(x) + self.right(x.flip(-1)))

    with pytest.raises(ModelError) as caught:
        compile_source(source(None, TwoStreams()))
    names = str(caught.value).partition("can be explained ")[2].split(", ")
    assert names[:2] == ["right.stem", "left.stem"]
    assert names[2:4] == ["right.blocks.1", "right.blocks.0"]


def test_a_crop_of_the_image_is_noted():
    model = compile_source(source(lambda network, x: network.fc(network.pooled(x[:, :, 8:-8, 8:-8]))))
    assert model.notes
    assert all("the image is cropped before it" in note for note in model.notes)

    def focus(network, x):
        return network.fc(network.pooled(torch.cat([x[..., ::2, ::2], x[..., 1::2, 1::2]], 1).mean(1, keepdim=True)))

    def rolled(network, x):
        return network.fc(network.trunk(x).roll(1, 3).relu().mean((2, 3)))

    assert not compile_source(source(focus)).notes
    assert not compile_source(source(rolled)).notes


def joined(network, x):
    return network.fc(network.pooled(torch.cat([x, x.flip(3)], 0))).chunk(2, 0)[0]


def test_a_batch_that_is_doubled_inside_is_named():
    with pytest.raises(ModelError, match=r"Network doubles the batch inside \(cat: images are joined.*average"):
        compile_source(source(joined))


def dropped(network, x):
    return network.fc(F.dropout(network.pooled(x), 0.5))


def noisy(network, x):
    return network.fc(network.pooled(x + torch.randn_like(x)))


def test_three_versions_of_an_image_are_named_as_well():
    def head(network, x):
        return network.fc(network.pooled(torch.cat([x, x.flip(3), x.flip(2)], 0))).chunk(3, 0)[0]

    with pytest.raises(ModelError, match="Network makes the batch 3 times as large inside"):
        compile_source(source(head))


@pytest.mark.parametrize(("head", "name"), [(dropped, "dropout"), (noisy, "randn_like")])
def test_a_random_network_is_named(head, name):
    with pytest.raises(ModelError, match=rf"Network is random: {name} in its forward draws new numbers"):
        compile_source(source(head))


def test_dropout_in_evaluation_mode_is_none():
    check(Network(lambda network, x: network.fc(F.dropout(network.pooled(x), 0.5, training=network.training))))


def test_batch_normalisation_without_statistics_is_named():
    network = Network()
    network.trunk[4] = nn.BatchNorm2d(16, track_running_stats=False)
    with pytest.raises(ModelError, match=r"batch normalisation 'trunk\.4' has no running statistics"):
        compile_source(source(None, network))


BOUNDED = {
    "half of 1 + tanh": lambda network, x: 0.5 * (torch.tanh(network.fc(network.pooled(x))) + 1),
    "clipped": lambda network, x: network.fc(network.pooled(x)).clamp(0, 1),
    "a mean of two sigmoids": lambda network, x: (
        (torch.sigmoid(network.fc(network.pooled(x))) + torch.sigmoid(network.fc(network.pooled(x)) / 2)) / 2
    ),
    "hard sigmoid": lambda network, x: F.hardsigmoid(network.fc(network.pooled(x))),
}


@pytest.mark.parametrize("head", BOUNDED)
def test_what_cannot_leave_0_to_1_is_no_logit(head):
    with pytest.raises(ModelError, match="holds probabilities"):
        compile_source(source(BOUNDED[head]))


def test_logits_that_happen_to_lie_between_0_and_1_are_logits():
    network = Network()
    network.fc.weight.data.mul_(1e-3)
    network.fc.bias.data.fill_(0.5)
    check(network)


LIKE = {
    "zeros": lambda pooled: pooled + torch.zeros_like(pooled),
    "ones": lambda pooled: pooled * torch.ones_like(pooled).cumsum(1),
    "full": lambda pooled: torch.full_like(pooled, 0.5) - pooled,
}


@pytest.mark.parametrize("name", LIKE)
def test_a_tensor_like_another_has_only_its_shape(name):
    """No gradient flows through a shape: "constant over the batch is summed over it" was said of these."""
    check(Network(lambda network, x: network.fc(LIKE[name](network.pooled(x)))))


def test_cumulative_sums_and_triangles_have_gradients():
    def head(network, x):
        pooled = network.pooled(x)
        return network.fc(pooled.cumsum(1) + (pooled.unsqueeze(2) @ pooled.unsqueeze(1)).tril().sum(2))

    check(Network(head))


class Pyramid(nn.Module):
    def __init__(self, sizes):
        super().__init__()
        self.trunk, self.sizes = trunk(), sizes
        self.fc = nn.Linear(16 * sum(s * s for s in sizes), 3)

    def forward(self, x):
        a = self.trunk(x)
        return self.fc(torch.cat([F.adaptive_max_pool2d(a, s).flatten(1) for s in self.sizes], 1))


@pytest.mark.parametrize("sizes", [(1, 2, 3), (5,), (7, 4)])
def test_pooling_to_sizes_that_do_not_divide(sizes):
    torch.manual_seed(0)
    assert compile_source(source(None, Pyramid(sizes))).graph.cams[0].height == 8
    check(Pyramid(sizes))


class Heads(nn.Module):
    """A head for each class; `join` says how their probabilities become one tensor."""

    def __init__(self, join):
        super().__init__()
        self.trunk, self.join = trunk(), join
        self.heads = nn.ModuleList(nn.Linear(16, 1) for _ in range(3))

    def forward(self, x):
        pooled = self.trunk(x).mean((2, 3))
        return self.join([torch.sigmoid(head(pooled)) for head in self.heads])


JOINS = {
    "cat": lambda parts: torch.cat(parts, 1),
    "stack": lambda parts: torch.stack([part[:, 0] for part in parts], 1),
    "squeeze": lambda parts: torch.stack(parts, 1).squeeze(2),
    "reversed": lambda parts: torch.cat([torch.cat(parts[:2], 1)[:, 0:1], torch.cat(parts, 1)[:, 1:3]], 1),
}


@pytest.mark.parametrize("join", JOINS)
def test_a_sigmoid_for_each_class_is_one_sigmoid(join, tmp_path):
    module = Heads(JOINS[join]).eval()
    x = torch.rand(4, 1, SIDE, SIDE)
    program = capture(module, torch.zeros(2, 1, SIDE, SIDE))
    torch.testing.assert_close(program.module()(x), module(x))
    check(module)
    path = tmp_path / "heads.onnx"
    torch.onnx.export(module, (x,), str(path), dynamo=True, optimize=True, external_data=False)
    from_file = open_source(str(path), Description(input_size=(SIDE, SIDE), mean=(0.0,), std=(1.0,)))
    assert from_file.task == "multilabel"
    assert compile_source(from_file).graph.cams[0].height == 8


def test_sigmoids_of_a_file_are_moved_with_their_names():
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 18]>
        heads (float[n, 4] x) => (float[n, 4] y)
        <int64[2] sizes = {1, 3}>
        {
            p = Sigmoid(x)
            first, second = Split<axis = 1>(p, sizes)
            y = Concat<axis = 1>(second, first)
        }
    """)
    assert join_sigmoids(model)
    onnx.checker.check_model(model, full_check=True)
    from onnx.reference import ReferenceEvaluator

    x = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    (y,) = ReferenceEvaluator(model).run(None, {"x": x})
    np.testing.assert_allclose(y, np.roll(1 / (1 + np.exp(-x)), -1, axis=1), atol=1e-6)
    assert model.graph.node[-1].op_type == "Sigmoid"
    assert not join_sigmoids(onnx.parser.parse_model(REFUSED["random"][0]))


REFUSED = {
    "random": ("d = RandomNormalLike(f)  g = Add(f, d)", "the model is random: RandomNormalLike at"),
    "dropout": ("g = Dropout(f, ratio, on)", "the model is random: Dropout at"),
    "training": (
        "g, m, v = BatchNormalization<training_mode = 1>(f, one, one, one, one)",
        "is in training mode: it normalises over the batch",
    ),
    "quantised": (
        "q, s, z = DynamicQuantizeLinear(f)  g = DequantizeLinear(q, s, z)",
        "the model is quantised already: DynamicQuantizeLinear at",
    ),
}
REFUSED = {
    name: (
        f"""
        <ir_version: 8, opset_import: ["" : 17]>
        file (float[n, 1, 64, 64] x) => (float[n, 2] y)
        <float[4, 1, 3, 3] w = {{{", ".join(str(i % 7 - 3) for i in range(36))}}},
         float ratio = {{0.5}}, bool on = {{1}}, float[4] one = {{1, 1, 1, 1}},
         float[4, 2] h = {{1, 2, 3, 4, 5, 6, 7, 8}}>
        {{
            c = Conv<strides = [2, 2]>(x, w)
            f = Relu(c)
            {middle}
            p = GlobalAveragePool(g)
            e = Flatten(p)
            y = MatMul(e, h)
        }}
        """,
        message,
    )
    for name, (middle, message) in REFUSED.items()
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_not_ready_says_why(name, tmp_path):
    """All of these were told that images of a batch affect each other, or that there is no spatial layer."""
    text, message = REFUSED[name]
    path = tmp_path / "file.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    with pytest.raises(ModelError) as caught:
        compile_source(open_source(str(path), Description(input_size=(SIDE, SIDE), mean=(0.0,), std=(1.0,))))
    assert message in str(caught.value)


def rms_normalised(network, x):
    maps = network.trunk(x).permute(0, 2, 3, 1)
    return network.fc(F.rms_norm(maps, (16,)).mean((1, 2)))


def variance_pooled(network, x):
    return network.fc(network.trunk(x).var((2, 3), unbiased=False))


@pytest.mark.parametrize("head", [rms_normalised, variance_pooled])
def test_operators_that_torch_writes_as_primitives_are_differentiated(head):
    """Torch's exporter decomposes them into operators that torch itself cannot differentiate."""
    check(Network(head))


def cut_off(network, x):
    """One of two heads reads the maxima without a gradient."""
    maps = network.trunk(x)
    return network.fc(maps.mean((2, 3))) + network.fc(maps.detach().amax((2, 3)))


def data_of(network, x):
    maps = network.trunk(x)
    return network.fc(maps.mean((2, 3))) + network.fc(maps.data.amax((2, 3)))


def padded_shortcut(network, x):
    """The parameterless shortcut of MONAI's ResNet: `x.data`, with channels of zeros."""
    x = network.trunk[0](x)
    padded = torch.cat([F.avg_pool2d(x, 1, 2).data, torch.zeros(x.shape[0], 8, 16, 16)], dim=1)
    return network.fc(F.relu(network.trunk[3](x) + padded).mean((2, 3)))


def clamped_in_place(network, x):
    maps = network.trunk[:4](x)
    maps.data.clamp_(min=0)
    return network.fc(maps.mean((2, 3)))


@pytest.mark.parametrize("head", [cut_off, data_of, padded_shortcut, clamped_in_place])
def test_what_is_detached_lets_no_gradient_through(head):
    """`check` compares with autograd of torch's program, where `detach` is what it is."""
    check(Network(head))


def test_the_gradient_of_a_detached_value_is_that_of_torch():
    """As the module itself computes it, without an exporter between."""
    network = Network(data_of).eval()
    model = compile_source(source(None, network))
    pixels = np.random.default_rng(0).integers(0, 256, size=(2, 1, SIDE, SIDE), dtype=np.uint8)
    reference = model.reference
    activation = network.trunk(reference.pixels(pixels)).detach().requires_grad_()
    score = network.fc(activation.mean((2, 3))) + network.fc(activation.data.amax((2, 3)))
    (gradient,) = torch.autograd.grad(score[:, 1].sum(), activation)
    expected = (gradient.mean((2, 3), keepdim=True) * activation).sum(1).relu().detach().numpy()
    cam = reference.outputs(pixels).cams["cams"][:, 1]
    # fp32 of the same few operators.
    np.testing.assert_allclose(cam, expected, atol=1e-5 * expected.max())


def test_data_that_torch_cannot_follow_is_named():
    """`len(x)` needs torch's bytecode analysis, which loses what `x.data` is of."""
    head = lambda network, x: network.fc(network.trunk(x).data.mean((2, 3)) + torch.zeros(len(x), 16))  # noqa: E731
    with pytest.raises(ModelError, match=r"Network takes the numbers of a tensor out .*write `x\.detach\(\)`"):
        compile_source(source(head))


def deformed(network, x):
    from torchvision.ops import deform_conv2d

    maps = network.trunk(x)
    return network.fc(deform_conv2d(maps, maps[:, :2], network.trunk[6].weight[:, :, :1, :1]).mean((2, 3)))


def half(network, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return network.fc(network.pooled(x)).float()


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (deformed, "DeformConv at .* is no operator of ONNX opset 18, in which every bundle is"),
        (half, "is bfloat16: export the model in float32, without autocast"),
    ],
)
def test_what_a_bundle_cannot_hold_is_named(head, reason):
    with pytest.raises(ModelError, match=reason):
        compile_source(source(head))


class Unfolded(nn.Module):
    """A patch embedding by `unfold`, as in Transformer in Transformer, and a block that mixes patches."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(4)
        self.embed, self.mix, self.fc = nn.Linear(64, 16), nn.Linear(64, 64), nn.Linear(16, 3)
        self.fc.weight.data.mul_(8)

    def forward(self, x):
        patches = F.relu(self.embed(F.unfold(x, 8, stride=8).transpose(1, 2)))
        mixed = patches + self.mix(patches.transpose(1, 2)).transpose(1, 2)
        return self.fc(F.relu(mixed).mean(1))


def test_patches_that_were_unfolded_are_a_grid():
    model = check(Unfolded())
    assert (model.graph.cams[0].height, model.graph.cams[0].width) == (8, 8)


class PatchByPatch(Unfolded):
    """Each patch goes through a convolution of its own batch entry before the patches meet."""

    def __init__(self):
        super().__init__()
        self.inner, self.embed = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(256, 16)

    def forward(self, x):
        patches = F.unfold(x, 8, stride=8).transpose(1, 2)
        pixels = F.relu(self.inner(patches.reshape(-1, 1, 8, 8)))
        tokens = F.relu(self.embed(pixels.reshape(-1, 64, 256)))
        mixed = tokens + self.mix(tokens.transpose(1, 2)).transpose(1, 2)
        return self.fc(F.relu(mixed).mean(1))


def test_patches_in_the_batch_keep_their_places():
    model = check(PatchByPatch())
    assert (model.graph.cams[0].height, model.graph.cams[0].channels) == (8, 16)
