"""Embeddings by any sentence-transformers model, at the precision that this machine is fastest at."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosstune.bi_encoder.lean_encoder import LeanEncoder, unit
from crosstune.bi_encoder.loading import Role, load_bi_encoder, side_of
from crosstune.checkpoints import Checkpoint
from crosstune.errors import CheckpointError, ConfigError
from crosstune.extras import require
from crosstune.progress import Progress, silent
from crosstune.text import content_hash

_BATCH_TEXTS = 16
# Texts between two reports of progress: the model sorts these by length and cuts them into batches.
_REPORT_TEXTS = 8 * _BATCH_TEXTS
# bf16 is taken when it is this much faster. Where a CPU or GPU has bf16 instructions it is about 3 times as
# fast, elsewhere up to 6 times slower, so noise in the measurement does not turn the choice.
_WORTHWHILE_SPEEDUP = 1.3
_LEAST_AGREEMENT = 0.999
# What the measurement embeds: about as long as an answer in an FAQ.
_PROBE = [
    f"Invoice {n} is sent on the first working day of the month to the address in your account. " * 8
    for n in range(_BATCH_TEXTS)
]


class SentenceTransformerEmbedder:
    """Texts to unit vectors by a sentence-transformers model, or a bare encoder with mean pooling.

    The prompts for queries and passages that a model keeps in its configuration are used. Texts longer than
    the model's limit are cut there.

    Args:
        checkpoint: The model on disk.
        precision: "fp32", "bf16", or "auto": a measurement of about a second when the model is loaded takes bf16 if
            it is at least 1.3 times as fast and its vectors agree (cosine above 0.999).
        device: For example "cpu" or "cuda"; None is the GPU when there is one.

    Raises:
        CheckpointError: The folder is no model that sentence-transformers reads.
        ConfigError: Unknown precision.
        MissingExtraError: sentence-transformers is not installed.
    """

    def __init__(self, checkpoint: Checkpoint, *, precision: str = "auto", device: str | None = None) -> None:
        if precision not in ("auto", "fp32", "bf16"):
            raise ConfigError(f'precision is {precision!r}; choose "auto", "fp32" or "bf16"')
        self._checkpoint = checkpoint
        self._model = load_bi_encoder(checkpoint, device)
        self._passages = side_of(self._model, "document")
        # The tokenizer keeps its settings for cutting and padding, so that two threads would disturb each other.
        self._turn = threading.Lock()
        self._torch = require("torch", extra="train", what="dense retrieval")
        lean = LeanEncoder(self._model)
        self._lean = lean if lean.agrees(partial(self._by_library, precision="fp32")) else None
        self.precision = faster_precision(self._encode_probe) if precision == "auto" else precision

    @property
    def name(self) -> str:
        """Model, pinned revision, precision, length limit and prompts: all that the vectors depend on."""
        return f"{self._checkpoint.name}@{self._checkpoint.revision} {self.precision} {self.limits}"

    @property
    def identity(self) -> str:
        """What the vectors of passages depend on, but precision and the model's place on disk.

        An index made with one model can be searched with every other of the same identity.
        """
        return f"{self._checkpoint.index_revision} {self.limits}"

    @property
    def tokenizer(self) -> Any:
        """Fast tokenizer of the model, as `tokenizers.Tokenizer`."""
        return self._passages.tokenizer.backend_tokenizer

    @property
    def limits(self) -> str:
        """What of the model's settings decides its vectors: most tokens, and the prompts."""
        prompts = json.dumps([self._model.prompts, self._model.default_prompt_name], sort_keys=True)
        return f"{self._passages.max_seq_length} tokens prompts {content_hash(prompts)[:16]}"

    def embed_queries(self, texts: Sequence[str], progress: Progress = silent) -> NDArray[np.float32]:
        """(len(texts), dimensions), rows of length 1."""
        return self._embed(texts, "query", "Embedding questions", progress)

    def embed_passages(self, texts: Sequence[str], progress: Progress = silent) -> NDArray[np.float32]:
        """(len(texts), dimensions), rows of length 1."""
        return self._embed(texts, "document", "Embedding passages", progress)

    def _embed(self, texts: Sequence[str], role: Role, label: str, progress: Progress) -> NDArray[np.float32]:
        # Longest first: batches of like length pad little, and memory runs out at once or never.
        order = sorted(range(len(texts)), key=lambda place: -len(texts[place]))
        vectors = np.zeros((len(texts), self._dimensions), dtype=np.float32)
        with progress(label, len(texts)) as advance:
            for start in range(0, len(order), _REPORT_TEXTS):
                places = order[start : start + _REPORT_TEXTS]
                vectors[places] = self._encode([texts[place] for place in places], role, self.precision)
                advance(len(places))
        if not np.isfinite(vectors).all():
            raise CheckpointError(
                f"embedding model {self._checkpoint.name!r} gives vectors that are not numbers at precision "
                f'{self.precision}; try precision "fp32", or another model'
            )
        return vectors

    def _encode(self, texts: list[str], role: Role, precision: str) -> NDArray[np.float32]:
        if self._lean is None:
            return self._by_library(texts, role, precision)
        return unit(self._lean.vectors(texts, role, precision))

    def _by_library(self, texts: list[str], role: Role, precision: str) -> NDArray[np.float32]:
        encode = self._model.encode_query if role == "query" else self._model.encode_document
        with self._turn, self._autocast(precision):
            found = encode(texts, batch_size=_BATCH_TEXTS, show_progress_bar=False, convert_to_numpy=True)
        return unit(np.asarray(found, dtype=np.float32))

    def _autocast(self, precision: str) -> AbstractContextManager[Any]:
        if precision == "fp32":
            return nullcontext()
        context: AbstractContextManager[Any] = self._torch.autocast(self._model.device.type, dtype=self._torch.bfloat16)
        return context

    @cached_property
    def _dimensions(self) -> int:
        # Asked of the model itself: the method that tells it was renamed between releases 5 and 6.
        return int(self._encode([""], "query", "fp32").shape[1])

    def _encode_probe(self, precision: str) -> NDArray[np.float32]:
        return self._encode(_PROBE, "document", precision)


def faster_precision(
    encode: Callable[[str], NDArray[np.float32]], clock: Callable[[], float] = time.perf_counter
) -> str:
    """Name "bf16" where it is clearly faster and gives the same vectors, else "fp32".

    Args:
        encode: Precision -> unit vectors of always the same texts.
        clock: Seconds.
    """
    seconds = {"fp32": float("inf"), "bf16": float("inf")}
    vectors: dict[str, NDArray[np.float32]] = {}
    for _ in range(3):  # turn about, the best of each: the first round warms up
        for precision in seconds:
            start = clock()
            vectors[precision] = encode(precision)
            seconds[precision] = min(seconds[precision], clock() - start)
    agreement = float((vectors["fp32"] * vectors["bf16"]).sum(axis=1).min())
    faster = seconds["fp32"] >= _WORTHWHILE_SPEEDUP * seconds["bf16"]
    return "bf16" if faster and agreement > _LEAST_AGREEMENT else "fp32"
