"""`codec doctor`."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

import click

from codec.cli import exits
from codec.errors import CodecError

_SILENCE = 1e-3
_PACKAGES = ("codec", "torch", "numpy", "constriction", "pillow", "av", "click", "safetensors", "rich")


@click.command("doctor")
def command() -> int:
    """Check the installation and print what a bug report needs."""
    import torch

    import codec
    from codec.models.layers.precision import fast_dtype

    click.echo(f"python {platform.python_version()} on {platform.platform()}")
    click.echo("packages " + ", ".join(f"{name} {metadata.version(name)}" for name in _PACKAGES))
    devices = ["cpu"] + [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    click.echo(f"devices {', '.join(devices)}; {torch.get_num_threads()} threads; synthesis in {fast_dtype('cpu')}")
    click.echo(f"systems {', '.join(sorted(codec.installed_systems()))}")
    failed = 0
    for info in codec.installed_models():
        try:
            problem = _round_trip(info)
        except CodecError as exc:
            problem = exits.message_of(exc)
        failed += problem is not None
        click.echo(f"model {info.name} {info.digest[:16]} {problem or 'ok'}")
    return exits.FAILURE if failed else 0


def _round_trip(info: Any) -> str | None:
    """Encode and decode something small; return what is wrong, or None."""
    import numpy as np

    import codec
    from codec.checkpoint import load, system_class
    from codec.task import TaskSystem

    if getattr(system_class(info.system), "fits", False):
        load(info)  # what it fits takes minutes
        return None
    if info.media == "video":
        signal = _clip()
    elif info.media == "audio":
        wave = np.sin(np.arange(20_000) * 0.05 + np.array([[0], [1]])).astype(np.float32) / 2
        signal = codec.Audio(wave, 44_100)
    else:
        rows, cols = np.mgrid[:75, :101]
        signal = codec.Image(np.stack([rows * 2, cols * 2, rows + cols], -1).astype(np.uint8))
    data = codec.encode(signal, model=info.name, quality=90)
    if issubclass(system_class(info.system), TaskSystem):
        codec.open(data).predict()
        return None
    decoded = codec.decode(data)
    if not system_class(info.system).keeps_wave:  # all that is sure of a tone is that it sounds
        return None if np.std(decoded.samples) > _SILENCE else "decodes silence"
    quality = codec.psnr_of(decoded, signal)
    return None if quality > 25 else f"decodes something smooth at {quality:.1f} dB only"


def _clip() -> Any:
    """Return a few frames of a pattern that moves."""
    from fractions import Fraction

    import numpy as np

    import codec
    from codec.media.video import Frames, VideoFormat

    rows, cols = np.mgrid[:75, :101]
    shown = [np.stack([rows * 2, cols + 9 * i, rows + cols], -1).astype(np.uint8) for i in range(3)]
    return codec.Video(VideoFormat(101, 75, Fraction(25), "rgb24"), Frames((np.stack(shown),), (0, 1, 2)))
