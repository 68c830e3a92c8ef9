"""Every installed model for video, held to the same promises."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch

import codec
from codec import checkpoint
from codec.errors import CodecError, LimitError, TruncatedError

from support import video_of

MODELS = [info.name for info in checkpoint.installed_models() if info.media == "video"]
FRAMES, GROUP = 7, 3


@pytest.fixture(scope="module", params=MODELS)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def clip() -> codec.Video:
    return video_of(FRAMES, 50, 34)


@pytest.fixture(scope="module")
def data(name, clip) -> bytes:
    return codec.encode(clip, model=name, group=GROUP)


def planes_of(video: codec.Video) -> np.ndarray:
    return np.concatenate([plane.reshape(len(plane), -1) for plane in video.frames.planes], 1).astype(int)


def digest_in_another_process(path, threads: int) -> str:
    code = f"import codec, torch; torch.set_num_threads({threads}); print(codec.open({str(path)!r}).symbols_digest())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout.strip()


def test_a_clip_comes_back(name, data, clip):
    stream = codec.open(data)
    decoded = stream.decode()
    assert decoded.format == clip.format
    assert decoded.frames.times == clip.frames.times
    info = stream.info
    assert (info.kind, info.frames, info.groups) == ("video", FRAMES, 3)
    assert checkpoint.find_model(name).digest.startswith(info.digest)
    assert info.bpp == pytest.approx(8 * len(data) / (50 * 34 * FRAMES))
    spread = float(np.var(planes_of(clip)[:, : 50 * 34]))
    assert codec.psnr_of(decoded, clip) > 10 * np.log10(255**2 / spread) + 3


@pytest.mark.parametrize(("width", "height", "frames"), [(1, 1, 1), (17, 16, 2), (33, 65, 1)])
def test_any_size_comes_back(name, width, height, frames):
    clip = video_of(frames, width, height)
    decoded = codec.decode(codec.encode(clip, model=name))
    assert (decoded.width, decoded.height, decoded.length) == (width, height, frames)


@pytest.mark.parametrize("pixels", ["yuv420p10le", "rgb24", "rgb48le"])
def test_any_pixels_come_back(name, pixels):
    clip = video_of(2, 32, 32, pixels, times=(3, 9))
    decoded = codec.decode(codec.encode(clip, model=name))
    assert (decoded.format, decoded.frames.times) == (clip.format, (3, 9))
    assert decoded.frames.planes[0].dtype == clip.frames.planes[0].dtype


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (2, 5), (6, 7), (3, 3), (0, 7)])
def test_seeking_gives_the_same_frames(data, start, stop):
    stream = codec.open(data)
    if start == stop:
        with pytest.raises(ValueError, match="frames"):
            stream.decode(start=start, stop=stop)
        return
    part = stream.decode(start=start, stop=stop)
    whole = stream.decode()
    assert part.frames.times == whole.frames.times[start:stop]
    assert np.abs(planes_of(part) - planes_of(whole)[start:stop]).max() <= 1


def test_symbols_are_the_same_in_another_process_with_any_threads(data, tmp_path):
    path = tmp_path / "clip.lcb"
    path.write_bytes(data)
    stream = codec.open(data)
    assert {digest_in_another_process(path, threads) for threads in (1, 2)} == {stream.symbols_digest()}


def test_estimated_bits_are_those_of_the_file(data):
    stream = codec.open(data)
    estimated, real = stream.estimated_bits(), 8 * stream.info.payload_bytes
    assert abs(estimated - real) < 0.01 * real + 64 * stream.info.groups


def test_latents_have_a_frame_each(data):
    latents = codec.open(data).latents()
    assert latents.shape[0] == FRAMES
    assert latents.is_floating_point()
    assert torch.isfinite(latents).all()


def test_quality_buys_bits(name, clip):
    sizes = [len(codec.encode(clip, model=name, quality=quality)) for quality in (10, 90)]
    assert sizes[0] < sizes[1]


def test_the_same_file_every_time(name, clip, data):
    again = codec.encode(clip, model=name, group=GROUP)
    assert hashlib.sha256(again).digest() == hashlib.sha256(data).digest()


def test_a_cut_file_is_an_error_and_gives_its_whole_groups(data):
    for end in (len(data) - 1, len(data) // 2, 40, 7):
        with pytest.raises((TruncatedError, CodecError)):
            codec.decode(data[:end])
    cut = codec.open(data[: len(data) - 3], tolerant=True)
    assert cut.decode().length == 2 * GROUP


def test_flipped_bits_are_errors(data):
    for at in range(9, len(data), max(len(data) // 40, 1)):
        broken = bytearray(data)
        broken[at] ^= 1 << at % 8
        with pytest.raises(CodecError):
            codec.decode(bytes(broken))


def test_limits_are_kept_before_memory_is_taken(data):
    with pytest.raises(LimitError, match="max-pixels"):
        codec.decode(data, max_pixels=100)
    with pytest.raises(LimitError, match="max-memory"):
        codec.decode(data, max_memory=1000)
