"""RNNPool: each patch of the map is read by a small recurrent network, along its rows and its columns."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnpool.pools._size import Size, check_input, pair, positive, window, window_counts
from attnpool.registry import POOLS


class FastGRNNCell(nn.Module):
    """z = sigmoid(W x + U h + b_z), h' = (1 - z) * tanh(W x + U h + b_h) + z * h.

    Kusupati et al., NeurIPS 2018, https://arxiv.org/abs/1901.02358, with its two scalars at 1 and 0, where the
    published RNNPool holds them. The weights start so that the states vary as the inputs do; published are weights of
    0.1 and biases of 1, with which they hardly vary and a batch norm behind them sees a constant.

    Args:
        inputs: Channels of x.
        hidden: Channels of the state h, which begins as zeros.

    Shape:
        A sequence already times W, (steps, N, hidden), to its last state, (N, hidden).
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.input = nn.Linear(inputs, hidden, bias=False)
        self.state = nn.Linear(hidden, hidden, bias=False)
        self.gate_bias = nn.Parameter(torch.zeros(hidden))
        self.update_bias = nn.Parameter(torch.zeros(hidden))
        nn.init.normal_(self.input.weight, std=inputs**-0.5)
        nn.init.orthogonal_(self.state.weight)

    def forward(self, sequence: Tensor) -> Tensor:
        h = torch.zeros_like(sequence[0])  # (N, hidden)
        for step in sequence.unbind(0):
            a = step + self.state(h)
            z = (a + self.gate_bias).sigmoid()
            h = (1 - z) * (a + self.update_bias).tanh() + z * h
        return h


TOO_DEEP = "its patches are arrays of six dimensions, and LiteRT's have five at most"


@POOLS.register(
    "rnnpool",
    paper="Saha et al., NeurIPS 2020, arXiv 2002.11921",
    limits={"rnnpool": {"litert": TOO_DEEP, "micro": TOO_DEEP}},
)
class RNNPool2d(nn.Module):
    """RNNPool: y = conv_1x1(last states of RNN2, both ways, over RNN1's summaries of each patch's rows and columns).

    Saha et al., NeurIPS 2020, https://arxiv.org/abs/2002.11921. RNN1 reads each row and each column of a patch; RNN2
    reads the rows' summaries forwards and backwards, then the columns': 4 * hidden[1] channels. Both are FastGRNN, each
    with one set of weights. The convolution, ours, brings them to C channels where they are not so many already.

    Args:
        channels: Channels C of the input.
        kernel_size: Window height and width, in pixels: the sizes follow it.
        stride: Step of the window, in pixels; default: `kernel_size`.
        padding: Border of zeros on each side, in pixels.
        ceil_mode: Whether a last, incomplete window counts.
        extent: Height and width of the patch that is read, around the middle of its window, in pixels; default: half
            as much again as the stride, the paper's 6 at stride 4.
        hidden: States of RNN1 and RNN2; the paper takes 8 to 16.

    Shape:
        (B, C, H, W) to (B, C, H', W'), or unbatched, sizes as `nn.AvgPool2d`.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        *,
        extent: Size | None = None,
        hidden: tuple[int, int] = (16, 16),
    ) -> None:
        super().__init__()
        self.channels = positive("channels", channels)
        self.kernel_size, self.stride, self.padding = window(kernel_size, stride, padding)
        self.ceil_mode = ceil_mode
        usual = (3 * self.stride[0] // 2, 3 * self.stride[1] // 2)
        self.extent = usual if extent is None else pair("extent", extent)
        first, second = pair("hidden", hidden)
        self.rnn1, self.rnn2 = FastGRNNCell(channels, first), FastGRNNCell(first, second)
        self.project = nn.Identity() if 4 * second == channels else nn.Conv2d(4 * second, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.channels)
        if x.ndim == 3:
            return self.forward(x.unsqueeze(0)).squeeze(0)
        patches = self._patches(F.conv2d(x, self.rnn1.input.weight[..., None, None]))  # (r, c, B, H', W', h1)
        rows = self.rnn1(patches.transpose(0, 1))  # along c, of each row: (r, B, H', W', h1)
        columns = self.rnn1(patches)  # (c, B, H', W', h1)
        states = []
        for summaries in (rows, columns):
            sequence = self.rnn2.input(summaries)
            states += [self.rnn2(sequence), self.rnn2(sequence.flip(0))]  # each (B, H', W', h2)
        return self.project(torch.cat(states, dim=-1).permute(0, 3, 1, 2))  # (B, C, H', W')

    def _patches(self, x: Tensor) -> Tensor:
        """The patch around the middle of every window, cut and filled with zeros where it leaves the map."""
        counts = window_counts(x.shape[-2:], self.kernel_size, self.stride, self.padding, self.ceil_mode)
        border: list[int] = []
        for axis in (0, 1):
            before = self.padding[axis] + (self.extent[axis] - self.kernel_size[axis]) // 2
            after = (counts[axis] - 1) * self.stride[axis] + self.extent[axis] - before - x.shape[axis + 2]
            border = [before, after, *border]  # F.pad begins with the last side
        x = F.pad(x, border)
        x = x.unfold(2, self.extent[0], self.stride[0]).unfold(3, self.extent[1], self.stride[1])
        return x.permute(4, 5, 0, 2, 3, 1)  # of (B, h1, H', W', r, c)

    def extra_repr(self) -> str:
        return f"{self.channels}, kernel_size={self.kernel_size}, stride={self.stride}, extent={self.extent}"
