"""Content-adaptive embeddings: a small latent image for every frame, coded with the one before as context.

HNeRV (Chen et al., "HNeRV: A Hybrid Neural Representation for Videos", CVPR 2023) computes them by a network that is
not transmitted. Here they start from principal components of the frames, a closed form, and are then fitted like the
weights, at their rate. An embedding is expected at `follow` times that of the frame before; step, scale and follow are
numbers for each channel, coded with them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codec.coding.coder import Coder
from codec.coding.distributions import SCALE_MAX, SCALE_MIN, ScaleMixture
from codec.coding.exact import fix
from codec.models.layers.coded_weights import OCTAVE_BITS, STEP_RANGE

FOLLOW_BITS = 4  # shares are multiples of a sixteenth
TRAITS = 4  # numbers a channel: log2 of the step, of the first frame's and the other frames' scale in steps, follow
_TRAIT_SCALE = 4.0  # log2, of these numbers as they are coded


def trait_shape(channels: int) -> tuple[int, int]:
    """Return the shape of the symbols that describe the channels of one group."""
    return 1, TRAITS * channels


def code(coder: Coder, symbols: Mapping[str, Tensor] | None, shape: tuple[int, int, int, int]) -> dict[str, Tensor]:
    """Pass the embeddings of a group through the coder and return them with their `traits`.

    Args:
        symbols: `traits` [1, 1, 4 C] and `embeddings` [1, T, h, w, C], None when decoding.
        shape: T, h, w, C.
    """
    frames, rows, cols, channels = shape
    given = symbols or {}
    nothing = torch.zeros(1, 1, TRAITS * channels, dtype=torch.float64)
    traits = coder(given.get("traits"), nothing, torch.full_like(nothing, _TRAIT_SCALE))
    _, first, later, follow = traits[0, 0].double().view(TRAITS, channels)
    first, later = ((s / (1 << OCTAVE_BITS)).clamp(SCALE_MIN, SCALE_MAX) for s in (first, later))
    follow = (follow / (1 << FOLLOW_BITS)).clamp(-1, 1)
    before, out = torch.zeros(1, rows, cols, channels, dtype=torch.float64), []
    for t in range(frames):
        scale = (later if t else first).expand(1, rows, cols, channels)
        frame = None if symbols is None else given["embeddings"][:, t]
        before = coder(frame, before * follow, scale).double()
        out.append(before)
    return {"traits": traits, "embeddings": torch.stack(out, 1)}


def dequantize(symbols: Tensor, traits: Tensor) -> Tensor:
    """Return embeddings [T, C, h, w] in float32 of symbols [T, h, w, C] and their traits [1, 4 C]."""
    log2 = traits[0].view(TRAITS, -1)[0].double() / (1 << OCTAVE_BITS)
    return (symbols.double() * torch.exp2(log2.clamp(-STEP_RANGE, STEP_RANGE))).float().permute(0, 3, 1, 2)


def principal(frames: Tensor, grid: tuple[int, int], channels: int) -> Tensor:
    """Return the first principal components of blocks of frames [T, 3, H, W], [T, C, h, w], of unit variance.

    The blocks are the cells of the grid at a sixteenth of a cell's side; components that do not exist are zero.
    """
    small = F.adaptive_avg_pool2d(frames, (4 * grid[0], 4 * grid[1]))
    blocks = F.pixel_unshuffle(small, 4).permute(0, 2, 3, 1)
    flat = blocks.reshape(-1, blocks.shape[-1]).double()
    flat = flat - flat.mean(0)
    _, vectors = torch.linalg.eigh(flat.T @ flat)
    parts = flat @ vectors.flip(1)[:, :channels]
    parts = F.pad(parts / parts.std(0, correction=0).clamp_min(1e-3), (0, channels - parts.shape[1]))
    return parts.float().reshape(*blocks.shape[:3], channels).permute(0, 3, 1, 2).contiguous()


class FrameEmbeddings(nn.Module):
    """The embeddings of a group while they are fitted.

    Args:
        start: [T, C, h, w].
    """

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        channels = start.shape[1]
        self.values = nn.Parameter(start)
        self.log2_step = nn.Parameter(torch.full((channels,), -2.0))
        self.log2_first = nn.Parameter(torch.full((channels,), 2.0))
        self.log2_later = nn.Parameter(torch.full((channels,), 0.5))
        self.follow = nn.Parameter(torch.full((channels,), 0.8))

    def in_steps(self, index: Tensor) -> Tensor:
        """Return the embeddings of some frames in steps; those of frame -1 are zero."""
        step = fix(self.log2_step, OCTAVE_BITS)[:, None, None]
        return self.values[index.clamp_min(0)] * torch.exp2(-step) * (index >= 0)[:, None, None, None]

    def dequantized(self, whole: Tensor) -> Tensor:
        return whole * torch.exp2(fix(self.log2_step, OCTAVE_BITS)[:, None, None])

    def bits(self, whole: Tensor, before: Tensor, index: Tensor, shape: ScaleMixture) -> Tensor:
        """Return what embeddings [B, C, h, w] in steps take, given those of the frames before."""
        first = (index == 0)[:, None, None, None]
        scale = torch.where(first, self.log2_first[:, None, None], self.log2_later[:, None, None])
        scale = fix(scale.clamp(SCALE_MIN, SCALE_MAX), OCTAVE_BITS)
        return shape.bits(whole - fix(self.follow.clamp(-1, 1), FOLLOW_BITS)[:, None, None] * before, scale).sum()

    @torch.no_grad()
    def symbols(self) -> dict[str, Tensor]:
        """Return `traits` [1, 4 C] and `embeddings` [T, h, w, C], int32 on the CPU."""
        every = torch.arange(len(self.values), device=self.values.device)
        whole = fix(self.in_steps(every), 0).permute(0, 2, 3, 1)
        octave = 1 << OCTAVE_BITS
        scales = (part.clamp(SCALE_MIN, SCALE_MAX) * octave for part in (self.log2_first, self.log2_later))
        traits = [self.log2_step * octave, *scales, self.follow.clamp(-1, 1) * (1 << FOLLOW_BITS)]
        return {"traits": fix(torch.cat(traits), 0)[None].int().cpu(), "embeddings": whole.int().cpu()}
