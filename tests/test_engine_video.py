"""Video in and out of files, group by group, with systems that need no training."""

import io

import numpy as np
import pytest

import codec
from codec import checkpoint, container
from codec.container import Container, Unit
from codec.engine.clips import InMemory
from codec.engine.journal import Journal, fingerprint
from codec.engine.video import Archive, Encoder, encode
from codec.engine.video_decoder import check_limits, decode, derived
from codec.errors import CodecError, CorruptError, DesyncError, ExistsError, FormatError, LimitError, MediaError
from codec.media.video import Frames
from codec.params import VIDEO
from codec.times import pack_times, unpack_times

from blocks import Blocks, ChainedBlocks, installed
from support import video_of

TIMES = (-3, 0, 1, 2, 3, 4, 5, 6, 10, 11)  # three groups of 4, 4 and 2 frames


@pytest.fixture(params=["blocks", "chained-blocks"])
def model(request, tmp_path, monkeypatch) -> checkpoint.ModelInfo:
    installed(tmp_path / "models", monkeypatch)
    return checkpoint.find_model(request.param)


def written(video, model, **options) -> bytes:
    options = {"quality": 80} | options
    return b"".join(encode(InMemory(video), model, checkpoint.load(model, "cpu"), **options))


def read(data: bytes, model, tolerant: bool = False, **part) -> Frames:
    parsed, system = container.parse(data, tolerant=tolerant), checkpoint.load(model, "cpu")
    groups = list(decode(parsed, derived(parsed, system), system, **part))
    planes = tuple(np.concatenate(planes) for planes in zip(*(group.planes for group in groups), strict=True))
    return Frames(planes, sum((group.times for group in groups), ()))


def same(a: Frames, b: Frames) -> bool:
    return a.times == b.times and all(np.array_equal(x, y) for x, y in zip(a.planes, b.planes, strict=True))


# --- there and back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv420p10le", "rgb24", "rgb48le"])
@pytest.mark.parametrize(("width", "height"), [(48, 40), (33, 17), (1, 1)])
def test_any_form_comes_back(model, pixels, width, height):
    video = video_of(6, width, height, pixels)
    frames = read(written(video, model, quality=100), model)
    assert frames.times == video.frames.times
    peak = (1 << video.format.depth) - 1
    for plane, original in zip(frames.planes, video.frames.planes, strict=True):
        assert (plane.shape, plane.dtype) == (original.shape, original.dtype)
        assert np.abs(plane.astype(float) - original).mean() < 0.12 * peak


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8])
def test_any_number_of_frames(model, count):
    parsed = container.parse(written(video_of(count), model))
    assert (parsed.length, len(parsed.units)) == (count, -(-count // 4))


def test_groups_are_as_asked_for(model):
    data = written(video_of(10), model, group=3)
    assert len(container.parse(data).units) == 4
    assert same(read(data, model), read(written(video_of(10), model, group=10), model))


def test_header_and_tags(model):
    from fractions import Fraction

    from codec.params import video_format

    form = {"rate": Fraction(30000, 1001), "aspect": Fraction(4, 3), "rotation": 90, "matrix": 5, "full": True}
    video = codec.Video(video_of(2, **form).format, video_of(2).frames, {"title": "Two"})
    parsed = container.parse(written(video, model))
    assert video_format(VIDEO.unpack(parsed.params)[0]) == video.format
    assert parsed.metadata == {"tags": b'{"title": "Two"}'}
    assert container.parse(written(video, model, strip=True)).metadata == {}


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (3, 5), (4, 8), (9, 10), (0, 10), (6, 6)])
def test_a_part_is_a_part_of_the_whole(model, start, stop):
    video = video_of(10, times=TIMES)
    data = written(video, model)
    parsed, system = container.parse(data), checkpoint.load(model, "cpu")
    parts = list(decode(parsed, derived(parsed, system), system, start=start, stop=stop))
    assert sum((part.times for part in parts), ()) == TIMES[start:stop]
    if start < stop:
        assert same(read(data, model, start=start, stop=stop), read(data, model)[start:stop])


