"""What no store takes: found before anything is written or searched."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crosstune.errors import StoreError
from crosstune.types import IndexSpec, Passage

OWN_FIELDS = (
    "text", "title", "_terms", "document", "position", "start", "end", "digest", "_metadata", "vector",
)  # fmt: skip
"""Names under which a passage's own parts are stored, which metadata that is searched by cannot have."""

_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KINDS = ("tag", "numeric")
# bf16 embedders give lengths that are off by some thousandths; a vector that was never scaled is far off.
_LENGTH_TOLERANCE = 0.02


def check_spec(spec: IndexSpec) -> None:
    """Refuse a spec that no index can be made with.

    Raises:
        StoreError: A metadata field has an unknown kind, or a name that no query can hold or that the index uses.
    """
    if spec.dimensions < 1:
        raise StoreError(f"vectors of an index have at least 1 dimension, found {spec.dimensions}")
    for name, kind in spec.fields.items():
        if not _FIELD.fullmatch(name) or name in OWN_FIELDS:
            raise StoreError(
                f"metadata cannot be searched by {name!r}: expected a letter or underscore, then letters, digits and "
                f"underscores, and none of the names that an index uses itself ({', '.join(OWN_FIELDS)})"
            )
        if kind not in _KINDS:
            raise StoreError(f"metadata field {name!r} has kind {kind!r}; expected {' or '.join(_KINDS)}")


def check_passages(passages: Sequence[Passage], digests: Sequence[str]) -> None:
    """Refuse passages that cannot be written.

    Raises:
        StoreError: As many digests as passages are needed, ids that are neither empty nor given twice, and texts
            that can be encoded.
    """
    if len(digests) != len(passages):
        raise StoreError(f"expected one digest for each of {len(passages)} passages, found {len(digests)}")
    seen: set[str] = set()
    for passage in passages:
        if not passage.passage_id or passage.passage_id in seen:
            raise StoreError(f"passage id {passage.passage_id!r} is empty or given twice; ids name one passage each")
        seen.add(passage.passage_id)
        document = passage.origin.document_id if passage.origin else ""
        _check_encoding(passage.passage_id, document, passage.title, passage.text, *passage.metadata.values())


def _check_encoding(passage_id: str, *texts: str) -> None:
    try:
        "".join((passage_id, *texts)).encode()
    except UnicodeEncodeError as error:
        raise StoreError(
            f"passage {passage_id!r} holds half of a character (a lone surrogate, code {error.object[error.start]!a}); "
            "clean the text before it is indexed"
        ) from error


def check_vectors(vectors: NDArray[np.float32], n_vectors: int, spec: IndexSpec) -> NDArray[np.float32]:
    """The vectors as (n_vectors, dimensions) float32.

    Raises:
        StoreError: Another shape than that, or vectors whose length is not 1.
    """
    if vectors.shape != (n_vectors, spec.dimensions):
        raise StoreError(
            f"expected {n_vectors} vectors of {spec.dimensions} dimensions, which the index was made with, found "
            f"shape {vectors.shape}: embed with {spec.embedder_source!r}, or index the documents again"
        )
    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    lengths = np.linalg.norm(rows, axis=1)
    wrong = np.flatnonzero(~(np.abs(lengths - 1) <= _LENGTH_TOLERANCE))  # written so that NaN is wrong too
    if len(wrong):
        raise StoreError(f"vector {wrong[0]} has length {lengths[wrong[0]]:.3g}; an embedder gives vectors of length 1")
    return rows


def missing(passage_id: str, location: str) -> StoreError:
    """The error of a passage that should be there and is not."""
    return StoreError(f"passage {passage_id!r} is not in the index at {location}; it was removed, or never put there")
