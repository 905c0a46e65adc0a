"""Nothing is embedded twice, nothing wrong is read back, and a run that dies goes on where it was."""

import hashlib

import numpy as np
import pytest

from crosstune.bi_encoder import CachedEmbedder, cache
from crosstune.progress import silent


class Counting:
    """Embeds a text as numbers from its hash, notes what it was asked for, and can be told to die."""

    def __init__(self, name="model", dies_after=None):
        self.name = name
        self.asked = []
        self.dies_after = dies_after

    def _embed(self, role, texts):
        if self.dies_after is not None and len(self.asked) + len(texts) > self.dies_after:
            raise KeyboardInterrupt
        self.asked += texts
        rows = [np.frombuffer(hashlib.sha256(f"{role} {text}".encode()).digest(), np.uint8) for text in texts]
        return np.array(rows, dtype=np.float32).reshape(len(texts), 32)

    def embed_queries(self, texts, progress=silent):
        return self._embed("query", list(texts))

    def embed_passages(self, texts, progress=silent):
        return self._embed("passage", list(texts))


TEXTS = [f"text {i} " + "x" * (i % 7) for i in range(10)]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(cache, "_BLOCK_TEXTS", 4)


def files(folder):
    return sorted(folder.rglob("*.npz"))


def test_rows_are_those_of_the_texts_in_order_repeats_included(tmp_path):
    texts = [*TEXTS, TEXTS[3], TEXTS[0]]
    inner = Counting()
    rows = CachedEmbedder(inner, tmp_path).embed_passages(texts)
    assert rows.dtype == np.float32
    assert np.array_equal(rows, Counting().embed_passages(texts))
    assert sorted(inner.asked) == sorted(TEXTS)  # once each


def test_a_second_process_reads_what_the_first_wrote(tmp_path):
    first = CachedEmbedder(Counting(), tmp_path).embed_passages(TEXTS)
    again = Counting()
    second = CachedEmbedder(again, tmp_path).embed_passages([*TEXTS[::-1], "new"])
    assert again.asked == ["new"]
    assert np.array_equal(second[:-1], first[::-1])


def test_roles_and_models_are_kept_apart(tmp_path):
    embedder = CachedEmbedder(Counting(), tmp_path)
    assert not np.array_equal(embedder.embed_passages(TEXTS), embedder.embed_queries(TEXTS))
    other = Counting("model bf16")
    CachedEmbedder(other, tmp_path).embed_passages(TEXTS)
    assert len(other.asked) == 10


def test_a_killed_run_keeps_its_finished_blocks(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        CachedEmbedder(Counting(dies_after=9), tmp_path).embed_passages(TEXTS)
    again = Counting()
    rows = CachedEmbedder(again, tmp_path).embed_passages(TEXTS)
    assert len(again.asked) == 2  # blocks of 4, 4 and 2: it died in the third
    assert np.array_equal(rows, Counting().embed_passages(TEXTS))


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "not a zip", "pickled", "other arrays"])
def test_a_damaged_file_is_embedded_again(tmp_path, damage):
    CachedEmbedder(Counting(), tmp_path).embed_passages(TEXTS)
    assert len(files(tmp_path)) == 3
    _damage(files(tmp_path)[0], damage)
    again = Counting()
    rows = CachedEmbedder(again, tmp_path).embed_passages(TEXTS)
    assert len(again.asked) in (2, 4)  # that block's texts, no others
    assert np.array_equal(rows, Counting().embed_passages(TEXTS))
    last = Counting()
    CachedEmbedder(last, tmp_path).embed_passages(TEXTS)
    assert last.asked == []  # repaired on disk too


def test_a_damaged_file_goes_even_if_its_texts_are_not_asked_for(tmp_path):
    CachedEmbedder(Counting(), tmp_path).embed_passages(TEXTS)
    bad = files(tmp_path)[0]
    _damage(bad, "cut")
    CachedEmbedder(Counting(), tmp_path).embed_passages(["new"])
    assert bad not in files(tmp_path)


def _damage(path, kind):
    data = path.read_bytes()
    middle = len(data) // 2
    if kind == "pickled":
        np.savez(path, keys=np.array([{"a": 1}], dtype=object), vectors=np.zeros((1, 32), np.float32))
    elif kind == "other arrays":
        np.savez(path, keys=np.array(["a"]), vectors=np.zeros(32, np.float64))
    else:
        path.write_bytes(
            {
                "empty": b"",
                "cut": data[:middle],
                "flipped": data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :],
                "not a zip": b"vectors",
            }[kind]
        )


def test_a_file_that_was_being_written_is_not_read(tmp_path):
    CachedEmbedder(Counting(), tmp_path).embed_passages(TEXTS)
    for path in files(tmp_path):
        path.rename(path.with_suffix(".unfinished"))
    again = Counting()
    CachedEmbedder(again, tmp_path).embed_passages(TEXTS)
    assert len(again.asked) == 10


def test_no_texts(tmp_path):
    assert CachedEmbedder(Counting(), tmp_path).embed_queries([]).shape == (0, 32)