def test_only_the_groups_needed_are_decoded(model, monkeypatch):
    data = written(video_of(12), model)
    seen = []
    cls = checkpoint.system_class(model.system)
    original = cls.code
    monkeypatch.setattr(
        cls, "code", lambda self, coder, params, symbols: (seen.append(1), original(self, coder, params, symbols))[1]
    )
    read(data, model, start=5, stop=7)
    assert len(seen) == (2 if cls.chained else 1)


def test_frames_that_are_not_there(model):
    data = written(video_of(5), model)
    for part in ({"start": 6}, {"stop": 6}, {"start": 3, "stop": 2}, {"start": -1}, {"clip": 1}):
        with pytest.raises(ValueError, match="of"):
            read(data, model, **part)


def test_an_encoder_wants_whole_groups(model):
    encoder = Encoder(model, checkpoint.load(model, "cpu"), video_of(1).format, quality=50)
    with pytest.raises(MediaError, match="without frames"):
        encoder.finish()
    with pytest.raises(ValueError, match="give 4"):
        encoder.push(video_of(5).frames)
    encoder.push(video_of(3).frames)
    with pytest.raises(ValueError, match="after 3"):
        encoder.push(video_of(3).frames)


def test_what_it_says_while_it_works(model):
    fractions, words = [], []
    written(video_of(10), model, progress=fractions.append, tell=words.append)
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    fits = checkpoint.system_class(model.system).fits
    assert words[-1] == "group 3 of 3: step 2" if fits else words[-1].endswith(" bpp")


# --- times ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("times", "last", "size"),
    [
        (range(4), -1, 0),
        (range(8, 12), 7, 0),
        ((5, 6, 7, 8), -1, 2),  # a late start costs two bytes
        ((-3, -2, 0), -1, 4),
        ((0, 33, 66, 100), -1, 5),
        (tuple(range(0, 6400, 100)), -1, 20),
        ((1 << 50, 1 << 51), 0, 19),
    ],
)
def test_times_come_back(times, last, size):
    body = pack_times(times, last)
    assert tuple(unpack_times(body, len(times), last)) == tuple(times)
    assert len(body) <= size


@pytest.mark.parametrize(
    "body", [b"\0" + b"\2" * 5, b"\2", b"\1junk", b"\0\xff", b"\0\1", b"\0" + b"\xff" * 8 + b"\x7f", b"\0\2\x80\x00"]
)
def test_forged_times_are_refused(body):
    with pytest.raises(FormatError):
        unpack_times(body, 4, 7)


def test_a_bomb_of_times_is_refused():
    import zlib

    with pytest.raises(CorruptError, match="more than the frames"):
        unpack_times(b"\1" + zlib.compress(b"\0" * (1 << 26)), 4, -1)


# --- sound beside it, damage, forgery ---------------------------------------------------------------------------------


def test_sound_is_carried_in_pieces(model):
    tracks = [bytes(range(256)) * 5000, b"short", b""]
    data = written(video_of(5), model, sound=[io.BytesIO(track) for track in tracks])
    parsed = container.parse(data)
    assert parsed.sound == tuple(tracks)
    assert parsed.chunks == 2 + 1 + 1 + 2
    assert container.parse(parsed.pack()) == parsed
    broken = bytearray(data)
    broken[1000] ^= 1
    with pytest.raises(CorruptError):
        container.parse(bytes(broken))
    rest = container.parse(bytes(broken), tolerant=True)
    assert (rest.sound, rest.damage, rest.units) == ((), ("its sound is damaged",), parsed.units)


def test_a_cut_file_gives_the_whole_groups(model):
    data = written(video_of(12, times=tuple(range(0, 24, 2))), model)
    whole = read(data, model)
    ends = [i + len(unit.payload) + 6 for unit in container.parse(data).units for i in [data.index(unit.payload)]]
    for cut in (len(data) - 1, ends[1], ends[1] - 1, ends[0] + 2):
        with pytest.raises(FormatError):
            container.parse(data[:cut])
        assert same(read(data[:cut], model, tolerant=True), whole[: 4 * sum(end <= cut for end in ends[:2])])


