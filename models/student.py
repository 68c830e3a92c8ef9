"""Student: files of some hundred bytes that serve a classifier, not eyes.

After Entropic Student (Matsubara et al., "Supervised Compression for Resource-Constrained Edge Computing Systems", WACV
2022) and BottleFit (Matsubara et al., 2022): a narrow bottleneck with a learned prior stands where a teacher's first
stages stood, and is trained to give the rest of the teacher what it had from pixels. New here: one network for all
rates (learned gains), a context prior instead of a factorized one, and symbols whose coding is exact.

    picture --[ shorter side 128 ]-- x --[ packets 8x8 ]--[ g_a: blocks, 2x2 -> 1, blocks ]--[ x gain(q), round ]--> y
                                     |                                                                               |
                                     |    y --[ quincunx prior: coded neighbours, quality ]--> bits                  |
                                     |                                                                               v
                                     |    logits <--[ tail ]-- features <--[ restore: blocks, 1 -> 2x2 ]--[ / gain(q) ]
                                     |       :                    :
                                     `--------------- teacher: features --[ its last stage ]-- logits  (training only)

Training minimises bits + lambda * (Kullback-Leibler divergence from the teacher's probabilities + error of its
features).
No labels are needed: what the teacher says is the target, of any picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codec.coding.coder import RateMeter
from codec.coding.exact import exp2, fix
from codec.errors import ModelError
from codec.learning.networks import Shape, folded
from codec.media.image import Image
from codec.models.layers import wavelet
from codec.models.layers.block import Block
from codec.models.layers.gained import GainedCodec
from codec.models.layers.quincunx import QuincunxPrior
from codec.models.layers.refine import refine
from codec.models.layers.tiles import pixels
from codec.params import image_params, quality_index
from codec.system import Params, Progress, Symbols, UnitSpec
from codec.task import TaskSystem

BANDS = 3 * wavelet.BLOCK**2
BLOCK = 16  # pixels of the reduced picture a side of one latent position
_LONGEST = 4  # times the shorter side; longer pictures are squeezed
_LIMIT = 1 << 15  # symbols saturate here
_TEMPERATURE = (
    2.0  # of the probabilities that are compared (Hinton et al., "Distilling the Knowledge in a Neural Network", 2015)
)
_FEATURES = 0.5  # weight of the features' error, as a share of their energy
_ZOOM, _LIGHT, _MIX = (
    0.6,
    0.3,
    0.5,
)  # of augmentation: smallest crop; change of light and contrast; share of mixed pairs


@dataclass(frozen=True)
class Config:
    """Shape of a student.

    Attributes:
        classes: names.
        side: pixels of the reduced picture's shorter side.
        latents: channels C a block of 16x16 pixels.
        width, deep: channels of the blocks at 1/8 and at 1/16 resolution.
        analysis, restore: numbers of blocks at 1/8 and at 1/16 resolution.
        groups: channel groups of the prior, in coding order.
        hidden: width of the prior's networks.
        lambda_range: weight of the distortion against bits per pixel of the reduced picture, at quality 0 and 100.
        stem, stages: widths of the teacher.
        teacher: its weights, only read when training begins.
    """

    classes: tuple[str, ...]
    side: int
    latents: int
    width: int
    deep: int
    analysis: tuple[int, int]
    restore: tuple[int, int]
    groups: tuple[int, ...]
    hidden: int
    lambda_range: tuple[float, float]
    stem: tuple[int, ...]
    stages: tuple[int, ...]
    teacher: str


class Analysis(nn.Module):
    """g_a: packet coefficients [B, 192, 2h, 2w] to latents [B, C, h, w]."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        fine, deep = config.analysis
        self.head = nn.Conv2d(BANDS, config.width, 1)
        self.fine = nn.ModuleList(Block(config.width) for _ in range(fine))
        self.down = nn.Conv2d(4 * config.width, config.deep, 1)
        self.deep = nn.ModuleList(Block(config.deep) for _ in range(deep))
        self.tail = nn.Conv2d(config.deep, config.latents, 1)

    def forward(self, bands: Tensor, t: Tensor) -> Tensor:
        x = self.head(bands)
        for block in self.fine:
            x = block(x, t)
        x = self.down(F.pixel_unshuffle(x, 2))
        for block in self.deep:
            x = block(x, t)
        return self.tail(x)


