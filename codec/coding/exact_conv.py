"""Integer convolutions that are exact on any device: what `exact.ExactLinear` is for vectors, for feature maps.

A convolution is unfolded into a matrix product, a transposed one is a matrix product that is folded back by sums, so
no library chooses an algorithm (Winograd, FFT) that rounds differently. In float64 with frozen parameters every product
and sum is a whole number of units 2**-(weight_bits + activation_bits) below 2**52: exact in any order. In a smaller
float type the same modules are the straight-through training twin, evaluated by the library's own convolution.

The number format is a property of the layer: networks trained without saturation (other people's) need wider
activations and finer weights than the Q.10 of ours.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codec.coding.exact import ACTIVATION_BITS, ACTIVATION_MAX, WEIGHT_BITS, fix
from codec.errors import ModelError

_COLUMNS = 1 << 22  # numbers an unfolded stripe may hold at a time: 32 MiB in float64
_SLOPE_BITS = 24
LEAKY_SLOPE = round(0.01 * (1 << _SLOPE_BITS)) / (1 << _SLOPE_BITS)  # torch's default slope as a dyadic number
ACTIVATIONS = ("none", "relu", "leaky")


class _ExactFilter(nn.Module, ABC):
    """What the two convolutions share: parameters, rounding, saturation, the bound.

    Args:
        inputs, outputs: channels.
        kernel, stride: in samples, the same in both directions.
        activation: `none`, `relu` or `leaky` (slope 0.01 rounded to 24 bits), applied to the rounded, saturated sum.
        weight_bits, activation_bits: fraction bits of weights, and of inputs, biases and outputs.
        limit: inputs must lie in -limit ... limit, where outputs saturate.
    """

    _output_axis: int  # of the weight

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        activation: str = "none",
        weight_bits: int = WEIGHT_BITS,
        activation_bits: int = ACTIVATION_BITS,
        limit: float = ACTIVATION_MAX,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"{activation = } is none of {ACTIVATIONS}")
        channels = [inputs, inputs]
        channels[self._output_axis] = outputs
        self.weight = nn.Parameter(torch.randn(*channels, kernel, kernel) / math.sqrt(inputs * kernel**2))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.kernel, self.stride = kernel, stride
        self.weight_bits, self.activation_bits = weight_bits, activation_bits
        self.activation, self.limit = activation, limit
        self.frozen = False

    @abstractmethod
    def _exact(self, x: Tensor) -> Tensor:
        """Return the sums without bias, by matrix products in float64."""

    @abstractmethod
    def _trained(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return the sums without bias, by the library."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs, H, W] to [B, outputs, H', W']."""
        exact = self.frozen and x.dtype == torch.float64
        y = self._exact(x) if exact else self._trained(x, fix(self.weight, self.weight_bits))
        y = fix(y + fix(self.bias, self.activation_bits)[:, None, None], self.activation_bits)
        y = y.clamp(0.0 if self.activation == "relu" else -self.limit, self.limit)
        if self.activation == "leaky":
            y = torch.where(y < 0, fix(y * LEAKY_SLOPE, self.activation_bits), y)
        return y

    def fixed_point(self) -> dict[str, int]:
        """Return the fraction bits of the parameters, by name."""
        return {"weight": self.weight_bits, "bias": self.activation_bits}

    @torch.no_grad()
    def freeze(self) -> None:
        """Round the parameters to their fixed-point grid, move them to float64 and check the bound.

        Raises:
            ModelError: the weights are so large, or not finite, that a sum could pass 2**52 units.
        """
        self.double()
        self.weight.copy_(fix(self.weight, self.weight_bits))
        self.bias.copy_(fix(self.bias, self.activation_bits))
        rest = [axis for axis in range(4) if axis != self._output_axis]
        largest = float((self.weight.abs().sum(rest) * self.limit + self.bias.abs()).max())
        units = largest * 2.0 ** (self.weight_bits + self.activation_bits)
        self.frozen = True
        if not units < 2.0**52:
            raise ModelError(f"integer layer may overflow: a sum could reach {units:.3g}, the limit is 2**52")


