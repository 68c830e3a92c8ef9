import io
import struct
import zlib

import numpy as np
import PIL.Image
import pytest
import torch

import codec
from codec.errors import LimitError, MediaError
from codec.media import image as media
from codec.media.image import Image

from support import DATA, picture_of


def png(image: PIL.Image.Image, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, "png", **options)
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "channels", "dtype", "extras"),
    [
        ("parrots.png", 3, np.uint8, set()),
        ("gray.png", 1, np.uint8, set()),
        ("alpha.png", 3, np.uint8, {"alpha"}),
        ("deep.png", 1, np.uint16, set()),
        ("palette.png", 3, np.uint8, set()),
        ("rotated.jpg", 3, np.uint8, {"icc", "exif", "xmp"}),
    ],
)
def test_files_keep_everything_through_the_codec(name, channels, dtype, extras):
    picture = codec.read(DATA / name)
    assert picture.samples.shape[2] == channels
    assert picture.samples.dtype == dtype
    assert ({"alpha"} if picture.alpha is not None else set()) | set(picture.metadata) == extras
    decoded = codec.decode(codec.encode(picture, quality=80))
    assert decoded.samples.shape == picture.samples.shape
    assert decoded.metadata == picture.metadata
    if picture.alpha is not None:
        np.testing.assert_array_equal(decoded.alpha, picture.alpha)


def test_orientation_is_applied_once():
    picture = codec.read(DATA / "rotated.jpg")
    with PIL.Image.open(DATA / "rotated.jpg") as raw:
        assert (picture.width, picture.height) == (raw.height, raw.width)
        np.testing.assert_array_equal(picture.samples, np.asarray(raw.transpose(PIL.Image.Transpose.ROTATE_270)))
    exif = PIL.Image.Exif()
    exif.load(picture.metadata["exif"])
    assert exif.get(0x0112, 1) == 1
    assert exif[0x010E] == "bikes"


def test_strip_leaves_metadata_out():
    assert codec.decode(codec.encode(DATA / "rotated.jpg", strip=True)).metadata == {}


@pytest.mark.parametrize("depth", [8, 16])
def test_arrays_and_tensors(depth):
    dtype = np.uint8 if depth == 8 else np.uint16
    array = picture_of((20, 30, 3), dtype)
    np.testing.assert_array_equal(codec.read(array).samples, array)
    assert codec.read(array[..., 0]).samples.shape == (20, 30, 1)
    if depth == 8:
        tensor = torch.from_numpy(array).permute(2, 0, 1)
        np.testing.assert_array_equal(codec.read(tensor).samples, array)
        np.testing.assert_array_equal(codec.read(tensor / 255).samples, array)
        np.testing.assert_array_equal(codec.read(np.dstack([array, array[..., 0]])).alpha, array[..., 0])


def test_opaque_alpha_is_no_alpha():
    data = png(PIL.Image.new("RGBA", (5, 5), (1, 2, 3, 255)))
    assert codec.read(data).alpha is None


def test_transparent_palette_and_gray():
    palette = PIL.Image.new("P", (6, 4), 1)
    palette.putpalette([0, 0, 0, 200, 100, 50])
    palette.putpixel((0, 0), 0)
    assert codec.read(png(palette, transparency=0)).alpha[0, 0] == 0
    gray = PIL.Image.new("L", (6, 4), 9)
    gray.putpixel((1, 1), 77)
    picture = codec.read(png(gray, transparency=77))
    assert picture.alpha[1, 1] == 0
    assert picture.samples.shape[2] == 1


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (PIL.Image.new("CMYK", (4, 4)), "CMYK"),
        (PIL.Image.new("F", (4, 4)), "F samples"),
        (PIL.Image.new("I", (4, 4)), "I samples"),
        (PIL.Image.new("LAB", (4, 4)), "LAB"),
    ],
)
def test_what_cannot_be_carried_is_named(image, message):
    with pytest.raises(MediaError, match=message):
        codec.read(image)


def test_cmyk_file_is_refused():
    with pytest.raises(MediaError, match=r"cmyk\.jpg: CMYK"):
        codec.read(DATA / "cmyk.jpg")


