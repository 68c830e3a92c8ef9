"""What frames look like: decoded frames, and what others are expected to look like from them. Decides no bits.

    past, ahead --[ compensate, blend ]--> picture --[ g_a ]--> p --(+)--[ g_s ]--(-)--(+)--> x_hat
                                              |                 |    |             |    |
                                              |                 |    y / gain      |    |
                                              |                 `---------[ g_s ]--'    |
                                              `-----------------------------------------'

Analysis and synthesis change a picture a little each time, and a scene that moves would go through them once a frame:
after six times at low quality 2 to 4 dB are gone. So what residuals change in the synthesis of the expected latents is
added to the expected picture. In the first models of stem the synthesis of all latents took its place.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from codec.models.layers import motion
from codec.models.layers.frame_prior import FINE, SITE, Known, Level, fields_of, share_of_past
from codec.models.layers.gained import GainedCodec
from codec.system import Symbols


class Decoded(NamedTuple):
    """A decoded frame: latents [B, C, h, w], picture [B, 3, H, W] and what decides bits of the next."""

    v: Tensor
    picture: Tensor
    known: Known


class Source(NamedTuple):
    """What a frame is predicted from: the frame before, the one ahead if there is one, and what is known of them."""

    past: Decoded
    ahead: Decoded | None
    known: Known | None


class FrameLoop:
    """Frames from symbols and from one another.

    Args:
        image: the codec of pictures.
        adds: whether residuals change expected pictures; otherwise expected latents alone.
    """

    def __init__(self, image: GainedCodec, *, adds: bool) -> None:
        self._image, self._adds = image, adds

    def predict(self, source: Source, part: Symbols, level: Level) -> tuple[Tensor, Tensor]:
        """Return latents [B, C, h, w] and picture to expect of a frame with such `head`, `m` and, between two, `d`."""
        fields = [field.float().to(self._image._device) for field in fields_of(part)]
        if source.ahead is None:
            still, picture = source.past.v, motion.compensate(source.past.picture, fields[0])
        else:
            share = share_of_past(part).permute(0, 3, 1, 2).float().to(self._image._device)
            still = share * source.past.v + (1 - share) * source.ahead.v
            both = zip((source.past, source.ahead), fields, strict=True)
            picture = _blended(*(motion.compensate(one.picture, field) for one, field in both), share)
        moving = F.max_pool2d((torch.cat(fields, -1) != 0).any(-1)[:, None].float(), FINE)
        if not moving.any():
            return still, picture
        return torch.where(F.max_pool2d(moving, 3, 1, 1) > 0, self.latents(picture, level), still), picture

    def image_of(self, y: Tensor, level: Level) -> tuple[Tensor, Tensor]:
        """Return latents and picture of symbols y of frames coded as images."""
        v = self.units(y, level)
        return v, self.picture(v, level)

    def units(self, y: Tensor, level: Level) -> Tensor:
        """Return symbols [B, h, w, C] in signal units, [B, C, h, w] on the device of the transforms."""
        v = y.float() * torch.exp2(-level.log2_gain.float())[:, None, None]
        return v.permute(0, 3, 1, 2).to(self._image._device)

    def steps(self, latents: Tensor, level: Level) -> Tensor:
        """Return latents [B, C, h, w] in quantization steps, [B, h, w, C] where bits are decided."""
        y = latents.permute(0, 2, 3, 1).to(level.t)
        return y * torch.exp2(level.log2_gain)[:, None, None]

    def latents(self, x: Tensor, level: Level) -> Tensor:
        return self._image.latents_of(x, level.t.to(x)).float()

    def picture(self, v: Tensor, level: Level) -> Tensor:
        return self._image.signal_of(v, level.t.to(v)).float()

    def completed(self, expected: tuple[Tensor, Tensor], part: Symbols, level: Level) -> tuple[Tensor, Tensor]:
        """Return latents and picture of a frame; `expected` is what `predict` says of it.

        Analysis and synthesis of a picture that moves change it a little each time. So, but in the first models, what
        residuals change in the synthesis of the expected latents is added to the expected picture.
        """
        p, picture = expected
        if not part["c"].any() and (self._adds or not any(field.any() for field in fields_of(part))):
            return p, picture
        v = p + self.units(part["y"], level)
        if not self._adds:
            return v, self.picture(v, level)
        return v, (picture + self.picture(v, level) - self.picture(p, level)).clamp(-0.5, 0.5)


def _blended(past: Tensor, ahead: Tensor, share: Tensor) -> Tensor:
    """Return pictures [B, 3, H, W] mixed: `share` [B, 1, h, w] of the first, without edges between positions."""
    share = F.interpolate(share, scale_factor=SITE, mode="bilinear", align_corners=False)
    return share * past + (1 - share) * ahead
