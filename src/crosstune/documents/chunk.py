"""A document to passages."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from crosstune.documents.cutting import Cutter
from crosstune.documents.document import Document
from crosstune.documents.sections import fitted_title, sections
from crosstune.documents.tokens import TokenOffsets
from crosstune.errors import ConfigError
from crosstune.text import content_hash
from crosstune.types import Origin, Passage

# Below this a title's half could not hold a heading, nor the rest a character of many tokens.
_MIN_TOKENS = 32


@dataclass(frozen=True, slots=True)
class ChunkSettings:
    """How documents are cut.

    Attributes:
        max_tokens: Of a passage's title and text, special tokens left out.
        overlap_tokens: Most tokens of a passage that the next one repeats.
    """

    max_tokens: int = 200
    overlap_tokens: int = 30

    def __post_init__(self) -> None:
        if self.max_tokens < _MIN_TOKENS:
            raise ConfigError(f"max_tokens is {self.max_tokens}; a passage needs room: give {_MIN_TOKENS} or more")
        if not 0 <= self.overlap_tokens <= self.max_tokens // 2:
            raise ConfigError(
                f"overlap_tokens is {self.overlap_tokens}; expected 0 to {self.max_tokens // 2}, half of max_tokens"
            )


def chunk(document: Document, tokenizer: TokenOffsets, settings: ChunkSettings) -> Iterator[Passage]:
    """Cut a document into passages, in the order of its text.

    A passage stands under one heading; headings are in the title ("Handbook > Returns > Exchanges"), not in the text.
    It ends at a paragraph, sentence, line or word, whichever is the best not too far before the limit, and inside of
    a word only when the word alone is too long. The next one repeats the end of it, from the start of a sentence
    where one is near. A title takes at most half of the tokens.

    A passage's id depends on the document's id, its title and its text (and on how many equal ones stand before
    it), not on its place: it stays when other parts of the document change.

    Args:
        tokenizer: Of the embedder.
    """
    seen: Counter[str] = Counter()
    position = 0
    for section in sections(document):
        title = fitted_title(section.path, tokenizer, settings.max_tokens // 2)
        cutter = Cutter(document.text, section.end, title, tokenizer, settings.max_tokens, settings.overlap_tokens)
        for start, end in cutter.spans(section.start):
            text = document.text[start:end]
            passage_id = _passage_id(document.document_id, title, text, seen)
            origin = Origin(document.document_id, position, start, end)
            yield Passage(passage_id, text, title, _metadata(document, start), origin)
            position += 1


def digest(passage: Passage) -> str:
    """Content hash of all of a passage but its id: whether one that is indexed must be written again."""
    origin = passage.origin
    where = None if origin is None else [origin.document_id, origin.position, origin.start, origin.end]
    return _hash(passage.title, passage.text, where, sorted(passage.metadata.items()))


def _passage_id(document_id: str, title: str, text: str, seen: Counter[str]) -> str:
    content = _hash(document_id, title, text)
    seen[content] += 1
    return _hash(document_id, title, text, seen[content])[:32]


def _hash(*parts: object) -> str:
    # JSON keeps the parts apart: "ab" + "c" is not "a" + "bc".
    return content_hash(json.dumps(parts))


def _metadata(document: Document, start: int) -> Mapping[str, str]:
    if not document.pages:
        return document.metadata
    return {**document.metadata, "page": str(bisect_right(document.pages, start))}