def test_a_damaged_group_is_named_and_filled(model):
    data = written(video_of(12), model)
    whole = read(data, model)
    place = data.index(container.parse(data).units[1].payload)
    broken = bytearray(data)
    broken[place + 3] ^= 1
    with pytest.raises(CorruptError):
        read(bytes(broken), model)
    named = []
    frames = read(bytes(broken), model, tolerant=True, damaged=named.append)
    assert same(frames[:4], whole[:4])
    for plane, good in zip(frames.planes, whole.planes, strict=True):
        assert (plane[4:8] == good[3]).all()
    if checkpoint.system_class(model.system).chained:
        assert named == ["unit 1: unit 1 is damaged", "unit 2: follows a damaged unit"]
    else:
        assert named == ["unit 1: unit 1 is damaged"]
        assert same(frames[8:], whole[8:])


def test_without_any_frame_before_it_is_gray(model):
    parsed = container.parse(written(video_of(3), model))
    broken = Container(
        parsed.system, parsed.version, parsed.digest, parsed.params, [Unit(b"junk" * 9, 1)], length=parsed.length
    ).pack()
    with pytest.raises(DesyncError):
        read(broken, model)
    frames = read(broken, model, damaged=lambda text: None)
    assert all((plane == 128).all() for plane in frames.planes)