def deep_png(samples: np.ndarray) -> bytes:
    """Write a PNG of [H, W, 3 or 4] uint16 samples by the book, so that nothing of ours is checked by itself."""
    height, width, channels = samples.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", width, height, 16, 2 if channels == 3 else 6, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    parts = [struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_sixteen_bit_colour(tmp_path):
    samples = np.random.default_rng(0).integers(0, 65536, (9, 13, 3)).astype(np.uint16)
    np.testing.assert_array_equal(codec.read(deep_png(samples)).samples, samples)
    opaque = np.dstack([samples, np.full((9, 13), 65535, np.uint16)])
    np.testing.assert_array_equal(codec.read(deep_png(opaque)).samples, samples)
    opaque[0, 0, 3] = 9
    with pytest.raises(MediaError, match="transparency"):
        codec.read(deep_png(opaque))
    smooth = np.dstack([picture_of((40, 50), np.uint16)] * 3)
    decoded = codec.decode(codec.encode(smooth, quality=90))
    assert decoded.samples.dtype == np.uint16
    metadata = codec.read(DATA / "rotated.jpg").metadata
    out = io.BytesIO()
    assert codec.write(Image(decoded.samples, None, metadata), out, "png") == []
    again = codec.read(out.getvalue())
    np.testing.assert_array_equal(again.samples, decoded.samples)
    assert again.metadata["icc"] == metadata["icc"]
    assert again.metadata["xmp"] == metadata["xmp"]
    assert b"bikes" in again.metadata["exif"]
    with pytest.raises(MediaError, match="use png"):
        codec.write(decoded, io.BytesIO(), "tiff")
    with pytest.raises(MediaError, match="no 16-bit RGB"):
        media.to_pillow(decoded)


def test_animations_are_refused():
    frames = [PIL.Image.new("RGB", (8, 8), (40 * i, 0, 0)) for i in range(3)]
    out = io.BytesIO()
    frames[0].save(out, "png", save_all=True, append_images=frames[1:])
    with pytest.raises(MediaError, match="3 frames"):
        codec.read(out.getvalue())


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"not an image at all", (DATA / "parrots.png").read_bytes()[:2000]])
def test_unreadable_files(data):
    with pytest.raises(MediaError):
        codec.read(data)


def test_postscript_is_not_executed():
    with pytest.raises(MediaError, match="not an image file"):
        codec.read(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")


def test_pixel_limit():
    with pytest.raises(LimitError, match="max-pixels"):
        codec.read(DATA / "parrots.png", max_pixels=1000)


@pytest.mark.parametrize("bad", [np.zeros((4, 4, 5), np.uint8), np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4, 3))])
def test_bad_arrays(bad):
    with pytest.raises(MediaError):
        codec.read(bad)
    with pytest.raises(MediaError):
        codec.read(torch.full((3, 4, 4), 2.0))


@pytest.mark.parametrize("kind", ["png", "webp", "tiff", "ppm", "bmp", "jpeg2000"])
def test_lossless_outputs(kind, photo):
    out = io.BytesIO()
    assert codec.write(Image(photo), out, kind) == []
    with PIL.Image.open(io.BytesIO(out.getvalue())) as read_back:
        np.testing.assert_array_equal(np.asarray(read_back.convert("RGB")), photo)


@pytest.mark.parametrize("kind", ["jpg", "avif"])
def test_lossy_outputs_are_close(kind, photo):
    out = io.BytesIO()
    codec.write(Image(photo), out, kind)
    with PIL.Image.open(io.BytesIO(out.getvalue())) as read_back:
        assert np.abs(np.asarray(read_back.convert("RGB")).astype(int) - photo).mean() < 2


@pytest.mark.parametrize("kind", ["png", "webp", "tiff"])
def test_metadata_is_written(kind):
    picture = codec.read(DATA / "rotated.jpg")
    out = io.BytesIO()
    assert codec.write(picture, out, kind) == []
    again = codec.read(out.getvalue())
    assert again.metadata["icc"] == picture.metadata["icc"]
    assert again.metadata["xmp"] == picture.metadata["xmp"]
    assert b"bikes" in again.metadata["exif"]
    np.testing.assert_array_equal(again.samples, picture.samples)


def test_formats_that_cannot_hold_something():
    alpha, deep = codec.read(DATA / "alpha.png"), codec.read(DATA / "deep.png")
    with pytest.raises(MediaError, match="alpha"):
        codec.write(alpha, io.BytesIO(), "jpg")
    with pytest.raises(MediaError, match="16 bits"):
        codec.write(deep, io.BytesIO(), "webp")
    assert codec.write(codec.read(DATA / "rotated.jpg"), io.BytesIO(), "bmp") == ["exif", "icc", "xmp"]
    with pytest.raises(MediaError, match="use one of"):
        media.format_of("gifv")


def test_planes_are_checked_before_they_are_decoded():
    data = media.pack_plane(np.zeros((5, 7), np.uint8))
    assert media.unpack_plane(data, 7, 5).shape == (5, 7)
    for bad, width in ((data, 8), (b"junk", 7), (png(PIL.Image.new("RGB", (7, 5))), 7)):
        with pytest.raises(MediaError):
            media.unpack_plane(bad, width, 5)
