"""Weights as symbols: how a network that was fitted to one file is quantized, what that costs, and how it is coded.

Each tensor is a matrix [rows, columns * kernel]; rows are output channels, columns input channels. Step and scale of a
weight are products of one number for its row and one for its column:

    step[i, j] = 2 ** (row_step[i] + column_step[j])           scale[i, j] = 2 ** (row_scale[i] + column_scale[j])

in steps of a quarter octave, all learned, themselves counted and coded: the dual-axis model of Kwan et al., "NVRC:
Neural Video Representation Compression" (NeurIPS 2024, section 3.3). Biases and depthwise kernels have one step and one
scale a tensor. All that decides bits is an integer of the stream and a table of the model, so parsing is exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from codec.coding.coder import Coder
from codec.coding.distributions import SCALE_MAX, SCALE_MIN, ScaleMixture
from codec.coding.exact import fix

OCTAVE_BITS = 2  # log2 of steps and scales are multiples of a quarter
_BASE_SCALE, _DEVIATION_SCALE = (
    5.0,
    0.5,
)  # log2, in quarter octaves: of what a table of numbers begins with, and its rest
_UNCHANGED_SCALE = -4.0  # of what is expected to be zero
_LEAST_SPREAD = 0.02  # of weights that begin alike
_FIRST_STEPS = 4.0  # standard deviation of a tensor, in steps, before anything is learned
STEP_RANGE = 30  # octaves, either way: what a step may be


def axes(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return how many numbers describe the rows and the columns of a tensor: (1, 0) for one in all."""
    return (shape[0], shape[1]) if len(shape) > 1 and min(shape[:2]) > 1 else (1, 0)


