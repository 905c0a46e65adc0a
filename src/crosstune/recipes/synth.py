"""Documents without questions: a language model writes them, and what is no good is left out."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from crosstune.bi_encoder import SentenceTransformerEmbedder
from crosstune.checkpoints import EMBEDDED, resolve
from crosstune.documents import ChunkSettings, FastTokenizer, chunk, read_documents
from crosstune.errors import ConfigError, DataError
from crosstune.llm import (
    DEFAULT,
    Dropped,
    LanguageModel,
    Synthesis,
    SyntheticPair,
    Templates,
    Usage,
    near_duplicate_questions,
    round_trip,
    synthesize_many,
)
from crosstune.progress import Progress, silent
from crosstune.recipes.prepare import Say, unheard
from crosstune.retrieval import Dense
from crosstune.text import content_hash
from crosstune.types import Passage, Query

_COLUMNS = ("question", "answer", "short_answer", "style", "passage_id", "source", "synthetic")


@dataclass(frozen=True, slots=True)
class SynthSettings:
    """How questions are written.

    Attributes:
        n_questions: Most questions for a passage.
        templates: What the model is told.
        n_workers: Requests at a time.
        limit: Most passages to write for, evenly spread over the documents; None for all.
        depth: A question is kept when vector search finds its passage among so many.
        embedder: Bi-encoder of that search, whose tokenizer also cuts the documents.
        chunks: How documents are cut: as in the index that is tuned for.
        text_column: As of `index`.
    """

    n_questions: int = 2
    templates: Templates = DEFAULT
    n_workers: int = 4
    limit: int | None = None
    depth: int = 10
    embedder: str = EMBEDDED
    chunks: ChunkSettings = field(default_factory=ChunkSettings)
    text_column: str | None = None


@dataclass(frozen=True, slots=True)
class Synthesized:
    """What `synth` wrote.

    Attributes:
        path: CSV of questions and passages.
        n_passages: Passages that questions were written for, now or before.
        n_written: Questions that the model wrote for them.
        n_kept: Questions in the file.
        dropped: Reason -> questions left out.
        failed: Passages for which no usable reply came; running again tries them again.
        usage: Tokens and requests of this call.
    """

    path: Path
    n_passages: int
    n_written: int
    n_kept: int
    dropped: Mapping[str, int]
    failed: int
    usage: Usage


def synth(
    documents: str | Path,
    out: str | Path,
    model: LanguageModel,
    settings: SynthSettings | None = None,
    *,
    overwrite: bool = False,
    progress: Progress = silent,
    say: Say = unheard,
) -> Synthesized:
    """Write questions for the passages of documents, with the passages as their answers, for `tune` to learn from.

    Killed at any moment, the same call continues: what was written is kept in a file beside `out`.

    Args:
        documents: As of `index`.
        out: CSV file. Its rows are marked as synthetic, so that `tune` never judges by them.
        model: From `connect`.
        settings: See `SynthSettings`.
        overwrite: Begin anew where `out` was made with other documents or settings.
        progress, say: Told of the work.

    Raises:
        DataError: There is no passage to write for.
        ConfigError: What was written before is of other documents or settings.
        LlmError: The endpoint does not work.
    """
    settings, out = settings or SynthSettings(), Path(out)
    embedder = SentenceTransformerEmbedder(resolve(settings.embedder))
    passages = _passages(Path(documents), settings, embedder, progress)
    journal = _Journal(out.with_name(out.name + ".progress.jsonl"), _identity(passages, model, settings), overwrite)
    todo = [p for p in passages.values() if p.passage_id not in journal.pairs]
    say(f"{len(passages):,} passages; questions are written for {len(todo):,} of them by {model.model!r}.")
    n_failed = 0
    with progress("Writing questions", len(todo)) as advance, journal:
        results = synthesize_many(
            todo, model, settings.templates, settings.n_questions, n_workers=settings.n_workers, on_done=journal.add
        )
        for result in results:
            n_failed += result.error is not None
            advance(1)
    written = [pair for passage_id in passages for pair in journal.pairs.get(passage_id, ())]
    kept, dropped = _filtered(written, passages, embedder, settings.depth, progress)
    _write(kept, passages, out)
    return Synthesized(
        path=out,
        n_passages=len(journal.pairs),
        n_written=len(written),
        n_kept=len(kept),
        dropped=_counts(dropped),
        failed=n_failed,
        usage=model.usage,
    )


def _passages(
    documents: Path, settings: SynthSettings, embedder: SentenceTransformerEmbedder, progress: Progress
) -> dict[str, Passage]:
    """passage_id -> passage, in the order of the documents."""
    tokens = FastTokenizer(embedder.tokenizer)
    found = {
        passage.passage_id: passage
        for document in read_documents(documents, text_column=settings.text_column, progress=progress)
        for passage in chunk(document, tokens, settings.chunks)
    }
    if not found:
        raise DataError(f"no text was found in {documents}; there is nothing to write questions for")
    if settings.limit is None or settings.limit >= len(found):
        return found
    if settings.limit < 1:
        raise ConfigError(f"a limit of {settings.limit} leaves no passage; give 1 or more")
    ids = list(found)
    return {ids[place]: found[ids[place]] for place in (n * len(ids) // settings.limit for n in range(settings.limit))}


def _identity(passages: Mapping[str, Passage], model: LanguageModel, settings: SynthSettings) -> str:
    """Hash of all that decides what is written."""
    content = [list(passages), model.model, settings.n_questions, asdict(settings.templates)]
    return content_hash(json.dumps(content))


class _Journal:
    """What was written so far, one line for each passage, on disk before the next one is asked for.

    Args:
        path: The file.
        identity: What it must have been made with.
        overwrite: Begin anew where it was made with something else.
    """

    def __init__(self, path: Path, identity: str, overwrite: bool) -> None:
        self._path, self._identity = path, identity
        self.pairs: dict[str, tuple[SyntheticPair, ...]] = {}
        if path.is_file():
            found, self.pairs = _read_journal(path)
            if found != identity and not overwrite:
                raise ConfigError(
                    f"{path} holds questions written for other documents, or with other settings; pass --overwrite to "
                    "begin anew, or choose another --out"
                )
            if found != identity:
                self.pairs = {}
        self._begin()

    def _begin(self) -> None:
        """Write the file anew: a kill can have left half a line at its end."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_name(self._path.name + ".tmp")
        with temporary.open("w", encoding="utf-8") as file:
            file.write(json.dumps({"identity": self._identity}) + "\n")
            file.writelines(_line(passage_id, pairs) for passage_id, pairs in self.pairs.items())
        os.replace(temporary, self._path)

    def __enter__(self) -> _Journal:
        self._file = self._path.open("a", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, result: Synthesis) -> None:
        """Keep a passage's questions; what failed is tried again next time."""
        if result.error is None:
            self.pairs[result.passage_id] = result.pairs
            self._file.write(_line(result.passage_id, result.pairs))
            self._file.flush()


