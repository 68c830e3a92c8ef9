"""Pictures in an evaluation: bits per pixel, and metrics of pixels."""

from __future__ import annotations

from collections.abc import Mapping

from codec.evaluation.image_metrics import METRICS, alike, psnr_of_mse, to_db
from codec.evaluation.medium import Derived, Medium
from codec.media import image
from codec.media.image import Image
from codec.rate import bits_per_pixel


def _read(path: str) -> Image:
    """Return a picture upright, without alpha and metadata."""
    return Image(image.read(path).samples)


def _suffixes() -> set[str]:
    """Return the suffixes of what Pillow can read; .lcb files are results, not sources."""
    import PIL.Image

    known = PIL.Image.registered_extensions()
    return {suffix for suffix, kind in known.items() if kind in PIL.Image.OPEN and kind not in ("EPS", "LCB")}


def _size_of(picture: Image) -> dict[str, int]:
    return {"width": picture.width, "height": picture.height}


def _rate_of(size: int, of: Mapping[str, int]) -> float:
    return bits_per_pixel(size, of["width"], of["height"])


PICTURES = Medium(
    name="image",
    thing="a picture",
    things="pictures",
    suffixes=_suffixes,
    read=_read,
    size_of=_size_of,
    rate_of=_rate_of,
    duration_of=lambda size: None,
    alike=alike,
    excerpt=lambda signal: signal,
    keeps=False,
    metrics=METRICS,
    derived={"psnr-of-mean-mse": Derived("mse", psnr_of_mse), "ms-ssim-db": Derived("ms-ssim", to_db)},
    columns=("psnr", "psnr-of-mean-mse", "ms-ssim-db", "ms-ssim", "ssimulacra2", "lpips", "dists"),
    infinite=("psnr", "mse"),
    unsuited=lambda sources: ((), ""),
    published={
        "psnr_rgb": "psnr",
        "psnr_rgb_from_mean_mse": "psnr-of-mean-mse",
        "ms_ssim_rgb": "ms-ssim",
        "ms_ssim_db_rgb": "ms-ssim-db",
    },
    conventions={
        "Data": "Every codec gets the same pixels in memory: the file read upright (EXIF rotation applied), without "
        "alpha, colour profile or other metadata, with its own bit depth and channels.",
        "Rate": "Bits per pixel: 8 x size of the whole file / (width x height), header included; mean over files.",
        "psnr-of-mean-mse": "PSNR of the mean over files of the MSE; it weighs hard files more and is lower.",
        "ms-ssim-db": "-10 log10(1 - mean MS-SSIM): of the mean, not the mean of dB.",
        "Seconds": "Pixels in memory to the bytes of the file in memory, and back. Codecs of Pillow other than AVIF "
        "and JPEG XL use one thread whatever is allowed.",
    },
    packages=("codec", "torch", "numpy", "pillow"),
)
