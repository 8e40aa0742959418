"""The contract that every registered pooling method keeps."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

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
def test_a_training_step_compiles_without_a_graph_break(name: str) -> None:
    torch.compiler.reset()
    pool = make(name)
    if name == "gaussian_pool":
        pool = make(name, stochasticity=None)  # its noise is drawn differently there
    other = copy.deepcopy(pool)
    compiled = torch.compile(other, fullgraph=True, backend="aot_eager", dynamic=False)
    x = image()
    found, expected = (step(layer, x.clone().requires_grad_()) for layer in (compiled, pool))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def step(layer: Any, x: Tensor) -> list[Tensor]:
    """Output of a training step, and the gradients of all that it depends on."""
    y = layer(x)
    cotangent = torch.linspace(-1, 1, y.numel(), device=y.device).view_as(y)
    gradients = torch.autograd.grad(y, [x, *layer.parameters()], cotangent, allow_unused=True)
    return [y, *(g for g in gradients if g is not None)]


@every_pool
def test_activation_checkpointing(name: str) -> None:
    pool, x = make(name), image().requires_grad_()
    rng = torch.get_rng_state()
    expected = step(pool, x)
    torch.set_rng_state(rng)
    y = checkpoint(pool, x, use_reentrant=False)
    found = torch.autograd.grad(y, [x, *pool.parameters()], torch.linspace(-1, 1, y.numel()).view_as(y))
    for a, b in zip([y, *found], expected, strict=True):
        torch.testing.assert_close(a, b)


@every_pool
def test_autocast(name: str) -> None:
    pool, x = make(name).eval(), image().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = pool(x)
    (y.float() * torch.randn(2, CHANNELS, 6, 6)).sum().backward()
    assert_close(y.bfloat16(), pool(x).bfloat16())
    for tensor in (x, *pool.parameters()):
        assert tensor.grad is None or (tensor.grad.dtype == torch.float32 and tensor.grad.isfinite().all())


class NeverWaits(TorchDispatchMode):
    """Fails at what makes the host wait for a device: values read back, sizes from values, constants copied over."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        assert name not in ("_local_scalar_dense", "nonzero", "masked_select", "lift_fresh", "is_nonzero"), name
        return func(*args, **(kwargs or {}))


@every_pool
@pytest.mark.parametrize("training", [True, False])
def test_the_host_never_waits_for_the_device(name: str, training: bool) -> None:
    pool, x = make(name, 3, 2, 1).train(training), image(2, CHANNELS, 13, 10).requires_grad_()
    with NeverWaits():
        pool(x).sum().backward()


@every_pool
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_training_step_in_a_cuda_graph(name: str) -> None:
    pool, x = make(name).cuda(), image().cuda().requires_grad_()
    graphed = torch.cuda.make_graphed_callables(copy.deepcopy(pool), (x,))
    torch.cuda.set_sync_debug_mode("error")
    try:
        found, expected = step(graphed, x), step(pool, x)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    if name != "gaussian_pool":  # noise
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


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
