"""Decoded sounds for the report: which part of a sound is heard, and as which bytes.

Every sound is given by its loudest seconds, the same for the original and all codecs, as FLAC of 16 bits.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from string import Template

import numpy as np

from codec.evaluation.report.appearance import number
from codec.evaluation.report.asset import asset
from codec.evaluation.report.exhibits import Decoded, Exhibit
from codec.media import audio
from codec.media.audio import Audio

SCRIPT = "listen.js"
POLICY = "media-src data:"
SECONDS = 4  # of stereo about 0.4 MB in the page
_STEP = 0.1  # seconds between the places that are tried
_CHANNELS = 2  # as many as people have ears


def section(exhibits: Sequence[Exhibit]) -> str:
    """Return one table of sounds for each file."""
    return Template(asset("sounds.html")).substitute(sheets="\n".join(map(_sheet, exhibits)))


def loudest(sound: Audio) -> range:
    """Return the place of the loudest `SECONDS`, or of everything."""
    step, wanted = max(1, round(_STEP * sound.rate)), round(SECONDS * sound.rate)
    if sound.length <= wanted:
        return range(sound.length)
    total = np.pad(np.square(sound.samples, dtype=np.float64).sum(axis=0).cumsum(), (1, 0))
    starts = np.arange(0, sound.length - wanted + 1, step)
    start = int(starts[(total[starts + wanted] - total[starts]).argmax()])
    return range(start, start + wanted)


def data_uri(sound: Audio, place: range) -> str:
    """Return part of a sound as a `data:` address of FLAC."""
    out = io.BytesIO()
    part = np.ascontiguousarray(sound.samples[:_CHANNELS, place.start : place.stop])
    audio.write(Audio(part, sound.rate, "s16"), out, "flac")
    return "data:audio/flac;base64," + base64.b64encode(out.getvalue()).decode()


def _sheet(exhibit: Exhibit) -> str:
    original = exhibit.original
    place = loudest(original)
    start, length = place.start / original.rate, len(place) / original.rate
    caption = f"{length:.1f} s from {start:.1f} s of {original.seconds:.1f} s"
    rows = [_row("original", "", "", data_uri(original, place))]
    rows += [_decoded(decoded, place) for decoded in exhibit.decoded]
    return (
        f'<details class="sheet" open><summary>{escape(exhibit.file)} <span>{caption}</span></summary>'
        '<div class="wide"><table class="sounds"><thead><tr><th scope="col">Codec</th><th scope="col" class="n">kbit/s'
        '</th><th scope="col" class="n">PSNR</th><th scope="col">Sound</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></details>"
    )


def _decoded(decoded: Decoded, place: range) -> str:
    return _row(decoded.name, number(decoded.rate, 2), decoded.quality, data_uri(decoded.signal, place))


def _row(name: str, rate: str, quality: str, uri: str) -> str:
    label = escape(name)
    return (
        f'<tr><th scope="row">{label}</th><td class="n">{rate}</td><td class="n">{quality}</td>'
        f'<td><audio controls preload="none" src="{uri}" aria-label="{label}"></audio></td></tr>'
    )
