"""Hugging Face datasets: a column of .lcb files that gives latents when it is read.

    from codec.learning.hugging_face import Latents

    features = Features({"picture": Latents(), "label": ClassLabel(names=classes)})
    dataset = Dataset.from_dict({"picture": [path, ...], "label": [0, ...]}, features=features)
    dataset[0]["picture"]                                    # float32 [C, h, w]
    dataset.cast_column("picture", Latents(decode=False))    # the bytes

Bytes are stored in the column itself, so that a data set is complete wherever it is copied. Importing this module makes
the feature known to `datasets`, which names it in the metadata of what it saves.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from codec.errors import MissingPackageError

try:
    import pyarrow as pa
    from datasets.features.features import register_feature
except ImportError as exc:
    raise MissingPackageError(f"datasets cannot be imported ({exc}); run: pip install datasets") from exc

from torch import Tensor

from codec.stream import Stream


@dataclass
class Latents:
    """Feature of a column of .lcb files.

    Attributes:
        mode: what a value is decoded to, `latents` or `symbols`.
        decode: False: values stay bytes.
        id: of `datasets`, which gives it to all features.
    """

    mode: str = "latents"
    decode: bool = True
    id: str | None = field(default=None, repr=False)
    dtype: ClassVar[str] = "torch.Tensor"
    pa_type: ClassVar[Any] = pa.binary()
    _type: str = field(default="Latents", init=False, repr=False)

    def __post_init__(self) -> None:
        if self.mode not in ("latents", "symbols"):
            raise ValueError(f"mode {self.mode!r} is neither latents nor symbols; for bytes decode=False")

    def __call__(self) -> pa.DataType:
        return self.pa_type

    def encode_example(self, value: str | os.PathLike | bytes | dict[str, Any]) -> bytes:
        """Return what is stored of a path, of bytes, or of the dict of bytes and path that features of files have."""
        if isinstance(value, dict):
            value = value["bytes"] if value.get("bytes") is not None else value["path"]
        return bytes(value) if isinstance(value, bytes | bytearray) else Path(value).read_bytes()

    def decode_example(
        self, value: bytes, token_per_repo_id: dict[str, Any] | None = None
    ) -> Tensor | dict[str, Tensor]:
        """Return latents or symbols of what is stored.

        Raises:
            CodecError: as `codec.open` and `Stream.latents` do.
        """
        if not isinstance(value, bytes):
            return value  # it has been decoded already
        stream = Stream(value, device="cpu")
        return stream.latents() if self.mode == "latents" else stream.symbols()

    def cast_storage(self, storage: pa.Array) -> pa.Array:
        """Turn a column of bytes, or of the structs that features of files have, into one of this feature."""
        if pa.types.is_struct(storage.type):
            storage = storage.field("bytes")
        return storage.cast(self.pa_type)


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it says that registering is experimental
    register_feature(Latents, "Latents")
