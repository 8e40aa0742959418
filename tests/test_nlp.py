"""Self-attentive pooling: what it computes, where it refuses, and what it must not store."""

import copy
import itertools
import math
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from oracles import nlp_weight
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

from attnpool import SelfAttentivePool2d
from attnpool.accounting.training import allocations
from attnpool.pools._attention import SelfAttention
from attnpool.pools._deformable import map_back
from attnpool.pools._position import PositionTable
from attnpool.pools._weighted import weighted_pool2d
from attnpool.registry import POOLS


def test_attention_equals_torchs_own() -> None:
    ours, theirs = SelfAttention(12, 3).double(), nn.MultiheadAttention(12, 3, batch_first=True).double()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.qkv.weight)
        theirs.out_proj.weight.copy_(ours.proj.weight)
    x = torch.randn(2, 20, 12, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x, x, x, need_weights=False)[0])


@pytest.mark.parametrize("width", [1, 2, 5, 8, 15, 16, 24])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_heads_of_any_width(width: int, dtype: torch.dtype) -> None:
    """Narrow ones are filled up on the CPU."""
    ours = SelfAttention(3 * width, 3).double()
    x = torch.randn(2, 20, 3 * width, dtype=torch.float64)
    expected, gradient = evaluate(ours, x)
    for blocks in (None, 1, 3, 20, 99):
        ours.query_blocks = blocks
        found = evaluate(ours.to(dtype), x.to(dtype))
        for a, b in zip(found, (expected, gradient), strict=True):
            assert (a.double() - b).norm() < {8: 1e-12, 4: 1e-5, 2: 3e-2}[dtype.itemsize] * b.norm()


