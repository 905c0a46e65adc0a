"""Documents in many formats to passages: read, cut by tokens with overlap, headings kept."""

from crosstune.documents.chunk import ChunkSettings, chunk, digest
from crosstune.documents.document import Document, Heading, ReadLog, Skipped
from crosstune.documents.fields import field_name, infer_fields
from crosstune.documents.read import ENDINGS, read_documents
from crosstune.documents.tokens import FastTokenizer, TokenOffsets

__all__ = [
    "ENDINGS",
    "ChunkSettings",
    "Document",
    "FastTokenizer",
    "Heading",
    "ReadLog",
    "Skipped",
    "TokenOffsets",
    "chunk",
    "digest",
    "field_name",
    "infer_fields",
    "read_documents",
]
