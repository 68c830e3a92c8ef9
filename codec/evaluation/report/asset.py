"""The template, style and scripts that the page is put together from."""

from __future__ import annotations

from importlib.resources import files


def asset(name: str) -> str:
    """Return a file of `assets/`."""
    return (files("codec.evaluation.report") / "assets" / name).read_text(encoding="utf-8")