class WeightLayout:
    """Where the tensors of a network lie in the vectors of its symbols.

    Attributes:
        shapes: name -> shape, in the network's order.
        count: weights in all.
        runs: lengths of the runs of numbers that describe them: row steps, column steps, row scales, column scales of
            each tensor. A run is coded as a base and the deviations from it.
        is_step, run_of: [runs], whether it holds steps; [entries], which run a number belongs to.
        of_steps: which of the symbols `bases` and `deviations` are of steps.
        rows, columns: [2, count], for steps and for scales: which entry of all runs belongs to a weight; `entries`,
            where a zero stands, if there is none.
    """

    def __init__(self, network: nn.Module) -> None:
        self.shapes = {name: tuple(p.shape) for name, p in network.named_parameters()}
        self.count = sum(math.prod(shape) for shape in self.shapes.values())
        lengths = [axes(shape) for shape in self.shapes.values()]
        self.entries = 2 * sum(rows + columns for rows, columns in lengths)
        self.runs: list[int] = []
        steps, places = [], ([], [], [], [])
        start = 0
        for (rows, columns), shape in zip(lengths, self.shapes.values(), strict=True):
            size = math.prod(shape)
            row = torch.arange(size) // (size // rows)
            column = torch.arange(size) // math.prod(shape[2:]) % max(columns, 1)
            for kind in range(2):
                places[kind].append(start + row)
                places[2 + kind].append(start + rows + column if columns else torch.full((size,), self.entries))
                start += rows + columns
                self.runs += [rows, columns] if columns else [rows]
                steps += [kind == 0] * (2 if columns else 1)
        self.is_step = torch.tensor(steps)
        self.run_of = torch.repeat_interleave(torch.arange(len(self.runs)), torch.tensor(self.runs))
        self.of_steps = {"bases": self.is_step, "deviations": self.is_step[self.run_of]}
        self.rows = torch.stack([torch.cat(part) for part in places[:2]])
        self.columns = torch.stack([torch.cat(part) for part in places[2:]])

    def split(self, flat: Tensor) -> dict[str, Tensor]:
        """Return the tensors of a vector [count], by name."""
        parts = flat.split([math.prod(shape) for shape in self.shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def values(self, bases: Tensor, deviations: Tensor) -> Tensor:
        """Return log2 of step and of scale of every weight, [2, count], in the unit of what is given."""
        entries = bases[self.run_of.to(bases.device)] + deviations
        entries = torch.cat([entries, entries.new_zeros(1)])
        return entries[self.rows.to(bases.device)] + entries[self.columns.to(bases.device)]

    # --- coding --------------------------------------------------------------------------------------------

    def shapes_of_symbols(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the symbols of one network: `key`, `bases`, `deviations`, `weights`."""
        counts = {"key": 1, "bases": len(self.runs), "deviations": self.entries, "weights": self.count}
        return {name: (1, count) for name, count in counts.items()}

    def code(self, coder: Coder, symbols: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Pass the symbols of one network through the coder and return them, [1, 1, n] each.

        With `key` 1 weights and steps stand for themselves, with 0 for differences to those of the network before;
        scales always for themselves, so that nothing but the unit is needed to read it.
        """
        given = symbols or {}
        wide = lambda values: torch.tensor(values, dtype=torch.float64)[None, None]
        out = {"key": coder(given.get("key"), wide([0.0]), wide([0.0]))}
        for name, likely in (("bases", _BASE_SCALE), ("deviations", _DEVIATION_SCALE)):
            unchanged = (out["key"].double() == 0) & self.of_steps[name]
            scale = torch.where(unchanged, _UNCHANGED_SCALE, likely).double()
            out[name] = coder(given.get(name), torch.zeros_like(scale), scale)
        log2 = self.values(out["bases"][0, 0].double(), out["deviations"][0, 0].double())[1] / (1 << OCTAVE_BITS)
        scale = log2.clamp(SCALE_MIN, SCALE_MAX)[None, None]
        out["weights"] = coder(given.get("weights"), torch.zeros_like(scale), scale)
        return out

    def resolve(self, symbols: Mapping[str, Tensor], state: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Return symbols that stand for themselves, [1, n], given those of the network before, resolved."""
        out = {name: symbols[name] for name in ("bases", "deviations", "weights")}
        if int(symbols["key"]) == 0 and state is not None:
            out["weights"] = out["weights"] + state["weights"]
            for name, of_steps in self.of_steps.items():
                out[name] = out[name] + state[name] * of_steps
        return out

    def differences(self, resolved: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the symbols that `resolve` turns into these."""
        parts = {name: resolved[name] - state[name] * of_steps for name, of_steps in self.of_steps.items()}
        weights = resolved["weights"] - state["weights"]
        return {"key": torch.zeros(1, 1, dtype=torch.int32), "weights": weights} | parts

    def dequantize(self, resolved: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the network's tensors in float32, by name."""
        log2 = self.values(resolved["bases"][0].double(), resolved["deviations"][0].double())[0] / (1 << OCTAVE_BITS)
        flat = resolved["weights"][0].double() * torch.exp2(log2.clamp(-STEP_RANGE, STEP_RANGE))
        return self.split(flat.float())


class CodedWeights(nn.Module):
    """The weights of a network while they are fitted.

    Attributes:
        matrices: one for each tensor: [rows, columns * kernel], or [n] of a bias.
        bases, deviations: of the runs of the layout, in octaves.
        anchor: [count] whole weights that the rate is counted from: zero, or those of the network before.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.layout = WeightLayout(network)
        self.matrices = nn.ParameterList(_matrix(p.detach().clone()) for p in network.parameters())
        first = []
        for matrix, shape in zip(self.matrices, self.layout.shapes.values(), strict=True):
            spread = max(float(matrix.detach().std()) if matrix.dim() > 1 else 0.0, _LEAST_SPREAD)
            for value in (math.log2(spread / _FIRST_STEPS), math.log2(_FIRST_STEPS)):
                first += [value, 0.0] if axes(shape)[1] else [value]
        self.bases = nn.Parameter(torch.tensor(first))
        self.deviations = nn.Parameter(torch.zeros(self.layout.entries))
        self.register_buffer("anchor", torch.zeros(self.layout.count))
        self._fixed: tuple[Tensor, Tensor] | None = None  # bases and deviations of the network before, in octaves

    @torch.no_grad()
    def continue_from(self, state: Mapping[str, Tensor]) -> None:
        """Start from the network before: its weights, in its steps, which no longer change."""
        self.anchor.copy_(state["weights"][0])
        unit = 1 << OCTAVE_BITS
        bases, deviations = (state[name][0].float().to(self.bases.device) / unit for name in ("bases", "deviations"))
        self._fixed = bases, deviations
        self.bases.copy_(bases)
        self.deviations.copy_(deviations)
        for matrix, tensor in zip(self.matrices, self.layout.dequantize(state).values(), strict=True):
            matrix.copy_(tensor.reshape(matrix.shape))

    def log2(self) -> tuple[Tensor, Tensor]:
        """Return log2 of the step and of the scale in steps of every weight, [count] each, as they would be coded."""
        step, scale = self.layout.values(*self._rounded())
        return step.clamp(-STEP_RANGE, STEP_RANGE), scale.clamp(SCALE_MIN, SCALE_MAX)

    def _rounded(self) -> list[Tensor]:
        """Return bases and deviations as they would be coded, in octaves."""
        parts = [fix(part, OCTAVE_BITS) for part in (self.bases, self.deviations)]
        if self._fixed is None:
            return parts
        masks = (mask.to(self.bases.device) for mask in self.layout.of_steps.values())
        return [torch.where(mask, *both) for mask, *both in zip(masks, self._fixed, parts, strict=True)]

    def in_steps(self, step: Tensor) -> Tensor:
        """Return all weights, [count], in steps."""
        return torch.cat([matrix.flatten() for matrix in self.matrices]) * torch.exp2(-step)

    def tensors(self, whole: Tensor, step: Tensor) -> dict[str, Tensor]:
        """Return the network's tensors by name, of weights [count] in steps."""
        return self.layout.split(whole * torch.exp2(step))

    def bits(self, whole: Tensor, scale: Tensor, shape: ScaleMixture) -> Tensor:
        """Return what weights [count] in steps take, with the numbers that describe them."""
        weights = shape.bits(whole - self.anchor, scale).sum()
        deviations = self.deviations if self._fixed is None else self.deviations - self._fixed[1]
        likely = torch.full_like(deviations, _DEVIATION_SCALE)
        return weights + shape.bits(fix(deviations, OCTAVE_BITS) * (1 << OCTAVE_BITS), likely).sum()

    @torch.no_grad()
    def symbols(self) -> dict[str, Tensor]:
        """Return the symbols that stand for themselves, [1, n] int32 on the CPU."""
        step, _ = self.log2()
        bases, deviations = (part * (1 << OCTAVE_BITS) for part in self._rounded())
        parts = {"bases": bases, "deviations": deviations, "weights": fix(self.in_steps(step), 0)}
        whole = {name: part.round().int()[None].cpu() for name, part in parts.items()}
        return {"key": torch.ones(1, 1, dtype=torch.int32)} | whole


def _matrix(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.flatten(1) if tensor.dim() > 1 else tensor)