def _line(passage_id: str, pairs: Sequence[SyntheticPair]) -> str:
    return json.dumps({"passage_id": passage_id, "pairs": [asdict(pair) for pair in pairs]}) + "\n"


def _read_journal(path: Path) -> tuple[str, dict[str, tuple[SyntheticPair, ...]]]:
    """Its identity, and the questions of each passage; a last line that was cut is passed over."""
    identity, pairs = "", dict[str, tuple[SyntheticPair, ...]]()
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            content: dict[str, Any] = json.loads(line)
        except ValueError:
            break
        if "identity" in content:
            identity = content["identity"]
        else:
            pairs[content["passage_id"]] = tuple(SyntheticPair(**pair) for pair in content["pairs"])
    return identity, pairs


def _filtered(
    written: Sequence[SyntheticPair],
    passages: Mapping[str, Passage],
    embedder: SentenceTransformerEmbedder,
    depth: int,
    progress: Progress,
) -> tuple[tuple[SyntheticPair, ...], tuple[Dropped, ...]]:
    """Questions that are new and lead back to their passage, and the others."""
    different = near_duplicate_questions(written)
    dense = Dense(passages, embedder, progress)

    def retrieve(questions: Sequence[str], depth: int) -> list[list[str]]:
        queries = [Query(str(number), text) for number, text in enumerate(questions)]
        ranked = dense.retrieve(queries, depth, progress).candidates
        return [[candidate.passage_id for candidate in ranked[query.query_id]] for query in queries]

    found = round_trip(different.kept, retrieve, depth)
    return found.kept, (*different.dropped, *found.dropped)


def _write(pairs: Sequence[SyntheticPair], passages: Mapping[str, Passage], out: Path) -> None:
    temporary = out.with_name(out.name + ".tmp")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for pair in pairs:
            passage = passages[pair.passage_id]
            source = "" if passage.origin is None else passage.origin.document_id
            writer.writerow([pair.question, passage.text, pair.answer, pair.style, pair.passage_id, source, "yes"])
    os.replace(temporary, out)


def _counts(dropped: Sequence[Dropped]) -> dict[str, int]:
    reasons = [item.reason for item in dropped]
    return {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)}
