"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from codec.errors import ExistsError


@contextmanager
def atomic_path(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary path beside `target` that becomes `target` when the block ends without an exception.

    (click's `atomic=True` leaves the partial file in place when the block raises.)

    Raises:
        ExistsError: `target` exists and `overwrite` is false, before the block or at its end.
    """
    if not overwrite and target.exists():
        raise ExistsError(f"{target} exists; use -f to overwrite or --skip-existing")
    temporary = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        if overwrite:
            temporary.replace(target)
        else:
            try:
                os.link(temporary, target)  # fails if another process made it meanwhile, where replace would not
            except FileExistsError as exc:
                raise ExistsError(f"{target} appeared meanwhile; use -f to overwrite") from exc
            except OSError:  # no hard links on this file system
                temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
