"""Networks that tell sound from its reconstruction, and what both sides of that contest minimise.

Each returns the outputs [B', C, ...] of its layers; the last, of one channel, is its verdict: 1 for sound, 0 for a
reconstruction. They only teach: nothing of them is in a model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

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
        layers = _through(self.body, x)
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
        bands = [_through(body, planes[..., band]) for body, band in zip(self.body, self.bands, strict=True)]
        together = torch.cat([layers[-1] for layers in bands], -1)
        return [layer for layers in bands for layer in layers] + [self.tail(together)]


class Discriminators(nn.ModuleList):
    """All of them: sounds [B, n] to the layers of each."""

    def __init__(self, *, periods: Sequence[int], period_width: int, windows: Sequence[int], band_width: int) -> None:
        super().__init__(
            [
                *(PeriodDiscriminator(period, period_width) for period in periods),
                *(BandDiscriminator(window, band_width) for window in windows),
            ]
        )

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        return [network(x) for network in self]


def discriminator_loss(sound: list[list[Tensor]], made: list[list[Tensor]]) -> Tensor:
    """Return the squared error of verdicts on sounds and reconstructions (Mao et al., "Least Squares GAN", 2017)."""
    return sum((1 - a[-1]).square().mean() + b[-1].square().mean() for a, b in zip(sound, made, strict=True))


def adversarial_loss(made: list[list[Tensor]]) -> Tensor:
    """Return how far verdicts on reconstructions are from those on perfect sounds, squared."""
    return sum((1 - layers[-1]).square().mean() for layers in made)


def feature_distance(sound: list[list[Tensor]], made: list[list[Tensor]]) -> Tensor:
    """Return the sum over layers of mean |sound - made|: feature matching, verdicts left out (HiFi-GAN, 2.4)."""
    pairs = [pair for a, b in zip(sound, made, strict=True) for pair in zip(a[:-1], b[:-1], strict=True)]
    return sum((a - b).abs().mean() for a, b in pairs)


def _band_layers(width: int) -> nn.ModuleList:
    first = nn.Conv2d(2, width, (3, 9), padding=(1, 4))
    halving = [nn.Conv2d(width, width, (3, 9), stride=(1, 2), padding=(1, 4)) for _ in range(_HALVINGS)]
    return nn.ModuleList(weight_norm(layer) for layer in (first, *halving, nn.Conv2d(width, width, 3, padding=1)))


def _through(body: Iterable[nn.Module], x: Tensor) -> list[Tensor]:
    """Return the output of every layer."""
    layers = []
    for layer in body:
        x = F.leaky_relu(layer(x), _SLOPE)
        layers.append(x)
    return layers
