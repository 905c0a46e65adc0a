"""The nouns that travel between rooms.

Frozen dataclasses without behaviour beyond look-ups. Ids are strings; text travels once, in a `Collection`,
and ids are used everywhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Qrels: TypeAlias = dict[str, dict[str, int]]
"""query_id -> passage_id -> relevance. 1 or more is relevant, 0 judged not relevant, absent unjudged."""

_NO_METADATA: Mapping[str, str] = MappingProxyType({})


class ScoreKind(str, Enum):
    """What a score means. Libraries disagree on what a model returns, so a score never travels without it."""

    LOGIT = "logit"
    PROBABILITY = "probability"
    SIMILARITY = "similarity"
    LEXICAL = "lexical"
    FUSED = "fused"


@dataclass(frozen=True, slots=True)
class Query:
    """A question.

    Attributes:
        synthetic: Written by a machine: it may be learnt from, and nothing is judged by it.
    """

    query_id: str
    text: str
    synthetic: bool = False


@dataclass(frozen=True, slots=True)
class Origin:
    """Where in the user's documents a passage was cut.

    Attributes:
        document_id: For example "handbook.md", or "faq.csv#12" for a table's data row 12.
        position: Place among the document's passages, from 0.
        start, end: Characters of the document's text, end excluded; neighbours may overlap.
    """

    document_id: str
    position: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Passage:
    """The unit that is retrieved and scored: an answer, or a chunk of a document.

    Attributes:
        title: Of a chunk the headings above it.
        origin: Where a chunk was cut; None for a passage that stands alone.
    """

    passage_id: str
    text: str
    title: str = ""
    metadata: Mapping[str, str] = field(default_factory=lambda: _NO_METADATA)
    origin: Origin | None = None

    @property
    def full_text(self) -> str:
        """Title and text as every first stage and reranker reads them."""
        return f"{self.title} {self.text}" if self.title else self.text


@dataclass(frozen=True, slots=True)
class Collection:
    """Passages, questions and judgments of one user's data.

    Attributes:
        passages: passage_id -> passage, in file order.
        queries: query_id -> query, in file order.
        qrels: Judgments; every relevant passage_id is in `passages`.
        fingerprint: SHA-256 over all of it, the name of this data in every artefact.
    """

    passages: Mapping[str, Passage]
    queries: Mapping[str, Query]
    qrels: Qrels
    fingerprint: str

    def relevant(self, query_id: str) -> set[str]:
        """Ids of the passages judged relevant (relevance 1 or more) to a query."""
        return {pid for pid, relevance in self.qrels.get(query_id, {}).items() if relevance > 0}


@dataclass(frozen=True, slots=True)
class Splits:
    """Which question is used for what.

    Attributes:
        train, dev, test: query_ids; disjoint. Synthetic questions are in train alone, or in none.
        groups: query_id -> group id; questions that are near-duplicates or share an answer have one group id.
        seed: What the shuffle was seeded with; None for splits the user gave.
    """

    train: tuple[str, ...]
    dev: tuple[str, ...]
    test: tuple[str, ...]
    groups: Mapping[str, str]
    seed: int | None

    def held_out(self, collection: Collection) -> set[str]:
        """Ids of the passages that answer dev or test questions: none may be a training negative."""
        return {passage_id for query_id in self.dev + self.test for passage_id in collection.relevant(query_id)}


@dataclass(frozen=True, slots=True)
class Candidate:
    """One passage that a ranking proposed for a query. Rank 1 is best; a higher score is better."""

    passage_id: str
    score: float
    rank: int


@dataclass(frozen=True, slots=True)
class Run:
    """A ranking of up to `depth` candidates for each query, best first.

    Attributes:
        name: Row name in tables, for example "bm25".
        depth: Most candidates a query can have.
        score_kind: What the scores mean.
        candidates: query_id -> candidates in rank order.
    """

    name: str
    depth: int
    score_kind: ScoreKind
    candidates: Mapping[str, tuple[Candidate, ...]]


@dataclass(frozen=True, slots=True)
class Condition:
    """What a passage's metadata must be to be found.

    Attributes:
        field: Name of an indexed metadata field.
        operator: "=" or "!=" for any field, "<", "<=", ">", ">=" for numbers.
        values: With "=" any of them will do, with "!=" none may be there; one value with the others.
    """

    field: str
    operator: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """What an index is made with. Vectors of indexes with different specs cannot be mixed.

    Attributes:
        embedder: Identity of the embedder, `Embedder.name`.
        embedder_source: What to load it from: "embedded", a hub id or a folder.
        dimensions: Of a vector.
        language: ISO 639 code, for stemming and stop words of text search.
        chunk_tokens, overlap_tokens: How documents were cut.
        fields: Metadata that can be searched by: name -> "tag" or "numeric".
    """

    embedder: str
    embedder_source: str
    dimensions: int
    language: str
    chunk_tokens: int
    overlap_tokens: int
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Found:
    """A passage that a store found. A higher score is better."""

    passage: Passage
    score: float


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that a search returns.

    Attributes:
        rank: From 1, after reranking.
        first_stage_rank, first_stage_score: What the first stage said of it.
        score: The reranker's; None without a reranker, or when a deadline came before the passage.
        probability: Calibrated probability that the passage answers; None where it is not known.
        answers: Whether the probability reaches the no-answer threshold.
    """

    passage: Passage
    rank: int
    first_stage_rank: int
    first_stage_score: float
    score: float | None
    probability: float | None
    answers: bool


