"""Questions whose answers are known, kept as vectors: a question that is asked again gets the same answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosstune.errors import BundleError
from crosstune.text import content_hash

Vectors = NDArray[np.float32]
_HASH_BYTES = 32


@dataclass(frozen=True, slots=True)
class KnownQuestions:
    """Known questions, whom they belong to, and how close a question must be to one of them to count as it.

    Attributes:
        vectors: (questions, dimensions) unit vectors, as the bi-encoder embeds questions. No texts are kept.
        of_passage: Content hash of a passage -> places of the questions that it answers.
        threshold: Cosine of two questions, below 1, above which they count as the same.
    """

    vectors: Vectors
    of_passage: Mapping[str, Sequence[int]]
    threshold: float

    def scores(self, question: Vectors, passages: Sequence[str]) -> NDArray[np.float64]:
        """How surely each passage answers a known question that is asked again.

        Args:
            question: (dimensions,) unit vector.
            passages: Texts.

        Returns:
            (passages,) 0 where none of the questions that the passage answers is above the threshold; else from 1, at
            the threshold, to 2, for the same question.
        """
        cosines = self.vectors @ question
        closest = np.array([self._closest(cosines, content_hash(text)) for text in passages], np.float64)
        beyond = np.minimum((closest - self.threshold) / (1 - self.threshold), 1.0)
        return np.where(beyond > 0, 1 + beyond, 0.0)

    def _closest(self, cosines: Vectors, passage: str) -> float:
        places = self.of_passage.get(passage, ())
        return float(cosines[list(places)].max()) if places else -1.0

    def save(self, path: Path) -> None:
        """Write a safetensors file: half-precision vectors, hashes of passages, and which question is whose."""
        from safetensors.numpy import save_file

        hashes = b"".join(bytes.fromhex(passage) for passage in self.of_passage)
        pairs = [(i, place) for i, places in enumerate(self.of_passage.values()) for place in places]
        tensors: dict[str, NDArray[Any]] = {
            "vectors": self.vectors.astype(np.float16),
            "passages": np.frombuffer(hashes, np.uint8).reshape(-1, _HASH_BYTES),
            "answers": np.array(pairs, np.int32).reshape(-1, 2),  # (passage, question)
            "threshold": np.array([self.threshold], np.float64),
        }
        save_file(tensors, path)


def load_known_questions(path: Path) -> KnownQuestions:
    """Read what `KnownQuestions.save` wrote.

    Raises:
        BundleError: The file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(path)
        hashes = [row.tobytes().hex() for row in tensors["passages"]]
        of_passage: dict[str, list[int]] = {}
        for passage, question in tensors["answers"].tolist():
            of_passage.setdefault(hashes[passage], []).append(question)
        vectors, threshold = tensors["vectors"].astype(np.float32), float(tensors["threshold"][0])
        if any(not 0 <= place < len(vectors) for places in of_passage.values() for place in places):
            raise ValueError("a question that is not there")
    except (SafetensorError, KeyError, IndexError, ValueError) as error:
        raise BundleError(f"{path}: damaged ({error}); copy it back or tune again") from error
    return KnownQuestions(vectors, of_passage, threshold)