class Restore(nn.Module):
    """Latents [B, C, h, w] to features [B, features, 2h, 2w]."""

    def __init__(self, config: Config, features: int) -> None:
        super().__init__()
        fine, deep = config.restore
        self.head = nn.Conv2d(config.latents, config.deep, 1)
        self.deep = nn.ModuleList(Block(config.deep) for _ in range(deep))
        self.up = nn.Conv2d(config.deep, 4 * config.width, 1)
        self.fine = nn.ModuleList(Block(config.width) for _ in range(fine))
        self.tail = nn.Conv2d(config.width, features, 1)

    def forward(self, latents: Tensor, t: Tensor) -> Tensor:
        x = self.head(latents)
        for block in self.deep:
            x = block(x, t)
        x = F.pixel_shuffle(self.up(x), 2)
        for block in self.fine:
            x = block(x, t)
        return F.relu(self.tail(x))


class Student(GainedCodec, TaskSystem):
    """The student system. Symbols: `y` [h, w, C] with h, w the reduced picture's size in blocks of 16."""

    id = "student"
    version = 1
    media = "image"
    channels = 3
    levels = peak = 1.0
    rate_name = "bpp"
    # Gains that learn fast give up before there is anything worth coding.
    rates = GainedCodec.rates | {"log2_gain": 1.0, "tail.": 0.3}

    def __init__(self, config: Config) -> None:
        super().__init__(config.latents, config.lambda_range)
        self.config, self.classes = config, config.classes
        shape = Shape(3, len(config.classes), stem=config.stem, widths=config.stages)
        self.g_a = Analysis(config)
        self.prior = QuincunxPrior(config.latents, config.groups, config.hidden)
        self.restore = Restore(config, config.stages[-2])
        self.tail = nn.ModuleList([folded(shape).stages[-1], nn.Linear(config.stages[-1], len(config.classes))])
        self.teacher = folded(shape).requires_grad_(False)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Student:
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}
        return cls(Config(**values)).to(memory_format=torch.channels_last)

    # --- networks ------------------------------------------------------------------------------------------

    def latents_of(self, x: Tensor, t: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            bands = wavelet.analysis(x)
        return self.g_a(bands, t)

    def signal_of(self, latents: Tensor, t: Tensor) -> Tensor:
        """Map latents to features that the teacher's last stage knows: this system's signal."""
        return self.restore(latents, t)

    def logits_of(self, features: Tensor) -> Tensor:
        """Map features to logits [B, K]."""
        stage, head = self.tail
        return head(stage(features).float().mean((2, 3)).to(head.weight.dtype)).float()

    def taught(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the teacher's features and logits of pictures [B, 3, H, W] in -0.5..0.5."""
        last = len(self.teacher.stages) - 1
        features = self.teacher.before(x, last)
        return features, self.teacher.after(features, last)

    def judge(self, picture: Image) -> Tensor:
        """Return the teacher's logits [K] of a picture: what decoded files are judged with."""
        with torch.no_grad():
            return self.taught(self._reduced(picture.samples).to(self._device))[1][0].cpu()

    # --- training ------------------------------------------------------------------------------------------

    @torch.no_grad()
    def initialize(self, batches: Iterable[Tensor]) -> None:
        """Take over the teacher and its last stage; scale the latents to unit variance.

        Raises:
            ModelError: the teacher's weights are missing or of another shape.
        """
        import safetensors
        import safetensors.torch

        try:
            self.teacher.load_state_dict(safetensors.torch.load_file(Path(self.config.teacher)))
        except (OSError, RuntimeError, safetensors.SafetensorError) as exc:
            hint = "train one: python -m codec.learning.experiments teacher DATA"
            raise ModelError(f"{self.config.teacher}: not the weights of the teacher ({exc}); {hint}") from exc
        self.tail[0].load_state_dict(self.teacher.stages[-1].state_dict())
        self.tail[1].load_state_dict(self.teacher.head.state_dict())
        half = torch.full((1,), 0.5)
        latents = torch.cat([self.latents_of(x, half.to(x.device).expand(len(x))) for x in batches])
        deviation = latents.std((0, 2, 3))
        self.g_a.tail.weight.div_(deviation[:, None, None, None])
        self.g_a.tail.bias.div_(deviation)
        self.log2_gain.copy_(torch.linspace(-0.5, 2.5, len(self.log2_gain))[:, None])

    def rate_of(self, bits: Tensor, batch: Tensor) -> Tensor:
        return bits / (batch.shape[-1] * batch.shape[-2])

    def loss(self, batch: Tensor, t: Tensor | None = None) -> dict[str, Tensor]:
        """Rate + lambda * divergence from the teacher for pictures [B, 3, H, W] in -0.5..0.5.

        While gradients are wanted, pictures are varied and some mixed, the teacher seeing the same.
        """
        t = torch.rand(len(batch), device=batch.device) if t is None else t
        x = varied(batch) if torch.is_grad_enabled() else batch
        with torch.autocast(x.device.type, torch.bfloat16):
            with torch.no_grad():
                target, wanted = self.taught(x)
            latents = self.latents_of(x, t).float()
        y = latents * exp2(self.gain(t))[:, :, None, None]
        meter = RateMeter(self.shape, noise=True)
        self.code(meter, {"grid": (len(y), *y.shape[2:]), "t": t}, {"y": y.permute(0, 2, 3, 1)})
        with torch.autocast(x.device.type, torch.bfloat16):
            features = self.signal_of(self._dequantize(fix(y, 0).permute(0, 2, 3, 1), t), t)
            logits = self.logits_of(features)
        divergence = _divergence(wanted, logits)
        target = target.float()
        error = (features.float() - target).pow(2).flatten(1).mean(1) / target.pow(2).mean()
        rate, weight = self.rate_of(meter.bits, x), self.lambda_of(t)
        return {
            "loss": (weight**-0.45 * (self.rate_weight * rate + weight * (divergence + _FEATURES * error))).mean(),
            "bpp": rate.mean().detach(),
            "divergence": divergence.mean().detach(),
            "features": error.mean().detach(),
            "agree": (logits.argmax(1) == wanted.argmax(1)).float().mean(),
        }

    # --- files ---------------------------------------------------------------------------------------------

    def _size(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of the reduced picture: the shorter side has `config.side` pixels."""
        side = self.config.side
        shorter = min(height, width)
        return tuple(min((side * n + shorter // 2) // shorter, _LONGEST * side) for n in (height, width))

    def _reduced(self, samples: np.ndarray) -> Tensor:
        """Return the reduced picture [1, 3, H, W] in -0.5..0.5, reflected to whole blocks."""
        height, width = self._size(*samples.shape[:2])
        if samples.dtype == np.uint16:
            samples = (samples >> 8).astype(np.uint8)
        if samples.shape[:2] != (height, width):
            picture = PIL.Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
            reduced = picture.resize((width, height), PIL.Image.Resampling.BILINEAR, reducing_gap=3.0)
            samples = np.asarray(reduced).reshape(height, width, samples.shape[2])
        return pixels(samples, slice(0, -(-height // BLOCK)), slice(0, -(-width // BLOCK)), BLOCK)

    def shapes(self, params: Params) -> dict[str, tuple[int, ...]]:
        height, width = self._size(params["height"], params["width"])
        return {"y": (-(-height // BLOCK), -(-width // BLOCK), self.latents)}

    def units(self, params: Params) -> list[UnitSpec]:
        rows, cols, _ = self.shapes(params)["y"]
        return [UnitSpec(params | {"grid": (1, rows, cols)}, {"y": (slice(None), slice(None), slice(None))})]

    @torch.no_grad()
    def analyze(self, signal: Image, *, quality: float, effort: int, progress: Progress) -> tuple[Symbols, Params]:
        params = image_params(signal.samples, quality_index(quality))
        t, x = self._t(params).float(), self._reduced(signal.samples)
        y = self.latents_of(x.to(self._device), t.to(self._device)).cpu()
        y = y * torch.exp2(self.gain(t).float())[..., None, None].cpu()
        if effort > 1:
            y = self._refine(x, y, t, effort, progress)
        progress(1.0)
        return {"y": fix(y, 0).clamp(-_LIMIT, _LIMIT)[0].permute(1, 2, 0).int()}, params

    def _refine(self, x: Tensor, y: Tensor, t: Tensor, effort: int, progress: Progress) -> Tensor:
        """Return latents in steps that cost less, in bits and distance from what the teacher says, than rounding y."""
        twin = self._differentiable()
        wanted = twin.taught(x)[1]
        weight = self.lambda_of(t) * x.shape[-1] * x.shape[-2]  # bits for a unit of divergence, as in training
        gain = torch.exp2(twin.gain(t))[..., None, None]

        def cost(y: Tensor) -> Tensor:
            meter = RateMeter(twin.shape, noise=False)
            twin.code(meter, {"grid": (1, *y.shape[2:]), "t": t}, {"y": y.permute(0, 2, 3, 1)})
            return meter.bits.sum() + weight * _divergence(wanted, twin.logits_of(twin.signal_of(y / gain, t))).sum()

        return refine(cost, y, effort, progress)

    @torch.no_grad()
    def predict(self, symbols: Symbols, params: Params) -> Tensor:
        t = self._t(params).float().to(self._device)
        latents = self.embed(symbols, params)[None].to(self._device)
        return self.logits_of(self.signal_of(latents, t))[0].cpu()


def _divergence(wanted: Tensor, logits: Tensor) -> Tensor:
    """Return the divergence [B] of softened probabilities from the wanted ones, in nats."""
    p, q = (F.log_softmax(x.float() / _TEMPERATURE, 1) for x in (wanted, logits))
    return (p.exp() * (p - q)).sum(1) * _TEMPERATURE**2


def varied(batch: Tensor) -> Tensor:
    """Return pictures [B, 3, H, W] enlarged about a random point, in other light, and some mixed with each other."""
    count = len(batch)
    draw = lambda low, high: torch.empty(count, device=batch.device).uniform_(low, high)
    zoom, row, col = draw(_ZOOM, 1), draw(-1, 1), draw(-1, 1)
    theta = torch.zeros(count, 2, 3, device=batch.device)
    theta[:, 0, 0] = theta[:, 1, 1] = zoom
    theta[:, 0, 2], theta[:, 1, 2] = (1 - zoom) * col, (1 - zoom) * row
    grid = F.affine_grid(theta, list(batch.shape), align_corners=False)
    x = F.grid_sample(batch, grid, padding_mode="border", align_corners=False)
    contrast, light = draw(1 - _LIGHT, 1 + _LIGHT)[:, None, None, None], draw(-_LIGHT, _LIGHT)[:, None, None, None] / 2
    mean = x.mean((1, 2, 3), keepdim=True)
    x = ((x - mean) * contrast + mean + light).clamp(-0.5, 0.5)
    share = torch.where(draw(0, 1) < _MIX, draw(0.5, 1), torch.ones(1, device=batch.device))[:, None, None, None]
    return share * x + (1 - share) * x.roll(1, 0)