@dataclass(frozen=True, slots=True)
class TrainingGroup:
    """One positive of a query with its negatives: the unit that training learns from. All by id."""

    query_id: str
    positive_id: str
    negative_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over n queries with its 95% confidence interval (bootstrap over groups)."""

    mean: float
    ci_low: float
    ci_high: float
    n: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """A paired comparison of two rankings on the same queries.

    Attributes:
        measure: For example "nDCG@10".
        baseline, candidate: Names of the two rows.
        delta: Mean of candidate minus baseline, with its interval.
        p_value: Two-sided paired permutation test.
        p_holm: The same after Holm's correction over the family shown.
        effect_size: Mean difference over the standard deviation of the differences (Cohen's d_z).
        wins, ties, losses: Queries on which the candidate is better, equal, worse.
    """

    measure: str
    baseline: str
    candidate: str
    delta: Estimate
    p_value: float
    p_holm: float
    effect_size: float
    wins: int
    ties: int
    losses: int


@dataclass(frozen=True, slots=True)
class TableRow:
    """One ranking's figures: measure name, for example "nDCG@10" -> estimate."""

    name: str
    measures: Mapping[str, Estimate]


class Verdict(str, Enum):
    """What the test set says of the shipped pipeline. The value of `exit_code` is the process exit code."""

    BETTER = "better"
    NOT_PROVEN = "not proven"
    WORSE = "worse"

    @property
    def exit_code(self) -> int:
        """0 better, 3 not proven, 4 worse."""
        return {"better": 0, "not proven": 3, "worse": 4}[self.value]


@dataclass(frozen=True, slots=True)
class HealthFinding:
    """Something wrong, or worth knowing, about a model or its training.

    Attributes:
        code: Stable name, for example "constant-scores".
        fatal: True when the model must not be shipped.
        message: What was seen, with figures, and the remedy.
    """

    code: str
    fatal: bool
    message: str


@dataclass(frozen=True, slots=True)
class Calibration:
    """Logit to probability: p = sigmoid(logit / temperature + bias), and when to answer "not in here".

    Attributes:
        temperature: Above 0, so that the order never changes.
        bias: Added after division.
        threshold: Probability of the best candidate under which no candidate answers the question.
        precision, recall: Of the threshold on the dev queries it was chosen on.
        n: Number of dev decisions it was chosen on.
    """

    temperature: float
    bias: float
    threshold: float
    precision: float
    recall: float
    n: int

    def probability(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Calibrated probability of relevance: sigmoid(logit / temperature + bias), in float64."""
        scaled = np.asarray(logits, np.float64) / self.temperature + self.bias
        return np.exp(-np.logaddexp(0.0, -scaled))  # sigmoid without overflow


class Part(str, Enum):
    """A part of a reranker's score.

    Cross-encoder: the logit. Bi-encoder: the cosine of question and passage. Lexical: BM25 among the candidates. First
    stage: its score, standardised over a question's candidates (mean 0, standard deviation 1), since it can be on any
    scale. Known question: whether the passage answers a train question that is asked again (0, or 1 to 2).
    """

    CROSS_ENCODER = "cross_encoder"
    BI_ENCODER = "bi_encoder"
    LEXICAL = "lexical"
    FIRST_STAGE = "first_stage"
    KNOWN_QUESTION = "known_question"


@dataclass(frozen=True, slots=True)
class Reading:
    """Which of a question's candidates the cross-encoder reads: the best by the parts that cost little.

    An unread one counts with the lowest logit that was given for the question.

    Attributes:
        n: How many, at least 1.
        weights: Part other than the cross-encoder -> weight, above 0, by whose sum they are picked; empty for the order
            of the first stage.
    """

    n: int
    weights: Mapping[Part, float]


@dataclass(frozen=True, slots=True)
class Fusion:
    """How the parts of a score are joined: the sum of weight times score. Parts that are absent are left out.

    Attributes:
        first_stage: Row name of the first stage whose candidates it was judged on.
        weights: Part -> weight, above 0; at least one.
        language: ISO 639 code by which the lexical part cuts words.
        calibration: Fused score to probability, and the no-answer threshold; None where dev gave no scale.
        reading: Which candidates the cross-encoder reads; None when it reads all, or has no part.
    """

    first_stage: str
    weights: Mapping[Part, float]
    language: str
    calibration: Calibration | None
    reading: Reading | None = None

    @property
    def parts(self) -> frozenset[Part]:
        """All parts that have a use: in the score, or in picking what is read."""
        return frozenset(self.weights) | (frozenset() if self.reading is None else frozenset(self.reading.weights))


@dataclass(frozen=True, slots=True)
class EvalReport:
    """Everything the test set says about a set of rankings.

    Attributes:
        table: One row for each ranking, in the order given; all have the same measures, the headline first.
        comparisons: The family shown, in the order asked for; `p_holm` is corrected over all of them.
        per_query: row name -> measure -> query_id -> value.
    """

    table: tuple[TableRow, ...]
    comparisons: tuple[Comparison, ...]
    per_query: Mapping[str, Mapping[str, Mapping[str, float]]]