def test_every_bit_flip_is_noticed(model):
    video = video_of(5, 9, 9, times=(0, 2, 3, 5, 6))
    data = bytearray(written(video, model))
    for bit in range(8 * len(data)):
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CodecError):
            read(bytes(data), model)
        data[bit // 8] ^= 1 << bit % 8


def forged(data: bytes, length: int | None = None, **params) -> Container:
    """The file with another length or other parameters, and right checksums."""
    from dataclasses import replace

    parsed = container.parse(data)
    values = VIDEO.unpack(parsed.params)[0] | params
    new = replace(parsed, params=VIDEO.pack(values), length=parsed.length if length is None else length)
    return container.parse(new.pack())


def test_forged_headers_are_refused_before_memory_is_taken(model):
    data, system = written(video_of(5), model), checkpoint.load(model, "cpu")
    limits = {"max_pixels": 1 << 28, "max_memory": 8 << 30}
    for length in (0, 4, 9, 1 << 60):
        with pytest.raises(CorruptError, match="do not make"):
            derived(forged(data, length), system)
    with pytest.raises(LimitError, match="max-pixels"):
        check_limits(derived(forged(data, width=1 << 20, height=1 << 20), system)[0], system, **limits)
    with pytest.raises(LimitError, match="max-memory"):
        check_limits(derived(forged(data, width=1 << 14, height=1 << 14), system)[0], system, **limits)
    with pytest.raises(LimitError, match="decode fewer frames"):
        check_limits(derived(forged(data), system)[0], system, **limits, frames=1 << 30)
    with pytest.raises(FormatError):
        read(forged(data, group=1 << 16).pack(), model)


# --- clips that are added ---------------------------------------------------------------------------------------------


def added(data: bytes, video, model, **options) -> bytes:
    system = checkpoint.load(model, "cpu")
    archive = Archive(container.parse(data), data, system)
    return data + b"".join(encode(InMemory(video), model, system, archive=archive, **{"quality": 80} | options))


def test_clips_are_added_and_the_earlier_ones_stay(model):
    first, second, third = video_of(6), video_of(3, times=(0, 2, 4)), video_of(5)
    one = written(first, model, sound=[io.BytesIO(b"one")])
    two = added(one, second, model, quality=40, sound=[io.BytesIO(b"two")])
    three = added(two, third, model, group=2)
    assert three.startswith(two)
    parsed = container.parse(three)
    assert [clip.length for clip in parsed.clips] == [6, 3, 5]
    assert [clip.sound for clip in parsed.clips] == [(b"one",), (b"two",), ()]
    assert [len(clip.units) for clip in parsed.clips] == [2, 1, 3]
    assert container.parse(parsed.pack()) == parsed
    assert parsed.pack() == three
    assert same(read(three, model), read(one, model))
    assert same(read(three, model, clip=1), read(two, model, clip=1))
    assert read(three, model, clip=1).times == (0, 2, 4)
    alone = read(written(third, model, group=2), model)
    assert np.abs(read(three, model, clip=2).planes[0].astype(int) - alone.planes[0]).max() <= 6
    numbers = {VIDEO.unpack(clip.params)[0]["numbers"] for clip in parsed.clips}
    assert len(numbers) == (1 if checkpoint.system_class(model.system).chained else 2)
    assert same(read(three, model, clip=2, start=3), read(three, model, clip=2)[3:])


def test_clips_of_another_form_are_refused(model):
    data = written(video_of(3), model)
    for other in (video_of(3, 50), video_of(3, pixels="yuv420p10le")):
        with pytest.raises(MediaError, match="convert it first"):
            added(data, other, model)


def test_forged_clips_are_refused(model):
    from dataclasses import replace

    system = checkpoint.load(model, "cpu")
    parsed = container.parse(added(written(video_of(4), model), video_of(4), model))
    values = VIDEO.unpack(parsed.later[0].params)[0]
    forms = [{"width": 9}, {"pixels": 2}, *([{"numbers": (1,)}] if system.chained else [])]
    for other in forms:
        later = replace(parsed.later[0], params=VIDEO.pack(values | other))
        with pytest.raises(CorruptError, match="clip 1"):
            derived(replace(parsed, later=(later,)), system)
    sound = bytes(16 * [0x08, 0x08])
    with pytest.raises(FormatError):
        derived(replace(parsed, later=(replace(parsed.later[0], params=sound),)), system)


def test_a_cut_archive_keeps_the_clips_before(model):
    one = written(video_of(6), model)
    two = added(one, video_of(6), model)
    for cut in (len(one) + 1, len(one) + 30, len(two) - 1):
        with pytest.raises(FormatError):
            container.parse(two[:cut])
        assert same(read(two[:cut], model, tolerant=True), read(one, model))
    parsed = container.parse(two[:-1], tolerant=True)
    assert [len(clip.units) for clip in parsed.clips] == [2, 1]
    broken = bytearray(two)
    broken[len(one) - 10] ^= 1  # in the chunk that ends the first clip
    parsed = container.parse(bytes(broken), tolerant=True)
    assert [clip.length for clip in parsed.clips] == [None, 6]
    broken = bytearray(two)
    broken[len(one) + 4] ^= 1  # in the chunk that begins the second
    parsed = container.parse(bytes(broken), tolerant=True)
    assert [clip.length for clip in parsed.clips] == [6]
    assert parsed.damage


def test_clips_begin_where_one_has_ended():
    writer = container.ChunkWriter("blocks", 1, b"abcd", b"params")
    unit = writer.unit(Unit(b"x", 1))
    with pytest.raises(CorruptError, match="before the end"):
        container.parse(writer.start + unit + writer.chunk(container.NEXT, b"params") + writer.end(5, Unit(b"y", 2)))
    sound = container.ChunkWriter("blocks", 1, b"abcd", b"params")
    with pytest.raises(CorruptError, match="no place"):
        container.parse(sound.start + b"".join(sound.sound(1, [b"x"])) + sound.end(5, Unit(b"y", 2)))


# --- fits that are interrupted ----------------------------------------------------------------------------------------


@pytest.fixture
def fitted(tmp_path, monkeypatch) -> checkpoint.ModelInfo:
    installed(tmp_path / "models", monkeypatch)
    return checkpoint.find_model("chained-blocks")


@pytest.mark.parametrize("after", [0, 1, 3, 4, 8])
def test_an_interrupted_fit_goes_on(fitted, tmp_path, monkeypatch, after):
    video, target = video_of(10), tmp_path / "out.lcb"
    expected = written(video, fitted)
    assert ChainedBlocks.steps == 9
    monkeypatch.setattr(ChainedBlocks, "steps", 0)
    monkeypatch.setattr(ChainedBlocks, "fail_after", after)
    with pytest.raises(KeyboardInterrupt):
        written(video, fitted, journal=Journal(target, {"quality": 80}))
    monkeypatch.setattr(ChainedBlocks, "fail_after", None)
    journal = Journal(target, {"quality": 80}, resume=True)
    assert written(video, fitted, journal=journal) == expected
    assert ChainedBlocks.steps == 9  # nothing was done twice
    journal.remove()
    assert not journal.folder.exists()


def test_a_fit_of_something_else_is_refused(fitted, tmp_path):
    target, source = tmp_path / "out.lcb", tmp_path / "clip"
    source.write_bytes(b"frames")
    identity = {"source": fingerprint(source), "quality": 80}
    Journal(target, identity)
    with pytest.raises(ExistsError, match="--resume"):
        Journal(target, identity)
    Journal(target, identity, resume=True)
    with pytest.raises(CodecError, match="another quality"):
        Journal(target, identity | {"quality": 70}, resume=True)
    source.write_bytes(b"others")
    with pytest.raises(CodecError, match="another source"):
        Journal(target, identity | {"source": fingerprint(source)}, resume=True)
    written(video_of(4), fitted, journal=Journal(target, identity, resume=True))
    with pytest.raises(CodecError, match="another header"):
        written(video_of(4), fitted, quality=30, journal=Journal(target, identity, resume=True))
    with pytest.raises(MediaError, match="others than before"):
        written(video_of(4, times=(0, 1, 2, 4)), fitted, journal=Journal(target, identity, resume=True))
    assert Journal(target, {"quality": 1}, force=True).finished(0) is None


def test_damaged_folders_are_named(fitted, tmp_path):
    journal = Journal(tmp_path / "out.lcb", {"quality": 80})
    written(video_of(4), fitted, journal=journal)
    (journal.folder / "000000.group").write_bytes(b"\0")
    with pytest.raises(CodecError, match="is damaged"):
        journal.finished(0)
    (journal.folder / "000001.safetensors").write_bytes(b"junk")
    with pytest.raises(CodecError, match="is damaged"):
        journal.store(1).load()
    for text in ("{", "[]"):
        (journal.folder / "fit.json").write_text(text)
        with pytest.raises(CodecError, match=r"remove .*fit"):
            Journal(tmp_path / "out.lcb", {"quality": 80}, resume=True)


def test_groups_that_are_not_chained_need_no_others():
    assert Blocks.chained is False
    assert Blocks().follow({}, {}, None) is None


# --- the library ------------------------------------------------------------------------------------------------------


def test_library_there_and_back(model, tmp_path):
    video = video_of(10, times=tuple(range(0, 20, 2)))
    data = codec.encode(video, model=model.name, quality=80)
    stream = codec.open(data)
    info = stream.info
    assert (info.kind, info.width, info.height, info.frames, info.fps, info.groups) == ("video", 48, 40, 10, 25, 3)
    assert (info.clips, info.clip_frames, info.pixels, info.bit_depth) == (1, (10,), "yuv420p", 8)
    assert info.seconds == pytest.approx(18 / 25 + 1 / 25)
    assert info.bpp == pytest.approx(8 * len(data) / (48 * 40 * 10))
    assert info.kbps == pytest.approx(8 * len(data) / info.seconds / 1000)
    assert "48x40, 10 frames" in repr(stream)
    assert stream.symbols()["y"].shape == (10, 5, 6, 3)
    assert stream.latents().shape == (10, 3, 5, 6)
    assert stream.problems() == []
    decoded = codec.decode(data)
    assert (decoded.format, decoded.frames.times) == (video.format, video.frames.times)
    assert codec.psnr_of(decoded, video) > 14
    assert abs(info.payload_bytes - stream.estimated_bits() / 8) < 0.01 * info.payload_bytes + 8 * info.units
    path = tmp_path / "clip.mkv"
    assert codec.write(video, path, "mkv") == []
    again = codec.read(path)
    assert (again.length, again.width) == (10, 48)
    assert codec.encode(path, model=model.name) == codec.encode(path.read_bytes(), model=model.name)
    with path.open("rb") as file:
        assert codec.encode(file, model=model.name) == codec.encode(codec.read(path), model=model.name)


def test_library_parts_and_clips(model):
    data = codec.encode(video_of(10), model=model.name)
    stream = codec.open(data)
    whole = stream.decode()
    part = stream.decode(start=3, stop=9)
    assert same(part.frames, whole.frames[3:9])
    assert [len(group) for group in stream.frames(start=3, stop=9)] == [1, 4, 1]
    two = codec.open(added(data, video_of(6), model))
    assert (two.info.clips, two.info.frames, two.info.clip_frames) == (2, 16, (10, 6))
    assert two.decode(clip=1).length == 6
    assert two.symbols(1)["y"].shape[0] == 6
    assert two.symbols_digest() != stream.symbols_digest()
    for wrong in ({"clip": 2}, {"clip": -1}, {"start": 10}, {"stop": 11}):
        with pytest.raises(ValueError, match=r"clip|frames"):
            two.decode(**wrong)


def test_library_tells_what_is_damaged(model):
    data = bytearray(added(codec.encode(video_of(10), model=model.name), video_of(5), model))
    clips = container.parse(bytes(data)).clips
    data[bytes(data).index(clips[1].units[0].payload)] ^= 1
    with pytest.raises(CorruptError):
        codec.open(bytes(data))
    stream = codec.open(bytes(data), tolerant=True)
    assert [line.split(":")[0] for line in stream.problems()] == ["clip 1, unit 0"]
    assert stream.decode(clip=1).length == 5
    empty = codec.open(bytes(data[:80]), tolerant=True)
    with pytest.raises(FormatError, match="no whole group"):
        empty.decode()


def test_library_targets_and_limits(model):
    video = video_of(6)
    info = codec.open(codec.encode(video, model=model.name, quality=50)).info
    for name, value in (("bpp", info.bpp), ("kbps", info.kbps), ("target_size", info.bytes)):
        got = codec.open(codec.encode(video, model=model.name, **{name: value})).info
        assert 0.97 * info.bytes <= got.bytes <= info.bytes
    wanted = codec.psnr_of(codec.decode(codec.encode(video, model=model.name, quality=50)), video)
    assert codec.psnr_of(codec.decode(codec.encode(video, model=model.name, psnr=wanted)), video) >= wanted
    data = codec.encode(video, model=model.name, group=6)
    assert codec.open(data).info.groups == 1
    for limit in ({"max_pixels": 100}, {"max_memory": 1000}):
        with pytest.raises(LimitError):
            codec.decode(data, **limit)
    with pytest.raises(LimitError, match="max-pixels"):
        codec.encode(video, model=model.name, max_pixels=100)
    for options in ({"effort": 11}, {"quality": 101}, {"model": "walloc-conformance"}):
        with pytest.raises(ValueError, match=r"outside|for image"):
            codec.encode(video, **{"model": model.name} | options)


def test_long_clips_are_refused_as_a_whole_but_not_in_parts(model):
    data = codec.encode(video_of(40), model=model.name, group=2)
    stream = codec.open(data, max_memory=150_000)
    with pytest.raises(LimitError, match="fewer frames"):
        stream.decode()
    assert sum(len(group) for group in stream.frames()) == 40
    assert stream.decode(start=30, stop=32).length == 2


def test_inspecting_needs_no_torch(model, tmp_path):
    import subprocess
    import sys

    path = tmp_path / "a.lcb"
    path.write_bytes(codec.encode(video_of(5, times=(0, 1, 2, 4, 5)), model=model.name))
    script = f"import sys, codec; print(codec.open({str(path)!r}).info.seconds, 'torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.stdout.strip() == "0.24 False", result.stderr


def test_clips_do_not_follow_images(small_stream):
    parsed = container.parse(small_stream)
    forged = Container(
        parsed.system, parsed.version, parsed.digest, parsed.params, parsed.units, length=3, later=(parsed,)
    )
    with pytest.raises(CorruptError, match="clips follow"):
        codec.open(forged.pack())
