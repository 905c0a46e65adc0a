"""Documents to an index that is searched: read, cut, embed what is new, remove what is gone."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from crosstune.bi_encoder import SentenceTransformerEmbedder
from crosstune.bundle import MANIFEST, load_bundle
from crosstune.checkpoints import EMBEDDED, resolve
from crosstune.documents import (
    ChunkSettings,
    Document,
    FastTokenizer,
    ReadLog,
    chunk,
    digest,
    infer_fields,
    read_documents,
)
from crosstune.errors import ConfigError, DataError, StoreError
from crosstune.language import detect_language
from crosstune.progress import Progress, silent
from crosstune.protocols import Embedder, Store
from crosstune.recipes.prepare import Say, unheard
from crosstune.retrieval.stores import open_store, start_version
from crosstune.text import content_hash, normalized
from crosstune.types import IndexSpec, Passage

# Passages that are embedded and written at once: what a kill can cost.
_BATCH = 256
_LANGUAGE_SAMPLE = 2000
# Metadata of a question/answer table's rows: to show beside a passage, not to search by.
_QUESTION = "question"


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """How documents become an index.

    Attributes:
        embedder: Bi-encoder: "embedded", a folder, a hub id, or a folder that `crosstune tune` wrote, for its tuned
            bi-encoder.
        chunks: How documents are cut.
        text_column: Column of a table that holds the text; None to find it by name.
        schema: RedisVL schema file, as of `start_version`.
    """

    embedder: str = EMBEDDED
    chunks: ChunkSettings = field(default_factory=ChunkSettings)
    text_column: str | None = None
    schema: Path | None = None


@dataclass(frozen=True, slots=True)
class Indexed:
    """What `index` did.

    Attributes:
        location: Of the index.
        n_documents, n_passages: What was read, and what the index holds now.
        n_embedded: Passages that were new, or whose text had changed.
        n_updated: Passages that moved or whose metadata changed; their vectors stayed.
        n_kept: Passages that were there already.
        n_removed: Passages that are no longer in the documents.
        new_version: Whether the index was made anew, beside the old one, and switched to.
        fields: Metadata that can be searched by: name -> "tag" or "numeric".
        skipped: Reason -> documents that were passed over.
        unknown: Ending -> files of a kind that cannot be read.
        seconds: Of the whole.
        embedded_per_s: Passages embedded and written a second; None when there were none.
    """

    location: str
    n_documents: int
    n_passages: int
    n_embedded: int
    n_updated: int
    n_kept: int
    n_removed: int
    new_version: bool
    fields: Mapping[str, str]
    skipped: Mapping[str, int]
    unknown: Mapping[str, int]
    seconds: float
    embedded_per_s: float | None


def index(
    path: str | Path,
    location: str,
    settings: IndexSettings | None = None,
    *,
    progress: Progress = silent,
    say: Say = unheard,
) -> Indexed:
    """Make an index hold the passages of a file or a folder, and nothing else.

    Passages that are there are not embedded again. While embedder, cutting, language and searchable metadata stay the
    same, the published index is updated in place: what is new is found at once, what is gone is removed last. Else a
    new version is made beside it, with the old vectors where the embedder is the same, and takes its place in one
    step. Killed at any moment, the same call continues.

    Args:
        path: CSV, TSV, JSONL, Parquet, Markdown, text, HTML, PDF, or a folder of them.
        location: Folder, or redis://host:port/name.
        settings: See `IndexSettings`.
        progress, say: Told of the work.

    Raises:
        DataError: Nothing in it can be read.
        StoreError: The index cannot be written.
        CheckpointError, ConfigError, MissingExtraError: The embedder or a setting cannot be used.
    """
    settings = settings or IndexSettings()
    start = time.monotonic()
    embedder = SentenceTransformerEmbedder(resolve(embedder_source(settings.embedder)))
    source = _Source(Path(path), settings, embedder)
    survey = _survey(source, progress)
    if not survey.n_passages:
        raise DataError(f"no text was found in {path}{_passed_over(source.log)}; the index was left as it is")
    say(
        f"Read {survey.n_documents:,} documents: {survey.n_passages:,} passages of at most "
        f"{settings.chunks.max_tokens} tokens{_repeats(source.n_repeats)}{_passed_over(source.log)}."
    )
    spec = IndexSpec(
        embedder=embedder.identity,
        embedder_source=embedder_source(settings.embedder),
        dimensions=embedder.embed_queries([""]).shape[1],
        language=survey.language,
        chunk_tokens=settings.chunks.max_tokens,
        overlap_tokens=settings.chunks.overlap_tokens,
        fields=survey.fields,
    )
    store = start_version(location, spec, schema=settings.schema)
    try:
        writer = _Writer(store, embedder, _published(location))
        writer.write(source.passages(), survey.n_passages, progress)
        n_removed = writer.remove_others()
        store.publish()
        log, n_passages = source.log, store.count()
    finally:
        store.close()
    return Indexed(
        location=store.location,
        n_documents=survey.n_documents,
        n_passages=n_passages,
        n_embedded=writer.n_embedded,
        n_updated=writer.n_updated,
        n_kept=writer.n_kept,
        n_removed=n_removed,
        new_version=writer.is_new_version,
        fields=survey.fields,
        skipped=dict(log.counts),
        unknown=dict(log.unknown),
        seconds=round(time.monotonic() - start, 2),
        embedded_per_s=writer.rate(),
    )


def embedder_source(name: str) -> str:
    """What to load an embedder from, whatever folder the command is called in.

    Args:
        name: "embedded", a hub id, a sentence-transformers folder, or a folder that `crosstune tune` wrote.

    Raises:
        ConfigError: A tuned model without a bi-encoder.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir():
        return name
    if not any((place / MANIFEST).is_file() for place in (folder, folder / "model")):
        return str(folder.resolve())
    tuned = load_bundle(folder).bi_encoder
    if tuned is None:
        raise ConfigError(f"{name} holds no tuned bi-encoder; give another --embedder, or leave it out")
    return str(tuned.resolve())


