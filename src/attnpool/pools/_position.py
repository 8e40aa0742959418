"""Learned positions of the patches of a map."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnpool.pools._traced import is_traced

SIZES = 16
"""Map sizes that are remembered."""


class PositionTable(nn.Module):
    """P[i, j] = concat(col[j], row[i]): two learned tables, uniform(0, 1) at the start.

    A side of more than `size` positions takes the table interpolated to that length. In eval mode and without
    gradients, the positions of a size are made once, and again after a pass with gradients, `train()`, `eval()`, a
    move, or a change that torch counts; a write to the tables by other ways (`Tensor.data`, numpy) asks for `eval()`.

    Args:
        dim: Channels d of a position; d // 2 are the column's, the rest the row's.
        size: Rows of each table, in positions.

    Shape:
        forward(h, w) gives (h * w, d), row by row.
    """

    def __init__(self, dim: int, size: int = 256) -> None:
        super().__init__()
        self.col = nn.Parameter(torch.rand(size, dim // 2))
        self.row = nn.Parameter(torch.rand(size, dim - dim // 2))
        self._made: dict[tuple[int, int], Tensor] = {}
        self._made_of: list[Any] = []

    def forward(self, height: int, width: int) -> Tensor:
        if not self._may_remember():
            return self._positions(height, width)
        if self.training or torch.is_grad_enabled():
            self._made = {}  # fused optimizers change the tables, and torch does not count it
            return self._positions(height, width)
        tables = [(t.untyped_storage(), t.storage_offset(), t._version) for t in (self.col, self.row)]
        if tables != self._made_of or len(self._made) == SIZES:
            self._made, self._made_of = {}, tables
        if (height, width) in self._made:
            return self._made[height, width]
        made = self._positions(height, width)
        if type(made) is Tensor:  # not a stand-in of one
            self._made[height, width] = made
        return made

    def train(self, mode: bool = True) -> "PositionTable":
        self._made = {}
        return super().train(mode)

    def _positions(self, height: int, width: int) -> Tensor:
        col = _resized(self.col, width).unsqueeze(0).expand(height, -1, -1)  # (h, w, d / 2)
        row = _resized(self.row, height).unsqueeze(1).expand(-1, width, -1)  # (h, w, d / 2)
        return torch.cat((col, row), dim=-1).flatten(0, 1)  # (h * w, d)

    def _may_remember(self) -> bool:
        """Graphs have to read the tables themselves, and tables of inference mode do not say that they change."""
        if is_traced():
            return False
        return not self.col.is_inference() and not (self.col.is_cuda and torch.cuda.is_current_stream_capturing())

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_made": {}, "_made_of": []}  # a copy has tables of its own


def _resized(table: Tensor, length: int) -> Tensor:
    """The first `length` rows, or all of them stretched to `length`."""
    if length <= table.shape[0]:
        return table[:length]
    return F.interpolate(table.T.unsqueeze(0), size=length, mode="linear", align_corners=True).squeeze(0).T
