"""The weighted mean over windows: equal to two average pools, differentiable twice, and lean."""

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from attnpool.pools._axis import Axis
from attnpool.pools._weighted import weighted_pool2d

GEOMETRIES = [  # kernel, stride, padding, ceil_mode
    ((2, 2), (2, 2), (0, 0), False),
    ((4, 6), (4, 6), (0, 0), True),
    ((3, 3), (2, 2), (1, 1), False),
    ((3, 3), (2, 2), (1, 1), True),
    ((4, 2), (3, 1), (2, 1), True),
    ((2, 2), (4, 3), (0, 0), False),
    ((4, 4), (2, 2), (2, 2), False),
    ((13, 5), (1, 1), (0, 0), False),
]
SIZES = [(12, 12), (13, 10)]


def two_averages(x: Tensor, w: Tensor, *geometry: Any, normalize: bool) -> Tensor:
    w = F.interpolate(w, size=x.shape[-2:])
    y = F.avg_pool2d(x * w, *geometry)
    return y / F.avg_pool2d(w, *geometry) if normalize else y


def pair(size: tuple[int, int], grid: int, batch: int = 2) -> tuple[Tensor, Tensor]:
    x = torch.randn(batch, 3, *size, dtype=torch.float64, requires_grad=True)
    w = 1 + torch.rand(batch, 3, size[0] // grid, size[1] // grid, dtype=torch.float64)
    return x, w.requires_grad_()


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("grid", [1, 2, 3, 4])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_equals_two_average_pools(geometry: tuple[Any, ...], size: tuple[int, int], grid: int, normalize: bool) -> None:
    if size[0] < geometry[0][0]:
        size = (13, 13)
    x, w = pair(size, grid)
    found = weighted_pool2d(x, w, *geometry, normalize=normalize)
    expected = two_averages(x, w, *geometry, normalize=normalize)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    cotangent = torch.randn_like(expected)
    for a, b in zip(*(torch.autograd.grad(y, (x, w), cotangent) for y in (found, expected)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("grid", [1, 2])
@pytest.mark.parametrize("geometry", GEOMETRIES[:5])
def test_second_derivatives(geometry: tuple[Any, ...], grid: int, normalize: bool) -> None:
    x, w = pair((6, 6), grid, batch=1)
    assert torch.autograd.gradgradcheck(lambda x, w: weighted_pool2d(x, w, *geometry, normalize=normalize), (x, w))


@pytest.mark.parametrize("grid", [1, 2, 3])
def test_maps_over_a_further_dimension(grid: int) -> None:
    x, w = pair((6, 9), grid, batch=4)
    x, w = x.detach().unflatten(0, (2, 2)), w.detach().unflatten(0, (2, 2))

    def total(x: Tensor, w: Tensor) -> Tensor:
        return weighted_pool2d(x, w, (3, 3), (2, 2), (1, 1)).square().sum()

    found = torch.func.vmap(torch.func.grad(total, argnums=(0, 1)))(x, w)
    for i, j in itertools.product(range(2), range(2)):
        torch.testing.assert_close(found[j][i], torch.func.grad(total, argnums=j)(x[i], w[i]))


def test_nearest_is_that_of_torch() -> None:
    for length, weights in itertools.product(range(1, 150), range(1, 60)):
        if weights <= length:
            axis = Axis(length, weights, 1, 1, 0, length)
            expected = F.interpolate(torch.arange(float(weights)).view(1, 1, -1), size=length).flatten()
            assert torch.equal(axis.source(expected).float(), expected), (length, weights)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("geometry", GEOMETRIES[:4])
def test_the_layout_is_kept_both_ways(geometry: tuple[Any, ...], memory_format: torch.memory_format) -> None:
    x, w = (t.detach().to(memory_format=memory_format).requires_grad_() for t in pair((12, 12), 1))
    y = weighted_pool2d(x, w, *geometry)
    for tensor in (y, *torch.autograd.grad(y.sum(), (x, w))):
        assert tensor.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("geometry", GEOMETRIES[:4])
def test_only_x_and_w_are_kept(geometry: tuple[Any, ...], dtype: torch.dtype) -> None:
    x, w = (t.detach().to(dtype).requires_grad_() for t in pair((12, 12), 1))
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        weighted_pool2d(x, w, *geometry)
    assert [tensor.data_ptr() for tensor in kept] == [x.data_ptr(), w.data_ptr()]


@pytest.mark.parametrize("geometry", GEOMETRIES[:4])
def test_what_is_frozen_gets_no_gradient(geometry: tuple[Any, ...]) -> None:
    x, w = pair((12, 12), 1)
    of_x, of_w = torch.autograd.grad(weighted_pool2d(x, w, *geometry).square().sum(), (x, w))
    for tensor, other, expected in ((x, w, of_x), (w, x, of_w)):
        other.requires_grad_(False)
        assert torch.equal(torch.autograd.grad(weighted_pool2d(x, w, *geometry).square().sum(), tensor)[0], expected)
        other.requires_grad_()


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_forward_mode() -> None:
    x, w = (t.detach() for t in pair((6, 6), 2))
    tangents = torch.randn_like(x), torch.randn_like(w)

    def pool(x: Tensor, w: Tensor) -> Tensor:
        return weighted_pool2d(x, w, (3, 3), (2, 2), (1, 1))

    found = torch.func.jvp(pool, (x, w), tangents)[1]
    near = (pool(x + 1e-6 * tangents[0], w + 1e-6 * tangents[1]) - pool(x, w)) / 1e-6
    torch.testing.assert_close(found, near, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 2, 6, 6), (2, 3, 6, 6), (1, 3, 7, 6), (1, 3, 6, 12)])
def test_weights_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"w has to be .* x=\(1, 3, 6, 6\)"):
        weighted_pool2d(torch.ones(1, 3, 6, 6), torch.ones(shape), (2, 2), (2, 2))


def test_no_window_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"has to hold a window of \(8, 8\).*, but is \(4, 4\)"):
        weighted_pool2d(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 2, 2), (8, 8), (8, 8))
    with pytest.raises(ValueError, match="has to hold a window"):
        weighted_pool2d(torch.ones(1, 1, 3, 3), torch.ones(1, 1, 3, 3), (4, 4), (4, 4))
