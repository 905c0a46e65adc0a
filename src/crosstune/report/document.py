"""The nouns of a report: everything a reader is told about one tuning run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from crosstune.types import Calibration, EvalReport, Fusion, HealthFinding, Verdict


@dataclass(frozen=True, slots=True)
class RankedPassage:
    """One line of a ranking as a person reads it. Relevance is None when nobody judged the passage."""

    rank: int
    passage_id: str
    snippet: str
    relevance: int | None


@dataclass(frozen=True, slots=True)
class ExampleRanking:
    """The top of one ranking of one question.

    Attributes:
        name: Row name of the ranking.
        top: Its best passages.
        first_relevant_rank: Rank of the best placed relevant passage; None when there is none among the
            candidates.
    """

    name: str
    top: tuple[RankedPassage, ...]
    first_relevant_rank: int | None


@dataclass(frozen=True, slots=True)
class Example:
    """One question on which two rankings differ; delta is candidate minus baseline on the headline
    measure."""

    query_id: str
    question: str
    delta: float
    baseline: ExampleRanking
    candidate: ExampleRanking


@dataclass(frozen=True, slots=True)
class UnjudgedPassage:
    """A highly ranked passage that nobody judged: an answer the data may be missing."""

    query_id: str
    question: str
    passage_id: str
    snippet: str
    rank: int


@dataclass(frozen=True, slots=True)
class TuneReport:
    """Everything a reader is told about one tuning run.

    Attributes:
        title: Headline, for example the file's name.
        verdict, verdict_sentence: What the test set says, as a word and in plain English.
        shipped: The pipeline that the verdict is about, in words.
        data: What was read, label -> figure or text.
        split_counts: "train", "dev", "test" -> number of questions.
        split_seed: None for splits the user gave.
        evaluation: Table, comparisons and per-question values on test.
        health: Findings; empty when all is well.
        timings_s: stage -> seconds.
        settings: The resolved settings of the run.
        calibration, fusion: As stored with the model; None when there is none.
        dev: First stage -> nDCG@10 on dev of the scores joined over its candidates, and "shipped" -> that of what is
            shipped: what was chosen by, not a result.
        notes: What else the reader must know, a sentence each.
        wins, losses: Questions with the largest gain and loss of the shipped ranking, largest first.
        unjudged: Top-ranked passages for a person to judge.
        versions: package -> version.
    """

    title: str
    verdict: Verdict
    verdict_sentence: str
    shipped: str
    data: Mapping[str, str | int | float]
    split_counts: Mapping[str, int]
    split_seed: int | None
    evaluation: EvalReport
    health: tuple[HealthFinding, ...]
    timings_s: Mapping[str, float]
    settings: Mapping[str, object]
    calibration: Calibration | None
    fusion: Fusion | None
    dev: Mapping[str, float]
    notes: tuple[str, ...]
    wins: tuple[Example, ...]
    losses: tuple[Example, ...]
    unjudged: tuple[UnjudgedPassage, ...]
    versions: Mapping[str, str]


def headline(evaluation: EvalReport) -> str:
    """Name of the measure that decides: the first of the table."""
    return next(iter(evaluation.table[0].measures))
