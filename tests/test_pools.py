"""The contract that every registered pooling method keeps."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attnpool.registry import POOLS

CHANNELS = 8
GEOMETRIES = [  # kernel, stride, padding, ceil_mode
    (2, None, 0, False),
    (2, 2, 0, True),
    (3, 2, 1, False),
    (3, 2, 1, True),
    (4, 3, 2, True),
    ((3, 2), (1, 2), (1, 0), False),
]
SIZES = [(12, 12), (13, 9), (4, 3)]
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 5e-2}
"""Largest error relative to the largest value, by dtype: of one map computed in two ways."""

every_pool = pytest.mark.parametrize("name", list(POOLS))


def make(name: str, *geometry: Any, dtype: torch.dtype = torch.float32, **options: Any) -> nn.Module:
    return POOLS[name](CHANNELS, *(geometry or (2,)), **options).to(dtype)


def image(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape or (2, CHANNELS, 12, 12), dtype=torch.float64).to(dtype)


def assert_close(a: Tensor, b: Tensor) -> None:
    assert a.shape == b.shape
    assert (a - b).abs().max() <= TOLERANCE[a.dtype] * b.abs().max()


@every_pool
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_sizes_are_those_of_avg_pool(name: str, geometry: tuple[Any, ...], size: tuple[int, int]) -> None:
    x = image(2, CHANNELS, *size)
    assert make(name, *geometry)(x).shape == nn.AvgPool2d(*geometry)(x).shape


@every_pool
def test_unbatched_is_a_batch_of_one(name: str) -> None:
    pool, x = make(name).eval(), image(CHANNELS, 13, 10)
    assert_close(pool(x), pool(x.unsqueeze(0)).squeeze(0))


@every_pool
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_dtype_is_kept(name: str, dtype: torch.dtype) -> None:
    y = make(name, dtype=dtype)(image(dtype=dtype))
    assert y.dtype == dtype
    assert y.isfinite().all()


@every_pool
def test_half_precision_is_near_single(name: str) -> None:
    pool = make(name).eval()
    x = image()
    expected = pool(x).bfloat16()
    assert_close(pool.bfloat16()(x.bfloat16()), expected)


@every_pool
@pytest.mark.parametrize(("training", "batches"), [(True, 50), (False, 50), (False, 0)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_values_of_ten_thousand_stay_finite_in_half_precision(
    name: str, dtype: torch.dtype, training: bool, batches: int
) -> None:
    """Values and gradients, the loss scaled as mixed-precision training scales it: true gradients have to fit."""
    pool, x = make(name), 1e4 * image().clamp(-3, 3)
    with torch.no_grad():
        for _ in range(batches):
            pool(x)  # batch norms see the magnitude, or they do not
    pool, x = pool.to(dtype).train(training), x.to(dtype).requires_grad_()
    y = pool(x)
    (2.0**-20 * y.float() * torch.randn(y.shape)).sum().backward()
    assert y.isfinite().all()
    assert y.abs().max() > 1000 or name in ("attnpool", "convblurpool", "rnnpool")  # these normalise, or saturate
    for key, tensor in {**dict(pool.named_parameters()), "input": x}.items():
        assert tensor.grad is None or tensor.grad.isfinite().all(), key


@every_pool
def test_channels_last_is_kept(name: str) -> None:
    pool = make(name).eval()
    x = image().contiguous(memory_format=torch.channels_last)
    y = pool(x)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert_close(y, pool(x.contiguous()))


@every_pool
def test_every_parameter_and_the_input_get_a_gradient(name: str) -> None:
    pool, x = make(name), image().requires_grad_()
    for parameter in pool.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))  # some start at zero, and pass nothing on
    (pool(x) * torch.randn(2, CHANNELS, 6, 6)).sum().backward()
    for key, parameter in {**dict(pool.named_parameters()), "input": x}.items():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        moving = parameter.grad.abs().max() > 0
        assert moving or "bias" in key, key  # a bias before a batch norm cancels


@every_pool
def test_gradients_are_right(name: str) -> None:
    pool = POOLS[name](4, 2).double().eval()
    x = torch.randn(2, 4, 4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(pool, (x,), fast_mode=True)


@every_pool
def test_compiles_without_a_graph_break(name: str) -> None:
    pool, x = make(name).eval(), image()
    torch.compiler.reset()  # or the pools share one limit of recompilations
    compiled = torch.compile(pool, fullgraph=True, backend="aot_eager", dynamic=False)
    assert_close(compiled(x), pool(x))


@every_pool
def test_exports(name: str) -> None:
    pool, x = make(name).eval(), image()
    assert_close(torch.export.export(pool, (x,)).module()(x), pool(x))


@every_pool
def test_state_dict_round_trip(name: str) -> None:
    pool, other, x = make(name).eval(), make(name).eval(), image()
    other.load_state_dict(pool.state_dict())
    assert torch.equal(other(x), pool(x))


@every_pool
@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"channels": 0, "kernel_size": 2}, "channels"),
        ({"channels": 8, "kernel_size": 0}, "kernel_size"),
        ({"channels": 8, "kernel_size": 2.0}, "kernel_size"),
        ({"channels": 8, "kernel_size": (2, 2, 2)}, "kernel_size"),
        ({"channels": 8, "kernel_size": 2, "stride": 0}, "stride"),
        ({"channels": 8, "kernel_size": 2, "stride": True}, "stride"),
        ({"channels": 8, "kernel_size": 2, "padding": -1}, "padding"),
        ({"channels": 8, "kernel_size": 2, "padding": 2}, "padding"),
    ],
)
def test_bad_arguments_are_named(name: str, arguments: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=f"{word} has to be .*, but got "):
        POOLS[name](**arguments)


@every_pool
def test_an_unknown_option_fails(name: str) -> None:
    with pytest.raises(TypeError, match="colour"):
        POOLS[name](8, 2, colour="red")


@pytest.mark.parametrize("name", sorted(set(POOLS) - {"maxp", "avgp"}))  # those two are torch's own
@pytest.mark.parametrize(
    ("x", "rule"),
    [
        (torch.zeros(2, 5, 8, 8), "input has to be .*8.*, but got"),
        (torch.zeros(8, 8), "input has to be .*, but got"),
        (torch.zeros(2, 8, 8, 8, dtype=torch.int64), "floating-point"),
    ],
)
def test_bad_input_is_named(name: str, x: Tensor, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        make(name)(x)
