"""Scores kept in a file, so that no pair is scored twice. Only hashes and numbers are stored, no texts."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crosstune.bundle import BI_ENCODER
from crosstune.errors import ConfigError
from crosstune.files import sha256_of
from crosstune.pair_encoding import EncodedPair
from crosstune.progress import Progress, silent
from crosstune.scoring.base import BatchScorer, ScoredPairs

# Part of every key: raise it when the same model gives a pair another score, for example by another way of cutting.
_FORMAT = "1"
# Marks the file as ours ("cros"), so that no other database is ever written to.
_APPLICATION_ID = 0x63726F73
_BUSY_S = 30.0
_KEYS_PER_QUERY = 500
_WEIGHTS = ("*.safetensors", "*.onnx", "*.onnx_data", "*.onnx.data", "*.xml", "*.bin", "tokenizer.json")


class ScoreCache:
    """A SQLite file of key -> score. Several threads and processes may use one file at the same time.

    Args:
        path: Made when needed.
        max_entries: Most scores kept; beyond them the oldest are dropped. An entry takes about 100 bytes.

    Raises:
        ConfigError: The file cannot be opened, is no database, or is one of another program.
    """

    def __init__(self, path: str | Path, max_entries: int = 1_000_000) -> None:
        if max_entries < 1:
            raise ConfigError(f"a score cache must hold at least 1 entry, found max_entries {max_entries}")
        self.path = Path(path)
        self._max_entries = max_entries
        self._lock = threading.Lock()
        with self._named_errors():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Transactions are begun by hand: each one that writes must ask for the lock at its start.
            self._connection = sqlite3.connect(
                self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
            self._prepare()

    def get(self, keys: Sequence[bytes]) -> dict[bytes, float]:
        """Scores of those keys that are known."""
        found: dict[bytes, float] = {}
        with self._lock, self._named_errors():
            for start in range(0, len(keys), _KEYS_PER_QUERY):
                block = keys[start : start + _KEYS_PER_QUERY]
                marks = ", ".join("?" * len(block))
                found.update(self._connection.execute(f"SELECT key, score FROM scores WHERE key IN ({marks})", block))
        return found

    def put(self, scores: Mapping[bytes, float]) -> None:
        """Keep scores; a key that is known keeps its score and its age, and NaN is not kept."""
        with self._lock, self._writing() as connection:
            # SQLite reads NaN as NULL, which the column refuses: the row is ignored.
            connection.executemany("INSERT OR IGNORE INTO scores (key, score) VALUES (?, ?)", scores.items())
            newest = "(SELECT max(id) FROM scores)"
            connection.execute(f"DELETE FROM scores WHERE id <= {newest} - ?", (self._max_entries,))

    def __len__(self) -> int:
        with self._lock, self._named_errors():
            return int(self._connection.execute("SELECT count(*) FROM scores").fetchone()[0])

    def close(self) -> None:
        """Close the file; the cache cannot be used afterwards."""
        with self._lock:
            self._connection.close()

    def _prepare(self) -> None:
        """Make the table in a new file, refuse a file of somebody else's, and let readers and a writer coexist."""
        with self._writing() as connection:
            owner = connection.execute("PRAGMA application_id").fetchone()[0]
            is_new = not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if owner != _APPLICATION_ID and not is_new:
                raise sqlite3.DatabaseError("it is a database of another program")
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS scores (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, "
                "score REAL NOT NULL)"
            )
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")  # A crash may lose the last scores, never the file.

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that holds the write lock from its start, so that waiting for others cannot fail halfway."""
        with self._named_errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(
                f"{self.path} cannot be used as a score cache: {error}; name a new file, or one that crosstune made"
            ) from error


class PairCache:
    """The part of a cache that belongs to one way of scoring. Only misses are scored, each distinct one once.

    Args:
        cache: Where scores are kept.
        identity: All that a score depends on but the pair.
    """

    def __init__(self, cache: ScoreCache, *identity: str) -> None:
        self._cache = cache
        self._hasher = hashlib.sha256("\n".join((_FORMAT, *identity)).encode())

    def score_pairs(
        self, pairs: Sequence[tuple[str, str]], score: Callable[[Sequence[tuple[str, str]]], NDArray[np.float64]]
    ) -> NDArray[np.float64]:
        """Scores of (query, passage) pairs, in input order, those not known by `score`."""
        by_key = {self._key(pair): pair for pair in dict.fromkeys(pairs)}
        keys = dict(zip(by_key.values(), by_key, strict=True))
        known = self._cache.get(list(by_key))
        missing = [key for key in by_key if key not in known]
        if missing:
            new = dict(zip(missing, score([by_key[key] for key in missing]).tolist(), strict=True))
            self._cache.put(new)
            known.update(new)
        return np.array([known[keys[pair]] for pair in pairs], np.float64)

    def _key(self, pair: tuple[str, str]) -> bytes:
        hasher = self._hasher.copy()
        for text in pair:
            content = text.encode("utf-8", "surrogatepass")
            hasher.update(len(content).to_bytes(8, "big"))  # so that ("ab", "c") is not ("a", "bc")
            hasher.update(content)
        return hasher.digest()


class CachedScorer(BatchScorer):
    """A cross-encoder that looks into a cache first.

    Args:
        scorer: What scores the misses.
        cache: Where scores are kept.
        model_hash: Of the weights, from `model_hash`.
    """

    def __init__(self, scorer: BatchScorer, cache: ScoreCache, model_hash: str) -> None:
        super().__init__(scorer.encoder, scorer.precision, scorer.max_tokens)
        self.runtime = scorer.runtime
        self._scorer = scorer
        self._cache = PairCache(cache, model_hash, scorer.runtime, scorer.precision, str(scorer.encoder.max_length))

    def score_pairs(self, pairs: Sequence[tuple[str, str]], progress: Progress = silent) -> NDArray[np.float64]:
        """Logits of (query, passage) pairs, in input order."""
        return self._cache.score_pairs(pairs, lambda missing: self._scorer.score_pairs(missing, progress))

    def score(self, pairs: Sequence[tuple[str, str]], progress: Progress = silent) -> ScoredPairs:
        """Logits and the share of pairs that were cut; for the share every pair is tokenised, known or not."""
        truncated = sum(pair.truncated for pair in self.encode(pairs))
        return ScoredPairs(self.score_pairs(pairs, progress), truncated / max(1, len(pairs)))

    def score_encoded(self, encoded: Sequence[EncodedPair], progress: Progress = silent) -> NDArray[np.float64]:
        """Logits of encoded pairs, in input order, past the cache: its keys are texts."""
        return self._scorer.score_encoded(encoded, progress)

    def _logits(self, pairs: Sequence[EncodedPair]) -> NDArray[np.float64]:
        return self._scorer.score_encoded(pairs)


def model_hash(folder: Path) -> str:
    """SHA-256 over the weight files of a model folder, exports included, its tokenizer and all of its bi-encoder."""
    hasher = hashlib.sha256()
    files = {path for pattern in _WEIGHTS for path in folder.rglob(pattern)}
    files |= set((folder / BI_ENCODER).rglob("*.json"))  # prompts, pooling and length make other vectors, too
    for path in sorted(files):
        hasher.update(f"{path.relative_to(folder).as_posix()}\0{sha256_of([path])}\n".encode())
    return hasher.hexdigest()
