"""Everything that can be evaluated, held to the same promises."""

import importlib.util

import numpy as np
import pytest
import torch

import codec
from codec import checkpoint
from codec.errors import MissingPackageError, UnknownSystemError
from codec.evaluation import anchors
from codec.evaluation.codecs import FAMILIES, Family, find_family
from codec.evaluation.runner import prepare
from codec.evaluation.spec import parse_spec
from codec.media.image import Image

from support import DATA, SMALL, picture_of

ANCHORS = [name for name, place in FAMILIES.items() if "anchors" in place]
LOSSLESS = ("png", "webp-lossless", "jxl-lossless")
INSTALLED = [name for name in ANCHORS if "jxl" not in name or importlib.util.find_spec("pillow_jxl")]
MODELS = [info.name for info in checkpoint.installed_models() if info.media == "image"]


@pytest.fixture(scope="module")
def picture() -> Image:
    return Image(codec.read(DATA / "parrots.png").samples[:96, :120])


@pytest.mark.parametrize("name", ANCHORS)
def test_declared_options_and_defaults_fit(name):
    family = find_family(name)
    assert family.kind == "anchor"
    for option in family.options.values():
        assert option.default
        for value in option.default:
            option.check(value)
    assert sum(option.spans for option in family.options.values()) == (0 if name in LOSSLESS else 1)


@pytest.mark.parametrize("name", INSTALLED)
def test_anchors_code_and_decode_colour_and_gray(name, picture):
    gray = Image(picture_of((40, 33))[..., None])
    [curve] = parse_spec(name)
    sizes, qualities = [], []
    for setting in curve.settings:
        made = curve.codec(setting)
        data = made.encode(picture)
        assert made.encode(picture) == data
        assert made.decode(made.encode(gray)).samples.shape[:2] == (40, 33)
        sizes.append(len(data))
        qualities.append(codec.psnr_of(made.decode(data), picture))
    assert sizes == sorted(sizes)
    assert qualities == sorted(qualities)
    assert (qualities[0] == np.inf) == (name in LOSSLESS)


@pytest.mark.parametrize("name", INSTALLED)
def test_descriptions_have_version_and_every_option(name):
    found = prepare(parse_spec(name)[0])
    assert "Pillow" in found.description
    for key in parse_spec(name)[0].codec(next(iter(parse_spec(name)[0].settings))).options:
        assert f"{key}=" in found.description


@pytest.mark.parametrize("name", ["webp", "avif"])
@pytest.mark.parametrize("scale", [2, 3, 16])
def test_reduced_pictures_are_smaller_files_of_the_same_size(name, scale, picture):
    plain, small = (parse_spec(f"{name}:q=0{more}")[0].codec("q=0") for more in ("", f",scale={scale}"))
    assert len(small.encode(picture)) < len(plain.encode(picture))
    assert small.options["scale"].startswith(f"1/{scale},")
    assert "scale" not in plain.options  # as in results of before there was a scale
    for odd in (picture, Image(picture.samples[:95, :119]), Image(picture_of((1, 33))[..., None])):
        assert small.decode(small.encode(odd)).samples.shape[:2] == odd.samples.shape[:2]
    gentle = parse_spec(f"{name}:q=90,scale={scale}")[0].codec("q=90")
    flat = Image(np.full((50, 61, 3), (200, 120, 40), np.uint8))
    assert codec.psnr_of(gentle.decode(gentle.encode(flat)), flat) > 35  # neither shifted nor darkened


def test_sizes_do_not_depend_on_threads():
    big = Image(picture_of((700, 900, 3)))  # where libavif would choose several tiles
    threads, sizes = torch.get_num_threads(), set()
    try:
        for count in (1, 4):
            torch.set_num_threads(count)
            options = {"q": "50", "speed": "9", "subsampling": "4:4:4", "scale": "1"}
            made = anchors.avif.make(options)
            assert made.options["max_threads"] == count
            sizes.add(len(made.encode(big)))
    finally:
        torch.set_num_threads(threads)
    assert len(sizes) == 1


def test_a_missing_plugin_has_its_command(monkeypatch):
    def fail(name):
        raise ImportError(name)

    monkeypatch.setattr(anchors, "import_module", fail)
    with pytest.raises(MissingPackageError, match="pip install pillow-jxl-plugin"):
        anchors.jxl.make({"q": "50", "effort": "7"})


@pytest.mark.parametrize("name", MODELS)
def test_estimated_bits_are_those_of_the_file(name, photo):
    """Within one percent, the container and the coder's last word of each unit left out."""
    [curve] = parse_spec(f"{name}:q=15,50,85")
    for setting in curve.settings:
        made = curve.codec(setting)
        data = made.encode(Image(photo))
        info = codec.open(data).info
        assert abs(made.estimate(data) - info.payload_bytes) <= 0.01 * info.payload_bytes + 4 * info.units
        assert info.bytes - info.payload_bytes <= 32 + 8 * info.units


def test_models_are_named_by_digest(photo):
    [curve] = parse_spec(f"{SMALL}:q=40")
    made = curve.codec("q=40")
    info = checkpoint.find_model(SMALL)
    assert info.digest[:16] in made.version
    data = made.encode(Image(photo[:40, :56]))
    assert data == codec.encode(photo[:40, :56], model=SMALL, quality=40)
    assert np.array_equal(made.decode(data).samples, codec.decode(data).samples)


def test_unknown_families():
    with pytest.raises(UnknownSystemError, match="choose from"):
        find_family("nothing")
    assert isinstance(find_family("walloc-12"), Family)
