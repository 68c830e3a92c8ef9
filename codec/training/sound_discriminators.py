"""Networks that tell sound from its reconstruction; see `discriminators`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from codec.training.discriminators import Discriminators, through

_PEAK = 0.8  # of the sound as discriminators hear it (Kumar et al., 2023)
_SILENCE = 1e-3  # -60 dB: quieter sound is not made louder than such
_SLOPE = 0.1
_GROWTH = (1, 4, 16, 32, 32)  # widths of a period discriminator's layers
_THIRDS = 4  # of these layers that keep one place in three
_BANDS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)  # edges, of the spectrum's width
_HALVINGS = 3  # layers in which a band loses every other bin


class PeriodDiscriminator(nn.Module):
    """Look at every p-th sample: samples [B, n] to layers [B * p, C, n / p / 3**i].

    Kong et al., "HiFi-GAN" (2020), 2.3: columns of the signal folded at a period do not know of each other, so they are
    a batch here. At width 32 these are the published networks.

    Args:
        period: p, in samples.
        width: channels of the first layer; the last has 32 times as many.
    """

    def __init__(self, period: int, width: int) -> None:
        super().__init__()
        self.period = period
        widths = [1, *(width * growth for growth in _GROWTH)]
        self.body = nn.ModuleList(
            weight_norm(nn.Conv1d(a, b, 5, stride=3 if i < _THIRDS else 1, padding=2))
            for i, (a, b) in enumerate(pairwise(widths))
        )
        self.tail = weight_norm(nn.Conv1d(widths[-1], 1, 3, padding=1))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.pad(x[:, None], (0, -x.shape[-1] % self.period), mode="reflect")[:, 0]
        x = x.unflatten(-1, (-1, self.period)).transpose(1, 2).flatten(0, 1)[:, None]
        layers = through(self.body, x, _SLOPE)
        return [*layers, self.tail(layers[-1])]


class BandDiscriminator(nn.Module):
    """Look at bands of a complex spectrogram: samples [B, n] to layers [B, C, frames, bins of a band / 2**i].

    Kumar et al., "High-Fidelity Audio Compression with Improved RVQGAN" (2023), 3.3: each band has layers of its own,
    so the loud low ones do not decide alone. At width 32 these are the published networks.

    Args:
        window: samples a spectrum; four windows overlap.
        width: channels of all layers.
    """

    def __init__(self, window: int, width: int) -> None:
        super().__init__()
        self.window = window
        self.register_buffer("shape", torch.hann_window(window), persistent=False)
        edges = [int(edge * (window // 2 + 1)) for edge in _BANDS]
        self.bands = [slice(a, b) for a, b in pairwise(edges)]
        self.body = nn.ModuleList(_band_layers(width) for _ in self.bands)
        self.tail = weight_norm(nn.Conv2d(width, 1, 3, padding=1))

    def forward(self, x: Tensor) -> list[Tensor]:
        spectra = torch.stft(x, self.window, self.window // 4, window=self.shape, return_complex=True)
        planes = torch.view_as_real(spectra).permute(0, 3, 2, 1)  # real and imaginary parts, [B, 2, frames, bins]
        bands = [through(body, planes[..., band], _SLOPE) for body, band in zip(self.body, self.bands, strict=True)]
        together = torch.cat([layers[-1] for layers in bands], -1)
        return [layer for layers in bands for layer in layers] + [self.tail(together)]


class SoundDiscriminators(Discriminators):
    """All of them: sounds [B, n] to the layers of each."""

    def __init__(self, *, periods: Sequence[int], period_width: int, windows: Sequence[int], band_width: int) -> None:
        super().__init__(
            [
                *(PeriodDiscriminator(period, period_width) for period in periods),
                *(BandDiscriminator(window, band_width) for window in windows),
            ]
        )

    def signals(self, x: Tensor, x_hat: Tensor) -> tuple[Tensor, Tensor]:
        """Return sounds and reconstructions [B, C, n] channel by channel: [B * C, n], without offset, loud.

        Both get the gain of the sound, so that a reconstruction too loud or too quiet is heard to be, and one of
        silence is not blown up.
        """
        x, x_hat = x.flatten(0, 1), x_hat.flatten(0, 1).float()
        gain = _PEAK / x.abs().amax(-1, keepdim=True).clamp_min(_SILENCE)
        return (x - x.mean(-1, keepdim=True)) * gain, (x_hat - x_hat.mean(-1, keepdim=True)) * gain

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        return [network(x) for network in self]


def _band_layers(width: int) -> nn.ModuleList:
    first = nn.Conv2d(2, width, (3, 9), padding=(1, 4))
    halving = [nn.Conv2d(width, width, (3, 9), stride=(1, 2), padding=(1, 4)) for _ in range(_HALVINGS)]
    return nn.ModuleList(weight_norm(layer) for layer in (first, *halving, nn.Conv2d(width, width, 3, padding=1)))
