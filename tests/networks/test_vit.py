"""The classifier: sizes, kinds, refusals, and its life as script, trace and exported program."""

from __future__ import annotations

import dataclasses
import io
import itertools

import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor, decollate_batch, list_data_collate
from torch import Tensor, nn

from seqnorm_monai.attention.modules import ATTENTION_KINDS, ATTENTION_PATHS
from seqnorm_monai.networks.vit import VARIANTS, SeqNormViT, create_network
from tests.makers.compare import assert_close, relative_error

CLASSES = 5
PATCHES = {2: (4, 8), 3: (4, 2, 8)}
SIZES = {2: (20, 56), 3: (12, 10, 56)}  # grids of 5 x 7 and 3 x 5 x 7
OTHER_SIZES = {2: (44, 24), 3: (8, 22, 24)}


def network(
    attention: str = "seqnorm",
    *,
    spatial_dims: int = 2,
    pos_embed: str = "sincos",
    in_channels: int = 3,
    **rates: float,
) -> SeqNormViT:
    torch.manual_seed(17)
    net = SeqNormViT(
        in_channels=in_channels,
        img_size=SIZES[spatial_dims],
        patch_size=PATCHES[spatial_dims],
        num_classes=CLASSES,
        spatial_dims=spatial_dims,
        hidden_size=36,
        mlp_dim=53,
        num_layers=3,
        num_heads=3,
        attention=attention,
        pos_embed=pos_embed,
        **rates,
    )
    nn.init.normal_(net.head.bias)
    return net


def images(spatial_dims: int = 2, *, batch: int = 2, sizes: dict[int, tuple[int, ...]] = SIZES) -> Tensor:
    return torch.randn(batch, 3, *sizes[spatial_dims], generator=torch.Generator().manual_seed(19))


EVERY_KIND = [
    pytest.param(kind, dims, pos, id=f"{kind}-{dims}d-{pos}")
    for kind, dims, pos in itertools.product(ATTENTION_KINDS, (2, 3), ("sincos", "learnable"))
]


@pytest.mark.parametrize(("kind", "dims", "pos"), EVERY_KIND)
def test_forward_is_the_published_architecture(kind: str, dims: int, pos: str) -> None:
    """Patches by hand, positions, class token first, blocks, norm, class token to the head."""
    net, x = network(kind, spatial_dims=dims, pos_embed=pos).eval(), images(dims)
    patches = x
    for axis, patch in enumerate(PATCHES[dims]):
        patches = patches.unfold(axis + 2, patch, patch)
    patches = patches.flatten(2 + dims)  # (B, channels, *grid, pixels of a patch)
    patches = patches.movedim(1, 1 + dims).flatten(1, dims).flatten(2)  # (B, N, channels * pixels)
    weight = net.patch_embedding.projection.weight.flatten(1)
    grid = [s // p for s, p in zip(SIZES[dims], PATCHES[dims])]
    tokens = patches @ weight.T + net.patch_embedding.projection.bias
    tokens = tokens + net.positions(grid, tokens)
    tokens = torch.cat([net.cls_token.expand(2, 1, 36), tokens], dim=1)
    for block in net.blocks:
        tokens = block(tokens)
    features = net.norm(tokens)
    assert_close(net.forward_features(x), features, 1e-5)
    assert_close(net(x), net.head(features[:, 0]), 1e-5)
    assert type(net(x)) is Tensor
    assert net(x).shape == (2, CLASSES)


@pytest.mark.parametrize(("kind", "dims", "pos"), EVERY_KIND)
def test_every_parameter_gets_a_gradient(kind: str, dims: int, pos: str) -> None:
    """Distributed training refuses networks with unused parameters."""
    net = network(kind, spatial_dims=dims, pos_embed=pos)
    net(images(dims)).square().sum().backward()
    without = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert without == []
    # softmax and SimA do not depend on every bias (softmax: keys'), but every tensor moves somewhere
    assert all(p.grad.ne(0).any() for p in net.parameters())


@pytest.mark.parametrize("dims", [2, 3])
def test_kinds_differ_in_the_attention_alone(dims: int) -> None:
    names = {}
    for kind in ATTENTION_KINDS:
        state = network(kind, spatial_dims=dims).state_dict()
        names[kind] = {k: tuple(v.shape) for k, v in state.items() if ".attention." not in k}
    assert names["seqnorm"] == names["sima"] == names["softmax"]
    outputs = [network(kind, spatial_dims=dims).eval()(images(dims)) for kind in ATTENTION_KINDS]
    assert all(relative_error(a, b) > 1e-4 for a, b in itertools.combinations(outputs, 2))


@pytest.mark.parametrize(("kind", "dims", "pos"), EVERY_KIND)
def test_other_sizes_and_deployment_forms(kind: str, dims: int, pos: str) -> None:
    """Script, trace and export give the same logits, also at a size that they have not seen."""
    net = network(kind, spatial_dims=dims, pos_embed=pos).eval()
    x, other = images(dims), images(dims, batch=3, sizes=OTHER_SIZES)
    spatial = {i + 2: p * torch.export.Dim(f"grid{i}") for i, p in enumerate(PATCHES[dims])}
    shapes = ({0: torch.export.Dim("batch"), **spatial},)
    forms = {
        "script": torch.jit.script(net),
        "trace": torch.jit.trace(net, x),
        "export": torch.export.export(net, (x,), dynamic_shapes=shapes).module(),
    }
    for name, form in forms.items():
        assert_close(form(x), net(x), 1e-5, name)
        assert_close(form(other), net(other), 1e-5, name)


@pytest.mark.parametrize("kind", ATTENTION_KINDS)
def test_state_dict_survives_weights_only_loading(kind: str) -> None:
    net = network(kind).eval()
    buffer = io.BytesIO()
    torch.save(net.state_dict(), buffer)
    buffer.seek(0)
    copy = network(kind, dropout_rate=0.1)
    copy.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(copy.eval()(images()), net(images()))


def test_evaluation_is_deterministic_and_training_is_not() -> None:
    net, x = network(dropout_rate=0.3, drop_path_rate=0.3), images()
    net.eval()
    assert torch.equal(net(x), net(x))
    net.train()
    assert not torch.equal(net(x), net(x))


def test_drop_path_grows_with_depth() -> None:
    rates = [block.drop_path.drop_prob for block in network(drop_path_rate=0.2).blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2])