class ExactConv2d(_ExactFilter):
    """Convolution with an odd kernel, zero padding of `kernel // 2` and any stride; weight [O, I, k, k]."""

    _output_axis = 0

    def _trained(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(x, weight, stride=self.stride, padding=self.kernel // 2)

    def _exact(self, x: Tensor) -> Tensor:
        weight, k, stride = self.weight.flatten(1), self.kernel, self.stride
        if k == stride == 1:
            return torch.matmul(weight, x.flatten(2)).unflatten(2, x.shape[2:])
        x = F.pad(x, [k // 2] * 4)
        height, width = ((n - k) // stride + 1 for n in x.shape[2:])
        rows = max(_COLUMNS // (weight.shape[1] * width * len(x)), 1)
        stripes = []
        for r in range(0, height, rows):
            count = min(rows, height - r)
            window = x[:, :, r * stride : (r + count - 1) * stride + k]
            columns = F.unfold(window, k, stride=stride)
            stripes.append(torch.matmul(weight, columns).unflatten(2, (count, width)))
        return torch.cat(stripes, 2)


class ExactConvTranspose2d(_ExactFilter):
    """Transposed convolution with an odd kernel to exactly `stride` times the size; weight [I, O, k, k].

    That is torch's with `padding=kernel // 2, output_padding=stride - 1`.
    """

    _output_axis = 1

    def _trained(self, x: Tensor, weight: Tensor) -> Tensor:
        padding, output_padding = self.kernel // 2, self.stride - 1
        return F.conv_transpose2d(x, weight, stride=self.stride, padding=padding, output_padding=output_padding)

    def _exact(self, x: Tensor) -> Tensor:
        size = [n * self.stride for n in x.shape[2:]]
        flat, k = x.flatten(2), self.kernel
        group = max(_COLUMNS // (k * k * flat.shape[2] * len(x)), 1)  # output channels at a time
        parts = []
        for weight in self.weight.split(group, 1):
            columns = torch.matmul(weight.flatten(1).T, flat)
            parts.append(F.fold(columns, size, k, stride=self.stride, padding=k // 2))
        return torch.cat(parts, 1)


def exact_twin(layer: nn.Module, *, weight_bits: int, activation_bits: int, limit: float) -> nn.Sequential:
    """Return the integer network of a float one, with its weights: post-training quantization.

    Args:
        layer: `nn.Sequential` (nested ones are flattened) of odd `Conv2d` and `ConvTranspose2d` with "same" padding,
            `ReLU`, `LeakyReLU` of slope 0.01 and `PixelShuffle`.

    Raises:
        ModelError: it holds anything else.
    """
    twins: list[nn.Module] = []
    options = {"weight_bits": weight_bits, "activation_bits": activation_bits, "limit": limit}
    for part in _flat(layer):
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d) and _same_padding(part):
            cls = ExactConv2d if isinstance(part, nn.Conv2d) else ExactConvTranspose2d
            twin = cls(part.in_channels, part.out_channels, part.kernel_size[0], stride=part.stride[0], **options)
            twin.weight.data.copy_(part.weight.data)
            twin.bias.data.copy_(part.bias.data)
            twins.append(twin)
        elif isinstance(part, nn.PixelShuffle):
            twins.append(part)
        elif isinstance(part, nn.ReLU) or (isinstance(part, nn.LeakyReLU) and part.negative_slope == 0.01):
            filters = [twin for twin in twins if isinstance(twin, _ExactFilter)]  # a shuffle may stand between
            filters[-1].activation = "relu" if isinstance(part, nn.ReLU) else "leaky"
        else:
            raise ModelError(f"a layer has no exact counterpart: {part}")
    return nn.Sequential(*twins)


def _flat(layer: nn.Module) -> list[nn.Module]:
    return [part for child in layer for part in _flat(child)] if isinstance(layer, nn.Sequential) else [layer]


def _same_padding(part: nn.Conv2d | nn.ConvTranspose2d) -> bool:
    kernel, stride = part.kernel_size[0], part.stride[0]
    plain = part.dilation == (1, 1) and part.groups == 1 and part.bias is not None and part.padding_mode == "zeros"
    square = part.kernel_size == (kernel, kernel) and part.stride == (stride, stride) and kernel % 2 == 1
    outer = (stride - 1, stride - 1) if isinstance(part, nn.ConvTranspose2d) else (0, 0)
    return plain and square and part.padding == (kernel // 2, kernel // 2) and part.output_padding == outer
