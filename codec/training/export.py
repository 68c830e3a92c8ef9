"""From a run to a model in the zoo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from codec import checkpoint
from codec.training.run import Run


def export(run: Run, folder: Path, *, facts: dict[str, Any] | None = None) -> checkpoint.ModelInfo:
    """Write the averaged weights of a run as a model: half precision, integers and tables for what decides bits.

    Args:
        folder: of the model; its `model.json` and `model.safetensors` are replaced.
        facts: what is known of the model beside what is counted here (parameters, steps, kMAC of decoding).
    """
    with torch.device("cpu"):
        model = checkpoint.system_class(run.recipe.system).from_config(run.recipe.config)
    model.load_state_dict({name: value.cpu() for name, value in run.average.items()})
    counted = {"parameters": sum(p.numel() for p in model.parameters()), "steps": run.step}
    if run.start:
        counted["started_from"] = run.start
    if model.layered:
        counted["layered"] = True  # so that what knows no networks, `codec inspect`, can tell
    if hasattr(model, "g_s"):
        position = {"image": "pixel", "audio": "instant"}[model.media]
        counted[f"kmac_per_{position}"] = round(synthesis_macs(model) / 1000, 1)
    return checkpoint.save(model, folder, config=run.recipe.config, facts=run.recipe.facts | counted | (facts or {}))


_FRAMES = 1000  # of sound that work is counted on: what is looked at beyond its ends then matters little


@torch.no_grad()
def synthesis_macs(model: nn.Module) -> float:
    """Return multiply-adds a pixel, or an instant of all channels, of the matrix products of synthesis (`g_s`)."""
    total = 0

    def count(module: nn.Conv2d | nn.Linear, _: Any, out: torch.Tensor) -> None:
        nonlocal total
        total += out.numel() * module.weight[0].numel()

    hooks = [m.register_forward_hook(count) for m in model.g_s.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    try:
        if model.media == "audio":
            params = {"groups": 1, "quality": 0}
            out = model.synthesize_hops(model.blank(params, _FRAMES), params)
        else:
            out = model.signal_of(torch.zeros(1, model.latents, 16, 16), torch.zeros(1))
    finally:
        for hook in hooks:
            hook.remove()
    return total / out[0, 0].numel()
