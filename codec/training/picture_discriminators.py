"""Networks that tell pictures from their reconstructions, patch by patch; see `discriminators`."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from codec.training.discriminators import Discriminators, through

_BLOCK = 4  # pixels a side that the first layer takes as channels: full resolution is where a CPU would spend its time
_GROWTH = (1, 2, 4)  # widths of the layers, at 1/4, 1/8 and 1/16
_STRIDE = 16  # pixels between verdicts
_SLOPE = 0.2


class PatchDiscriminator(nn.Module):
    """Look at patches of 68x68 pixels: pictures [B, 3, H, W] to layers [B, C, H / 4 / 2**i, W / 4 / 2**i].

    After Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks" (2017), 3.2.2, whose patches
    have 70x70 pixels: there is a verdict for every 16x16 pixels, so texture is judged and composition is not. Sizes
    that are no multiple of 4 are continued by their last pixels.

    Args:
        width: channels of the first layer; the last has four times as many.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [3 * _BLOCK**2, *(width * growth for growth in _GROWTH)]
        self.body = nn.ModuleList(
            weight_norm(nn.Conv2d(a, b, 3, stride=2 if i else 1, padding=1))
            for i, (a, b) in enumerate(pairwise(widths))
        )
        self.tail = weight_norm(nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, x: Tensor) -> list[Tensor]:
        height, width = x.shape[-2:]
        x = F.pad(x, (0, -width % _BLOCK, 0, -height % _BLOCK), mode="replicate")
        x = F.pixel_unshuffle(x, _BLOCK).contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, torch.bfloat16):
            layers = through(self.body, x, _SLOPE)
            verdict = self.tail(layers[-1])
        return [*layers, verdict.float()]


class PictureDiscriminators(Discriminators):
    """One for the picture, one for the picture at half its size, and so on: [B, 3, H, W] to the layers of each.

    Small ones see wide: Wang et al., "High-Resolution Image Synthesis with Conditional GANs" (2018), 3.2.
    """

    def __init__(self, *, width: int, scales: int) -> None:
        super().__init__(PatchDiscriminator(width) for _ in range(scales))

    def signals(self, x: Tensor, x_hat: Tensor) -> tuple[Tensor, Tensor]:
        """Return pictures [B, 3, H, W] in -0.5..0.5 and their reconstructions in -1..1, less a few rows and columns.

        How many is drawn anew each time: layers with strides have gradients with a pattern of the same period, which
        could add up to a grid in reconstructions if it always lay in one place.
        """
        top, left = (int(torch.randint(min(_STRIDE, side), ())) for side in x.shape[2:])
        return tuple(2 * picture[..., top:, left:].float() for picture in (x, x_hat))

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        layers = []
        for network in self:
            layers.append(network(x))
            x = F.avg_pool2d(x, 2, ceil_mode=True)
        return layers
