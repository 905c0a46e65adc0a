"""What all runtimes share: pairs to tokens, tokens to batches, logits back in input order."""

from __future__ import annotations

import os
import platform
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crosstune.errors import BundleError
from crosstune.pair_encoding import CPU_BATCH_TOKENS, EncodedPair, PairEncoder, length_batches
from crosstune.progress import Progress, silent
from crosstune.team import Team
from crosstune.types import ScoreKind

# Token ids of this many pairs are held at once: some 100 MB of long ones.
_PAIRS_AT_ONCE = 1 << 16


@dataclass(frozen=True, slots=True)
class ScoredPairs:
    """Scores in input order and what was cut.

    Attributes:
        logits: (pairs,) float64.
        truncated_share: Share of pairs of which a tail was cut, 0 to 1.
    """

    logits: NDArray[np.float64]
    truncated_share: float


class BatchScorer(ABC):
    """A `Scorer` that reads padded batches; a runtime adds how one batch becomes logits.

    Args:
        encoder: Texts to tokens.
        precision: What it computes in: "fp32", "bf16" or "int8".
        max_tokens: Most padded tokens in a batch.
        team: Threads that score batches side by side; None for the caller's alone.
    """

    score_kind = ScoreKind.LOGIT
    runtime: str

    def __init__(
        self, encoder: PairEncoder, precision: str, max_tokens: int = CPU_BATCH_TOKENS, team: Team | None = None
    ) -> None:
        self.encoder = encoder
        self.precision = precision
        self.max_tokens = max_tokens
        self._team = team or Team(1)

    def score_pairs(self, pairs: Sequence[tuple[str, str]], progress: Progress = silent) -> NDArray[np.float64]:
        """Logits of (query, passage) pairs, in input order."""
        return self.score(pairs, progress).logits

    def score(self, pairs: Sequence[tuple[str, str]], progress: Progress = silent) -> ScoredPairs:
        """Logits and the share of pairs that were cut; memory grows with the pairs' number by their logits alone."""
        logits, n_truncated = np.empty(len(pairs), np.float64), 0
        with self._scoring(), progress("Scoring pairs", len(pairs)) as advance:
            for start in range(0, len(pairs), _PAIRS_AT_ONCE):
                encoded = self.encode(pairs[start : start + _PAIRS_AT_ONCE])
                logits[start : start + len(encoded)] = self._in_batches(encoded, advance)
                n_truncated += sum(pair.truncated for pair in encoded)
        return ScoredPairs(logits, n_truncated / max(1, len(pairs)))

    def encode(self, pairs: Sequence[tuple[str, str]]) -> list[EncodedPair]:
        """Token ids of pairs; every distinct text is tokenised once."""
        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        tokens = dict(zip(texts, self.encoder.tokenize(texts), strict=True))
        return [self.encoder.pair(tokens[query], tokens[passage]) for query, passage in pairs]

    def score_encoded(self, encoded: Sequence[EncodedPair], progress: Progress = silent) -> NDArray[np.float64]:
        """Logits of encoded pairs, in input order."""
        with self._scoring(), progress("Scoring pairs", len(encoded)) as advance:
            return self._in_batches(encoded, advance)

    def _in_batches(self, encoded: Sequence[EncodedPair], advance: Callable[[int], None]) -> NDArray[np.float64]:
        logits, lengths = np.empty(len(encoded), np.float64), [len(pair.ids) for pair in encoded]

        def score(batch: NDArray[np.intp]) -> None:
            logits[batch] = self._logits([encoded[i] for i in batch])
            advance(len(batch))

        batches = length_batches(lengths, self.max_tokens, self._team.size)
        self._team.spread([partial(score, batch) for batch in batches])
        return logits

    def _scoring(self) -> AbstractContextManager[None]:
        """What must hold while batches are scored."""
        return nullcontext()

    @abstractmethod
    def _logits(self, pairs: Sequence[EncodedPair]) -> NDArray[np.float64]:
        """Logits of one batch; may be called in several threads at once."""


def check_inputs(graph: Path, names: Sequence[str], encoder: PairEncoder) -> tuple[str, ...]:
    """The graph's inputs, each of which the encoder can give.

    Raises:
        BundleError: It cannot.
    """
    known = encoder.pad_arrays([encoder.pair(np.zeros(1, np.int32), np.zeros(1, np.int32))])
    unknown = [name for name in names if name not in known]
    if unknown:
        raise BundleError(
            f"{graph} wants {', '.join(unknown)}, which the tokenizer beside it does not give; the files are of "
            "different models: export again"
        )
    return tuple(names)


def n_processors() -> int:
    """Processors that this process may use, which in a container are fewer than the machine's."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor_name() -> str:
    """The processor's model name; `platform` knows none on Linux."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
