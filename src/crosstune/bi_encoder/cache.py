"""Vectors kept on disk under the hash of their text, so that no text is embedded twice."""

from __future__ import annotations

import logging
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crosstune.progress import Progress, silent
from crosstune.protocols import Embedder
from crosstune.text import content_hash

_LOG = logging.getLogger(__name__)
# A few seconds of work on two cores: the most that a kill can cost.
_BLOCK_TEXTS = 256
_UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


class CachedEmbedder:
    """An embedder that writes its vectors to a folder and reads them from there.

    A block of 256 texts is one file, written under another name and renamed when complete: a run that is
    killed loses one block at most and goes on from there. A damaged file is deleted and its texts are
    embedded again. Vectors of another model, precision or role (question or passage) are kept apart.

    Args:
        embedder: What embeds texts not found in the folder.
        folder: Made when needed.
    """

    def __init__(self, embedder: Embedder, folder: Path) -> None:
        self._embedder = embedder
        model = folder / content_hash(embedder.name)[:16]
        self._queries = _Store(model / "queries")
        self._passages = _Store(model / "passages")

    @property
    def name(self) -> str:
        """Identity of the model."""
        return self._embedder.name

    def embed_queries(self, texts: Sequence[str], progress: Progress = silent) -> NDArray[np.float32]:
        """(len(texts), dimensions), rows of length 1."""
        return self._queries.vectors(texts, self._embedder.embed_queries, "Embedding questions", progress)

    def embed_passages(self, texts: Sequence[str], progress: Progress = silent) -> NDArray[np.float32]:
        """(len(texts), dimensions), rows of length 1."""
        return self._passages.vectors(texts, self._embedder.embed_passages, "Embedding passages", progress)


class _Store:
    """The vectors of one model in one role."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._vectors: dict[str, NDArray[np.float32]] | None = None

    def vectors(
        self,
        texts: Sequence[str],
        embed: Callable[[Sequence[str]], NDArray[np.float32]],
        label: str,
        progress: Progress,
    ) -> NDArray[np.float32]:
        if self._vectors is None:
            self._vectors = self._read_all()
        known = self._vectors
        hashes = [content_hash(text) for text in texts]
        missing = {key: text for key, text in zip(hashes, texts, strict=True) if key not in known}
        # Longest first, and by hash among equals: the blocks of a killed run and of its successor are cut
        # alike.
        waiting = sorted(missing, key=lambda key: (-len(missing[key]), key))
        with progress(label, len(waiting)) as advance:
            for start in range(0, len(waiting), _BLOCK_TEXTS):
                block = waiting[start : start + _BLOCK_TEXTS]
                rows = embed([missing[key] for key in block])
                self._write(block, rows)
                known.update(zip(block, rows, strict=True))
                advance(len(block))
        return np.stack([known[key] for key in hashes]) if hashes else embed([])

    def _read_all(self) -> dict[str, NDArray[np.float32]]:
        found: dict[str, NDArray[np.float32]] = {}
        for path in sorted(self._folder.glob("*.npz")):
            try:
                found.update(_read(path))
            except _UNREADABLE as error:
                _LOG.info("embedding cache: %s is damaged (%s); its texts are embedded again", path, error)
                path.unlink(missing_ok=True)
        return found

    def _write(self, keys: Sequence[str], rows: NDArray[np.float32]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{content_hash(' '.join(keys))[:32]}.npz"
        unfinished = path.with_suffix(".unfinished")
        with unfinished.open("wb") as file:
            np.savez(file, keys=np.array(keys, dtype="S64"), vectors=rows)
        os.replace(unfinished, path)


def _read(path: Path) -> dict[str, NDArray[np.float32]]:
    """Keys and rows of one file; a file that holds something else is an error, as is one cut short."""
    with np.load(path, allow_pickle=False) as data:
        keys, rows = data["keys"], data["vectors"]
    if keys.dtype != "S64" or rows.dtype != np.float32 or rows.ndim != 2 or len(keys) != len(rows):
        raise ValueError("unexpected contents")
    return dict(zip((key.decode("ascii") for key in keys.tolist()), rows, strict=True))