def test_one_image_never_changes_another() -> None:
    net, x = network().eval(), images(batch=5)
    assert_close(net(x)[3:4], net(x[3:4]), 1e-5)


def test_variants_have_the_published_sizes() -> None:
    """Parameters of the ViT of that name, less the qkv bias, plus the affine and less the learnt positions."""
    published = {"tiny": 5_717_416, "small": 22_050_664, "base": 86_567_656}  # 1000 classes, 224 px, patch 16
    for name, variant in VARIANTS.items():
        net = create_network(name, in_channels=3, img_size=224, patch_size=16, num_classes=1000)
        width, depth = variant.hidden_size, variant.num_layers
        positions, qkv_bias, affine = 197 * width, 3 * width * depth, 6 * width * depth
        assert sum(p.numel() for p in net.parameters()) == published[name] - positions - qkv_bias + affine
        assert dataclasses.asdict(variant) == {
            "hidden_size": width,
            "mlp_dim": 4 * width,
            "num_layers": 12,
            "num_heads": width // 64,
        }


def test_variant_passes_every_argument_on() -> None:
    net = create_network(
        "tiny",
        in_channels=2,
        img_size=(6, 10, 14),
        patch_size=2,
        num_classes=7,
        spatial_dims=3,
        attention="sima",
        pos_embed="learnable",
        dropout_rate=0.1,
        drop_path_rate=0.2,
    )
    assert net.positions.embedding.shape == (1, 3 * 5 * 7, 192)
    assert type(net.blocks[0].attention).__name__ == "SimAAttention"
    assert net.dropout.p == 0.1
    assert net.blocks[-1].drop_path.drop_prob == 0.2
    assert net(torch.randn(1, 2, 6, 10, 14)).shape == (1, 7)


def test_variant_refuses_arguments_that_the_network_does_not_have() -> None:
    """With the wrong name and the right ones, so that a misspelt option is found at once."""
    arguments = {"in_channels": 1, "img_size": 32, "patch_size": 8, "num_classes": 2}
    known = "in_channels, img_size, patch_size, num_classes, spatial_dims, attention, attention_path, pos_embed, "
    known += "dropout_rate, drop_path_rate, recompute_gelu"
    with pytest.raises(TypeError, match=rf"unknown argument 'atention'; it takes variant, {known}$"):
        create_network("tiny", **arguments, attention="sima", atention="sima")
    for size in ("hidden_size", "mlp_dim", "num_layers", "num_heads"):
        with pytest.raises(TypeError, match=rf"{size}, which the variant sets"):
            create_network("tiny", **arguments, **{size: 3})


def test_variant_is_a_target_of_a_bundle() -> None:
    config = {"_target_": "seqnorm_monai.networks.create_network", "variant": "tiny", "in_channels": 1}
    config |= {"img_size": [32, 24], "patch_size": 8, "num_classes": 2, "attention": "sima"}
    net = ConfigParser({"net": config}).get_parsed_content("net")
    assert isinstance(net, SeqNormViT)
    assert net(torch.randn(1, 1, 32, 24)).shape == (1, 2)
    with pytest.raises(RuntimeError) as caught:
        ConfigParser({"net": {**config, "depth": 3}}).get_parsed_content("net")
    assert "unknown argument 'depth'" in str(caught.value.__cause__)