class _Source:
    """The passages of the user's documents, as often as they are asked for; none are held."""

    def __init__(self, path: Path, settings: IndexSettings, embedder: SentenceTransformerEmbedder) -> None:
        self._path, self._settings = path, settings
        self._tokens = FastTokenizer(embedder.tokenizer)
        self.n_documents = self.n_repeats = 0
        self.log = ReadLog()

    def passages(self, progress: Progress = silent) -> Iterator[Passage]:
        """Read and cut from the beginning, each document once: a table has an answer in the row of every question."""
        self.n_documents, self.n_repeats, self.log = 0, 0, ReadLog()
        seen: set[str] = set()
        for document in read_documents(
            self._path, text_column=self._settings.text_column, log=self.log, progress=progress
        ):
            self.n_documents += 1
            content = _content(document)
            self.n_repeats += content in seen
            if content not in seen:
                seen.add(content)
                yield from chunk(document, self._tokens, self._settings.chunks)


@dataclass(frozen=True, slots=True)
class _Survey:
    """What the first reading tells: the index's spec hangs on all of the documents."""

    n_documents: int
    n_passages: int
    language: str
    fields: Mapping[str, str]


def _survey(source: _Source, progress: Progress) -> _Survey:
    sample: list[str] = []
    n_passages = 0

    def metadata() -> Iterator[Mapping[str, str]]:
        nonlocal n_passages
        for passage in source.passages(progress):
            n_passages += 1
            if len(sample) < _LANGUAGE_SAMPLE:
                sample.append(passage.text)
            yield passage.metadata

    fields = infer_fields(metadata())
    fields.pop(_QUESTION, None)
    return _Survey(source.n_documents, n_passages, detect_language(sample).code, fields)


def _content(document: Document) -> str:
    """What a document says and can be found by: equal for those of which one is enough."""
    metadata = sorted((name, value) for name, value in document.metadata.items() if name != _QUESTION)
    return content_hash(json.dumps([normalized(document.title), normalized(document.text), metadata]))


def _repeats(n: int) -> str:
    return f"; {n:,} documents that repeat one with the same metadata are left out" if n else ""


def _passed_over(log: ReadLog) -> str:
    """Documents and files that were not read, in words."""
    skipped = [f"{n:,} passed over ({reason})" for reason, n in log.counts.items()]
    unknown = [f"{n:,} of a kind that cannot be read ({ending or 'no ending'})" for ending, n in log.unknown.items()]
    return "".join(f"; {what}" for what in skipped + unknown)


def _published(location: str) -> Store | None:
    """The version that is published now; None when there is none."""
    try:
        return open_store(location)
    except StoreError:  # The place was reached a moment ago: there is nothing that could be used again.
        return None


class _Writer:
    """Brings a store to hold the passages it is given.

    Args:
        store: From `start_version`.
        embedder: For passages whose vectors are not known.
        published: The version that is searched now; None when there is none.
    """

    def __init__(self, store: Store, embedder: Embedder, published: Store | None) -> None:
        self._store, self._embedder = store, embedder
        self._known = store.digests()
        self.is_new_version = published is None or published.version != store.version
        reusable = self.is_new_version and published is not None and published.spec.embedder == store.spec.embedder
        self._old = published if reusable else None
        self._old_ids = frozenset() if self._old is None else frozenset(self._old.digests())
        self._seen: set[str] = set()
        self._embedding_s = 0.0
        self.n_embedded = self.n_updated = self.n_kept = 0

    def write(self, passages: Iterator[Passage], total: int, progress: Progress) -> None:
        """Write what is new or changed, a batch at a time."""
        with progress("Indexing passages", total) as advance:
            while batch := list(islice(passages, _BATCH)):
                self._write(batch)
                advance(len(batch))

    def remove_others(self) -> int:
        """Remove what was not among the passages written; how many there were."""
        gone = [passage_id for passage_id in self._known if passage_id not in self._seen]
        self._store.remove(gone)
        return len(gone)

    def rate(self) -> float | None:
        """Passages embedded and written a second."""
        return round(self.n_embedded / self._embedding_s, 1) if self.n_embedded else None

    def _write(self, batch: Sequence[Passage]) -> None:
        self._seen.update(passage.passage_id for passage in batch)
        new = [p for p in batch if p.passage_id not in self._known]
        there = [p for p in batch if p.passage_id in self._known]
        changed = [p for p in there if digest(p) != self._known[p.passage_id]]
        self._put_known([p for p in new if p.passage_id in self._old_ids])
        self._put_new([p for p in new if p.passage_id not in self._old_ids])
        if changed:
            self._store.update(changed, [digest(p) for p in changed])
        self.n_updated += len(changed)
        self.n_kept += len(there) - len(changed)

    def _put_known(self, passages: Sequence[Passage]) -> None:
        """Passages of the old version: an id stands for a text, so their vectors hold."""
        if passages and self._old is not None:
            vectors = self._old.vectors([p.passage_id for p in passages])
            self._store.put(passages, vectors, [digest(p) for p in passages])
            self.n_updated += len(passages)

    def _put_new(self, passages: Sequence[Passage]) -> None:
        if not passages:
            return
        start = time.monotonic()
        vectors = self._embedder.embed_passages([p.full_text for p in passages])
        self._store.put(passages, vectors, [digest(p) for p in passages])
        self._embedding_s += time.monotonic() - start
        self.n_embedded += len(passages)