def evaluate(layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Output, and the gradient of the input."""
    x.requires_grad_()
    y = layer(x)
    return y.detach(), torch.autograd.grad(y.square().sum(), x)[0]


def test_exported_attention_is_not_filled_up() -> None:
    graph = torch.export.export(SelfAttention(8, 2).eval(), (torch.randn(1, 20, 8),)).graph
    assert not [node for node in graph.nodes if "pad" in str(node.target)]


def test_query_blocks_export_as_explicit_products_of_their_size() -> None:
    pool, x = SelfAttentivePool2d(8, 2, query_blocks=4).eval(), torch.randn(1, 8, 8, 8)
    program = torch.export.export(pool, (x,))
    made = [node for node in program.graph.nodes if node.op == "call_function" and "val" in node.meta]
    softmax = [node.meta["val"].shape for node in made if "softmax" in str(node.target)]
    assert softmax == 4 * [(1, 1, 32, 64)]  # two of each head
    assert not [node for node in made if "scaled_dot_product" in str(node.target)]
    torch.testing.assert_close(program.module()(x), pool(x))


class Largest(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(made):
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return made


@pytest.mark.parametrize("side", [32, 64])
def test_the_scores_are_never_stored(side: int) -> None:
    pool = SelfAttentivePool2d(4, 2, num_heads=2)
    x = torch.randn(1, 4, side, side, requires_grad=True)
    with Largest() as largest:
        pool(x).sum().backward()
    assert largest.elements <= 8 * x.numel()  # q, k or v, filled up from 2 to 16; the scores would be 2 * side**4


@pytest.mark.parametrize(
    ("options", "times"), [({}, 60), ({"num_heads": 1, "patch_size": 2, "kernel_size": 4}, 25), ({"kv_stride": 2}, 50)]
)
def test_memory_is_linear_in_pixels(options: dict[str, Any], times: int) -> None:
    """Of a step: about as many blocks for a larger map, and no more bytes a pixel."""
    pool = SelfAttentivePool2d(8, **{"kernel_size": 2, "num_heads": 2, **options})
    found = []
    for tokens in (32, 64, 96):  # a side
        side = tokens * pool.patch_size
        x = torch.randn(1, 8, side, side, requires_grad=True)
        pool(x).sum().backward()  # gradients exist from here on
        count, held = allocations(lambda x=x: pool(x).sum().backward())  # type: ignore[misc]
        found.append((count, held / (4 * x.numel())))
    counts, maps = zip(*found, strict=True)
    assert max(counts) < 1.2 * min(counts)
    assert maps[0] >= maps[1] >= maps[2]
    assert maps[2] < times


def test_query_blocks_bound_the_scores_in_training_too() -> None:
    whole, blocks = (SelfAttentivePool2d(8, 2, query_blocks=n) for n in (1, 32))
    x = torch.randn(1, 8, 32, 32, requires_grad=True)
    scores = 4 * 2 * 32**4
    held = [allocations(lambda pool=pool: pool(x).sum().backward())[1] for pool in (whole, blocks)]  # type: ignore[misc]
    assert held[0] > 3 * scores
    assert held[1] < scores / 2


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "patch"),
    [(2, None, 0, 2), (2, 2, 0, 4), (4, 4, 0, 4), (1, 1, 0, 1), (2, 4, 0, 4), (1, 2, 0, 1), (2, 6, 0, 4), (3, 9, 0, 6)],
)
def test_refuses_to_be_average_pooling(kernel: int, stride: int | None, padding: int, patch: int) -> None:
    with pytest.raises(ValueError, match=r"average pooling.*normalize=False.*smaller patch_size.*larger stride"):
        SelfAttentivePool2d(8, kernel, stride, padding, patch_size=patch)
    SelfAttentivePool2d(8, kernel, stride, padding, patch_size=patch, normalize=False)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "patch"), [(3, 2, 1, 2), (4, 4, 0, 2), (4, 2, 0, 2), (2, 2, 0, 3)]
)
def test_is_not_average_pooling_elsewhere(kernel: int, stride: int, padding: int, patch: int) -> None:
    pool = SelfAttentivePool2d(8, kernel, stride, padding, patch_size=patch)
    x = torch.randn(2, 8, 12, 12)
    assert (pool(x) - F.avg_pool2d(x, kernel, stride, padding, count_include_pad=False)).abs().max() > 1e-4


def test_average_pooling_is_what_the_refused_settings_would_be() -> None:
    pool = SelfAttentivePool2d(8, 4, patch_size=2)
    pool.kernel_size = pool.stride = (2, 2)  # past the check
    x = torch.randn(2, 8, 12, 12)
    torch.testing.assert_close(pool(x), F.avg_pool2d(x, 2))


@pytest.mark.parametrize("name", ["MaxPool2d", "AvgPool2d"])
def test_is_a_drop_in(name: str) -> None:
    theirs = getattr(nn, name)(3, 2, 1, ceil_mode=True)
    x = torch.randn(2, 8, 14, 15)
    assert SelfAttentivePool2d(8, 3, 2, 1, ceil_mode=True)(x).shape == theirs(x).shape


def test_maps_that_the_patch_does_not_divide() -> None:
    pool = SelfAttentivePool2d(8, 4, patch_size=3).eval()
    x = torch.randn(2, 8, 14, 10)
    assert pool(x).shape == (2, 8, 3, 2)
    assert pool.weight(x).shape == (2, 8, 4, 3)
    assert pool.weight_map(x).shape == x.shape


def test_a_map_smaller_than_a_patch_is_refused() -> None:
    with pytest.raises(ValueError, match="at least patch_size=4"):
        SelfAttentivePool2d(8, 2, patch_size=4, normalize=False)(torch.zeros(1, 8, 8, 3))


def test_more_than_256_positions_a_side() -> None:
    pool = SelfAttentivePool2d(4, 2).eval()
    with torch.no_grad():
        assert pool(torch.randn(1, 4, 4, 300)).shape == (1, 4, 2, 150)
    table = PositionTable(4, size=8)
    positions = table(8, 20).view(8, 20, 4)
    torch.testing.assert_close(positions[0, [0, -1], :2], table.col[[0, -1]])  # stretched from end to end
    assert torch.equal(positions[:, 0, 2:], table.row)


@torch.no_grad()
def test_positions_are_made_once_a_size_and_again_when_the_tables_change() -> None:
    table = PositionTable(4).eval()
    first, other = table(3, 5), table(5, 3)
    assert table(3, 5) is first
    assert table(5, 3) is other
    for change in (
        lambda: table.col.mul_(2),
        lambda: table.load_state_dict(PositionTable(4).state_dict()),
        lambda: setattr(table.row, "data", torch.rand(256, 2)),
        table.double,
    ):
        before = table(3, 5)
        change()  # type: ignore[no-untyped-call]
        assert table(3, 5) is not before
        assert torch.equal(table(3, 5), table._positions(3, 5))
    for side in range(1, 100):
        table(side, 2)
    assert len(table._made) <= 16
    assert copy.deepcopy(table)._made == {}
    assert torch.equal(pickle.loads(pickle.dumps(table))(3, 5), table(3, 5))
    with torch.enable_grad():
        assert table(3, 5).requires_grad
    with torch.inference_mode():
        frozen = PositionTable(4).eval()
        assert frozen(3, 5) is not frozen(3, 5)
        table(9, 9)
    assert table(9, 9).shape == (81, 4)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.Adagrad, torch.optim.SGD])
def test_training_is_seen_by_the_positions_even_if_its_optimizer_is_fused(optimizer: Any, training: bool) -> None:
    pool, x = SelfAttentivePool2d(4, 2).eval(), torch.randn(2, 4, 6, 6)
    with torch.no_grad():
        pool(x)
    if training:
        pool.train()
    step = optimizer(pool.parameters(), lr=0.1, fused=True)
    for _ in range(3):
        pool(x).square().sum().backward()
        step.step()
    if training:
        pool.eval()
    with torch.no_grad():
        assert torch.equal(pool(x), copy.deepcopy(pool)(x))


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@torch.no_grad()
def test_stand_ins_and_swapped_parameters_are_not_remembered() -> None:
    pool, x = SelfAttentivePool2d(4, 2).eval(), torch.randn(2, 4, 6, 6)
    expected = pool(x)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        SelfAttentivePool2d.forward(pool, mode.from_tensor(torch.randn(2, 4, 8, 8)))
    assert type(pool(torch.randn(2, 4, 8, 8))) is Tensor
    others = {name: torch.stack((p, 2 * p)) for name, p in pool.named_parameters()}
    both = torch.func.vmap(lambda p: torch.func.functional_call(pool, p, (x,)))(others)
    torch.testing.assert_close(both[0], expected)
    assert (both[1] - expected).abs().max() > 1e-3
    torch.testing.assert_close(pool(x), expected)


@pytest.mark.filterwarnings("ignore:`torch.jit", "ignore:.*a Python:torch.jit.TracerWarning")
@pytest.mark.parametrize("blocks", [None, 3])
def test_transforms_and_tracers(blocks: int | None) -> None:
    pool, x = SelfAttentivePool2d(4, 2, query_blocks=blocks).eval(), torch.randn(2, 4, 6, 6)
    expected = pool(x)
    torch.testing.assert_close(torch.jit.trace(pool, x)(x), expected)
    graph = make_fx(pool, tracing_mode="symbolic", _allow_non_fake_inputs=True)(x)
    torch.testing.assert_close(graph(x), expected)
    gradient = torch.func.grad(lambda x: pool(x).square().sum())(x)
    x.requires_grad_()
    torch.testing.assert_close(gradient, torch.autograd.grad(pool(x).square().sum(), x)[0])


def test_query_blocks_bound_the_scores_of_a_compiled_step() -> None:
    torch.compiler.reset()
    pool = SelfAttentivePool2d(8, 2, query_blocks=32)
    compiled = torch.compile(pool, fullgraph=True, backend="aot_eager", dynamic=False)
    x = torch.randn(1, 8, 32, 32, requires_grad=True)
    compiled(x).sum().backward()
    assert allocations(lambda: compiled(x).sum().backward())[1] < 4 * 2 * 32**4 / 2


@pytest.mark.parametrize(("patch", "kv_stride", "least"), [(1, 1, 6), (2, 1, 6), (3, 1, 6), (2, 2, 8)])
def test_exports_with_sides_that_vary(patch: int, kv_stride: int, least: int) -> None:
    pool = SelfAttentivePool2d(4, 2, patch_size=patch, normalize=False, kv_stride=kv_stride).eval()
    height, width = (torch.export.Dim(name, min=least, max=64) for name in ("height", "width"))
    shapes = {"x": {0: torch.export.Dim("batch"), 2: height, 3: width}}
    program = torch.export.export(pool, (torch.randn(2, 4, 12, 14),), dynamic_shapes=shapes)
    for size in [(2, 4, 12, 14), (1, 4, 9, 25), (3, 4, least, least)]:
        x = torch.randn(size)
        torch.testing.assert_close(program.module()(x), pool(x))


def test_compiles_with_sides_that_vary() -> None:
    torch.compiler.reset()
    pool = SelfAttentivePool2d(4, 4, patch_size=2).eval()
    compiled = torch.compile(pool, fullgraph=True, backend="aot_eager", dynamic=True)
    for size in [(2, 4, 12, 16), (2, 4, 9, 13), (2, 4, 8, 8)]:
        x = torch.randn(size)
        torch.testing.assert_close(compiled(x), pool(x))


@pytest.mark.parametrize("dim", [1, 3, 5])
def test_odd_token_widths(dim: int) -> None:
    assert PositionTable(dim)(3, 4).shape == (12, dim)
    assert SelfAttentivePool2d(dim, 2, num_heads=1)(torch.randn(2, dim, 6, 6)).shape == (2, dim, 3, 3)


def test_weight_map_lies_between_1_and_e_and_keeps_the_shape() -> None:
    pool, x = SelfAttentivePool2d(8, 4, patch_size=2).eval(), torch.randn(8, 12, 16)
    w = pool.weight_map(x)
    assert w.shape == x.shape
    assert not w.requires_grad
    assert ((w > 1) & (w < math.e)).all()
    assert torch.equal(w, pool.weight_map(x.unsqueeze(0))[0])
    assert torch.equal(w[:, ::2, ::2], w[:, 1::2, 1::2])  # one weight a patch


def test_weight_map_leaves_the_statistics_of_training_alone() -> None:
    pool = SelfAttentivePool2d(8, 2)
    pool.restore_norm.eval()  # frozen by its owner
    state = {key: value.clone() for key, value in pool.state_dict().items()}
    pool.weight_map(torch.randn(2, 8, 8, 8))
    assert pool.training
    assert not pool.restore_norm.training
    assert all(torch.equal(value, state[key]) for key, value in pool.state_dict().items())


def test_weights_of_either_sign_are_not_divided_by() -> None:
    with pytest.raises(ValueError, match="normalize has to be False"):
        SelfAttentivePool2d(8, 2, sigmoid=False, exp=False)
    SelfAttentivePool2d(8, 2, sigmoid=False, exp=False, normalize=False)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"patch_size": 0}, "patch_size"),
        ({"num_heads": 0}, "num_heads"),
        ({"num_heads": 2.0}, "num_heads"),
        ({"embed_ratio": 0.0}, "embed_ratio"),
        ({"embed_ratio": float("nan")}, "embed_ratio"),
        ({"position": "sine"}, "position"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=f"{word} has to be .*, but got"):
        SelfAttentivePool2d(8, 2, **options)


def test_without_offsets_deformable_is_plain_at_half_the_embedding() -> None:
    plain, deformable = (POOLS[name](4, 4, patch_size=2).double().eval() for name in ("nlp", "dfmnlp"))
    state = {key.replace("embed.conv", "embed"): value for key, value in deformable.state_dict().items()}
    plain.load_state_dict({key: value for key, value in state.items() if key in plain.state_dict()})
    plain.attend.embed.weight.data /= 2  # the mask
    x = torch.randn(2, 4, 8, 12, dtype=torch.float64)
    torch.testing.assert_close(deformable(x), plain(x))


def test_weights_are_mapped_back_through_the_offsets() -> None:
    patch, (down, right) = 2, (2.0, -1.0)
    w = torch.rand(1, 3, 4, 5)
    offset = torch.tensor([down, right]).repeat(patch**2).view(1, -1, 1, 1).expand(1, 2 * patch**2, 4, 5)
    full = F.interpolate(w, scale_factor=patch)
    expected = torch.empty_like(full)
    for i, j in itertools.product(range(8), range(10)):
        expected[..., i, j] = full[..., max(i - 2, 0), min(j + 1, 9)]
    torch.testing.assert_close(map_back(w, offset, (8, 10)), expected)
    assert map_back(w, offset, (9, 11)).shape == (1, 3, 9, 11)  # a map that the patch does not divide


def test_each_pixel_has_the_offset_of_its_place_in_the_patch() -> None:
    offset = torch.zeros(1, 8, 1, 1)
    offset[0, 2:4, 0, 0] = torch.tensor([-1.0, 0.0])  # the second place of the first row looks one row down
    w = torch.arange(4.0).view(1, 1, 2, 2)
    moved = map_back(F.interpolate(w, size=(2, 2)), offset, (2, 2))
    assert moved.flatten().tolist() == [0.0, 3.0, 2.0, 3.0]


def test_the_mixed_weight_is_local_times_non_local() -> None:
    pool = POOLS["mixp"](4, 2, patch_size=2).double().eval()
    x = torch.randn(1, 4, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(pool.weight_map(x), nlp_weight(pool, x))
    assert (pool(x) - F.avg_pool2d(x, 2)).abs().max() > 1e-4  # though the patch covers the window


def test_compiles_with_inductor() -> None:
    torch.compiler.reset()
    pool, x = SelfAttentivePool2d(8, 2).eval(), torch.randn(2, 8, 8, 8)
    torch.testing.assert_close(torch.compile(pool, fullgraph=True)(x), pool(x))


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(
    ("size", "kernel", "patch"),
    [((16, 16), 4, 2), ((12, 24), (6, 4), 2), ((16, 8), 8, 8), ((18, 18), 4, 2), ((8, 8), 3, 2)],
)
def test_weights_on_a_coarser_grid_count_as_if_on_every_pixel(
    size: tuple[int, int], kernel: Any, patch: int, normalize: bool
) -> None:
    sides = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    w = 1 + torch.rand(2, 3, size[0] // patch, size[1] // patch, dtype=torch.float64).requires_grad_()
    wide = w.repeat_interleave(patch, 2).repeat_interleave(patch, 3)
    expected = F.avg_pool2d(x * wide, sides)
    expected = expected / F.avg_pool2d(wide, sides) if normalize else expected
    found = weighted_pool2d(x, w, sides, sides, normalize=normalize)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    cotangent = torch.randn_like(expected)
    for a, b in zip(*(torch.autograd.grad(y, (x, w), cotangent) for y in (found, expected)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


def test_whole_patches_are_never_multiplied_pixel_by_pixel() -> None:
    x, w = torch.randn(1, 4, 32, 32), torch.rand(1, 4, 16, 16)
    with Largest() as largest:
        weighted_pool2d(x, w, (4, 4), (4, 4))
    assert largest.elements <= w.numel()
