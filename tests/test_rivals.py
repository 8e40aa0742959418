"""What makes each rival what it is, beyond its formula."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from attnpool.registry import POOLS


def gains(stochasticity: str | None) -> tuple[Tensor, Tensor]:
    """The share of the standard deviation in each output of Gaussian pooling, in training, twice."""
    pool = POOLS["gaussian_pool"](4, 2, stochasticity=stochasticity).double().train()
    x = torch.randn(3, 4, 8, 8, dtype=torch.float64)
    mean = F.avg_pool2d(x, 2)
    std = (F.avg_pool2d(x**2, 2) - mean**2).sqrt()
    first, second = ((pool(x) - mean) / std for _ in range(2))
    return first, second


def test_gaussian_pooling_draws_for_each_output_each_channel_or_not_at_all() -> None:
    first, second = gains("HWCN")
    assert (first - second).abs().min() > 0
    assert (first.amax((2, 3)) - first.amin((2, 3))).min() > 0.1
    first, second = gains("CN")
    assert (first - second).abs().min() > 0
    torch.testing.assert_close(first.amax((2, 3)), first.amin((2, 3)))
    first, second = gains(None)
    assert torch.equal(first, second)
    torch.testing.assert_close(first.amax((2, 3)), first.amin((2, 3)))
    with pytest.raises(ValueError, match="stochasticity has to be 'HWCN', 'CN' or None, but got 'N'"):
        POOLS["gaussian_pool"](4, 2, stochasticity="N")


def test_softpool_lies_between_the_mean_and_the_largest_and_never_overflows() -> None:
    x = torch.randn(2, 4, 8, 8)
    y = POOLS["softpool"](4, 2)(x)
    assert (F.avg_pool2d(x, 2) <= y).all()
    assert (y <= F.max_pool2d(x, 2)).all()
    large = 3e4 * torch.randn(2, 4, 8, 8).sign() + x  # exp of these is infinite, or zero, in any precision
    torch.testing.assert_close(POOLS["softpool"](4, 2)(large), F.max_pool2d(large, 2), rtol=1e-3, atol=0)


@pytest.mark.parametrize("simplified", [False, True])
def test_local_importance_pooling_starts_as_average_pooling(simplified: bool) -> None:
    x = torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(POOLS["lipfull"](4, 2, simplified=simplified)(x), F.avg_pool2d(x, 2))
    one = POOLS["lipfull"](4, 1, simplified=simplified)
    torch.testing.assert_close(one(x[..., :1, :1]), x[..., :1, :1])  # a map of one position


@pytest.mark.parametrize("filter_size", [2, 3, 4, 5])
def test_a_larger_blur_is_less_moved_by_a_shift(filter_size: int) -> None:
    """Zhang's question: how far a map shifted by a pixel is from the map, after pooling."""

    def moved(name: str, **options: Any) -> float:
        x = torch.randn(8, 4, 33, 33, generator=torch.Generator().manual_seed(0))
        pool = POOLS[name](4, 2, **options)
        return float((pool(x[..., :-1, :-1]) - pool(x[..., 1:, 1:])).abs().mean())

    assert moved("maxblurpool", filter_size=filter_size) < moved("maxp")
    if filter_size > 2:
        assert moved("blurpool", filter_size=filter_size) < moved("blurpool", filter_size=filter_size - 1)


@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
def test_a_blur_keeps_what_is_constant_also_at_the_border(kernel: int) -> None:
    x = torch.full((1, 2, 9, 7), 3.0)
    for size in (2, 3, 4, 5):
        y = POOLS["blurpool"](2, kernel, 2, kernel // 2, filter_size=size)(x)
        torch.testing.assert_close(y, torch.full_like(y, 3.0))
    with pytest.raises(ValueError, match="filter_size has to be 2, 3, 4 or 5, but got 6"):
        POOLS["blurpool"](2, 2, filter_size=6)


def test_the_taps_of_a_blur_can_be_written_to() -> None:
    pool: Any = POOLS["blurpool"](4, 2)
    pool.taps.copy_(pool.taps.clone())  # as DistributedDataParallel does with every buffer


def test_rnnpool_as_in_the_paper_reads_patches_of_6_at_stride_4() -> None:
    pool: Any = POOLS["rnnpool"](32, 6, 4, hidden=(8, 8))
    assert pool.extent == (6, 6)
    assert isinstance(pool.project, torch.nn.Identity)  # 4 * 8 channels are as many as come in
    assert sum(p.numel() for p in pool.parameters()) == (32 * 8 + 8 * 8 + 16) + (8 * 8 + 8 * 8 + 16)
    assert pool(torch.randn(1, 32, 112, 112)).shape == (1, 32, 27, 27)
    x = torch.randn(2, 32, 14, 14)
    assert not torch.equal(
        pool(x), pool(x.clone().index_fill_(3, torch.tensor([5]), 0.0))
    )  # column 5: the first's last


def test_rnnpool_of_a_map_on_its_side_has_rows_and_columns_exchanged() -> None:
    pool = POOLS["rnnpool"](32, 4, hidden=(8, 8))
    x = torch.randn(2, 32, 8, 8)
    rows, columns = pool(x).split(16, dim=1)
    rows_, columns_ = pool(x.transpose(2, 3)).transpose(2, 3).split(16, dim=1)
    torch.testing.assert_close(rows, columns_)
    torch.testing.assert_close(columns, rows_)