@pytest.mark.parametrize("path", ATTENTION_PATHS)
def test_path_reaches_every_block_and_changes_nothing(path: str) -> None:
    arguments = {"in_channels": 3, "img_size": 28, "patch_size": 4, "num_classes": 5}
    net = create_network("tiny", attention_path=path, **arguments).eval()
    assert [block.attention.path for block in net.blocks] == [path] * 12
    peer = create_network("tiny", **arguments).eval()
    peer.load_state_dict(net.state_dict())
    x = images(sizes={2: (28, 28)})
    assert_close(net(x), peer(x), 1e-4)


@pytest.mark.parametrize("dims", [2, 3])
def test_refuses_input_it_cannot_cut(dims: int) -> None:
    net = network(spatial_dims=dims)
    x = images(dims)
    with pytest.raises(ValueError, match=r"spatial axis 1 .* not a multiple of the patch"):
        net(x[:, :, :, :-1])
    with pytest.raises(ValueError, match="3 channel"):
        net(x[:, :1])
    with pytest.raises(ValueError, match=f"{dims} spatial axes"):
        net(x[0])
    with pytest.raises(ValueError, match="spatial axis 0 of the input is 0 pixels"):
        net(x[:, :, :0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spatial_dims": 1}, "spatial_dims"),
        ({"img_size": 30}, "multiple of patch_size"),
        ({"img_size": 0}, "multiple of patch_size"),
        ({"img_size": (32, 32, 32)}, "must have length 2"),
        ({"num_classes": 0}, "num_classes"),
        ({"in_channels": 0}, "in_channels"),
        ({"num_layers": 0}, "num_layers"),
        ({"num_heads": 5}, "multiple of num_heads"),
        ({"hidden_size": 42, "num_heads": 3}, "multiple of 4"),
        ({"attention": "linear"}, "seqnorm, sima, softmax"),
        ({"attention_path": "fast"}, "auto, literal, projected, covariance"),
        ({"attention": "sima", "attention_path": "literal"}, "attention_path"),
        ({"pos_embed": "rotary"}, "sincos, learnable"),
    ],
)
def test_refuses_arguments_that_do_not_fit(changes: dict, message: str) -> None:
    arguments = {
        "in_channels": 1,
        "img_size": 32,
        "patch_size": 8,
        "num_classes": 2,
        "hidden_size": 48,
        "num_layers": 1,
    }
    with pytest.raises(ValueError, match=message):
        SeqNormViT(**{**arguments, "num_heads": 3, "mlp_dim": 5, **changes})
    with pytest.raises(TypeError):
        SeqNormViT(**arguments, unknown=1)
    with pytest.raises(ValueError, match="tiny, small, base"):
        create_network("huge", in_channels=1, img_size=32, patch_size=8, num_classes=2)


@pytest.mark.parametrize("path", ATTENTION_PATHS)
def test_a_batch_of_meta_tensors_keeps_its_meta_data(path: str) -> None:
    """As MONAI's loaders collate it: one dictionary of lists for the batch, decollated behind the network."""
    net = network().eval()
    for block in net.blocks:
        block.attention.path = path
    items = [{"image": MetaTensor(image, meta={"filename_or_obj": name})} for image, name in zip(images(), "ab")]
    batch = list_data_collate(items)["image"]
    expected = net(images())
    with torch.no_grad():
        predicted = net(batch)
    for logits, row, name in zip(decollate_batch(predicted), expected, "ab", strict=True):
        assert logits.meta["filename_or_obj"] == name
        assert_close(logits.as_tensor(), row.detach(), 1e-5)
    net(batch).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


@pytest.mark.parametrize("path", [*ATTENTION_PATHS, "softmax"])
@pytest.mark.parametrize("grad", [False, True])
def test_class_token_of_the_last_layer_is_read_alone(path: str, grad: bool) -> None:
    """The logits are those of all final tokens, the first of which is read; a hook on the last layer sees them all."""
    net = network("softmax" if path == "softmax" else "seqnorm").eval()
    if path != "softmax":
        for block in net.blocks:
            block.attention.path = path
    x = images()
    with torch.set_grad_enabled(grad):
        expected = net.head(net.forward_features(x)[:, 0])
        widths: list[int] = []
        net.norm.register_forward_pre_hook(lambda module, inputs: widths.append(inputs[0].shape[1]))
        assert_close(net(x), expected, 1e-5)
        net.norm._forward_pre_hooks.clear()
        net.blocks[1].mlp.register_forward_hook(lambda module, inputs, output: widths.append(output.shape[1]))
        assert_close(net(x), expected, 1e-5)
    assert widths == [36, 36]


def test_training_steps_read_the_class_token_alone_too() -> None:
    """The gradients are those of the logits of all final tokens."""
    net, x = network().double(), images().double()
    results = []
    for logits in (lambda: net(x), lambda: net.head(net.forward_features(x)[:, 0])):
        net.zero_grad()
        logits().square().sum().backward()
        # attention centres its tokens, so that the bias in front of it does nothing and has a gradient of 0
        names = [name for name, _ in net.named_parameters() if not name.endswith("norm1.bias")]
        results.append([net.get_parameter(name).grad for name in names])
    for ours, plain in zip(*results, strict=True):
        assert_close(ours, plain, 1e-11)
