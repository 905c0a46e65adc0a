"""The state of a user's data before any training: what is wrong with it, and whether it is enough."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from crosstune.checkpoints import STARTER, load_tokenizer
from crosstune.data import (
    MAX_UNKNOWN_SHARE,
    MIN_GROUPS,
    Audit,
    Finding,
    LoadSettings,
    SplitSettings,
    audit,
    unknown_token_share,
)
from crosstune.errors import MissingExtraError
from crosstune.evaluation import smallest_detectable_gain
from crosstune.progress import Progress, silent

Recommendation: TypeAlias = Literal["enough", "small", "too few"]

# What we call enough: a test set of about 200 groups, which shows a gain of 0.06 nDCG@10.
ENOUGH_GAIN = 0.06
MIN_TEST_GROUPS = 10

MULTILINGUAL_BASES = ("BAAI/bge-reranker-v2-m3", "cross-encoder/mmarco-mMiniLMv2-L12-H384-v1")


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What `check` found.

    Attributes:
        audit: The state of the rows.
        base: Base model whose tokenizer was tried.
        unknown_token_share: Share of unknown tokens under it; None when the tokenizer is not installed.
        expected_test: Questions that the test set will have.
        expected_test_groups: Independent groups among them, on average.
        smallest_gain: Smallest true gain in nDCG@10 that such a test shows with 80% power at 5%.
        recommendation: Whether the data is enough.
        advice: Sentences for a person, what to see to first coming first.
    """

    audit: Audit
    base: str
    unknown_token_share: float | None
    expected_test: int
    expected_test_groups: int
    smallest_gain: float | None
    recommendation: Recommendation
    advice: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Everything but the sampled texts, ready for JSON."""
        fields = asdict(self)
        del fields["audit"]["sample_questions"], fields["audit"]["sample_answers"]
        return fields


def check(
    path: str | Path,
    settings: LoadSettings | None = None,
    base: str = STARTER,
    progress: Progress = silent,
    sink: Callable[[Finding], None] | None = None,
    split_settings: SplitSettings | None = None,
) -> CheckResult:
    """Audit a file of any size and say whether it is enough to tune on and to prove a gain.

    Args:
        path: CSV, TSV, JSONL, Parquet, or a BEIR folder.
        base: Base model that is to be tuned: "starter", "embedded", a local folder, or a hub id.
        sink: Called with every finding, also those that the audit has no room for.

    Raises:
        DataError: The file cannot be read.
        CheckpointError: The base cannot be found.
    """
    report = audit(path, settings, progress, sink)
    share, problem = unknown_share(report, base)
    n_test, n_test_groups = _expected_test(report, split_settings or SplitSettings())
    gain = smallest_detectable_gain(n_test_groups) if n_test_groups else None
    recommendation = _recommend(report, n_test_groups, gain)
    advice = [_on_size(report, recommendation, n_test, n_test_groups, gain)]
    advice += [problem] if problem else []
    advice += language_advice(share, base) + _on_rows(report) + _on_groups(report)
    return CheckResult(report, base, share, n_test, n_test_groups, gain, recommendation, tuple(advice))


def unknown_share(report: Audit, base: str) -> tuple[float | None, str | None]:
    """The share, or None and why it could not be measured."""
    try:
        tokenizer = load_tokenizer(base)
    except MissingExtraError as error:
        return None, f"Whether the base model reads this language was not measured: {error}."
    return unknown_token_share((*report.sample_questions, *report.sample_answers), tokenizer), None


def _expected_test(report: Audit, settings: SplitSettings) -> tuple[int, int]:
    """Questions and groups in the test set that `split` would cut, or that the user gave."""
    n_queries = report.n_queries_with_relevant
    # Nothing is judged by a synthetic question.
    n_real = round(n_queries * (1 - report.rows_synthetic / max(1, report.rows_used + report.rows_merged)))
    if not n_real:
        return 0, 0
    n_test = report.user_split.get("test", 0) or settings.target_sizes(n_real)[1]
    return n_test, max(round(n_test * report.n_groups / n_queries), 1)


def _recommend(report: Audit, n_test_groups: int, gain: float | None) -> Recommendation:
    if gain is None or report.n_groups < MIN_GROUPS or n_test_groups < MIN_TEST_GROUPS:
        return "too few"
    return "enough" if gain <= ENOUGH_GAIN else "small"


def _on_size(report: Audit, recommendation: Recommendation, n_test: int, n_test_groups: int, gain: float | None) -> str:
    if gain is None:
        return "Too few: there is no question of a person's with an answer in the file."
    test = f"a test set of {n_test:,} questions in {n_test_groups:,} independent groups"
    shows = f"{test} shows a gain of {gain:.3f} nDCG@10 or more"
    if recommendation == "enough":
        return f"Enough: {shows}."
    if recommendation == "small":
        return f'Small, but worth a try: {shows}; smaller gains will end as "not proven".'
    wanted = 5 * MIN_TEST_GROUPS
    return (
        f"Too few: {report.n_groups:,} independent groups of questions give {test}, which proves next to "
        f"nothing; collect at least {wanted} groups, better 1,000."
    )


def language_advice(share: float | None, base: str) -> list[str]:
    if share is None or share <= MAX_UNKNOWN_SHARE:
        return []
    names = " or ".join(MULTILINGUAL_BASES)
    return [
        f"The base model {base!r} cannot read {share:.0%} of the tokens in these texts; pass a multilingual "
        f"one with --base, for example {names}."
    ]


def _on_rows(report: Audit) -> list[str]:
    """Advice on kinds of finding, the most harmful first."""
    n = report.counts.get
    advice = []
    if n("question-in-two-splits"):
        advice.append("Questions are in two of your splits; put all rows of a question in one, or tune will stop.")
    if report.rows_synthetic:
        advice.append(
            f"{report.rows_synthetic:,} rows are synthetic: they are trained on, and the test is cut from the others."
        )
    if n("lost-characters"):
        advice.append(f"{n('lost-characters'):,} texts lost characters (U+FFFD); export the file again as UTF-8.")
    if report.rows_dropped > 0.05 * report.rows_read:
        advice.append(f"{report.rows_dropped:,} of {report.rows_read:,} rows are dropped; fill or remove them.")
    if n("conflicting-label"):
        advice.append(f"{n('conflicting-label'):,} pairs are labelled both ways; decide which label is right.")
    if n("very-long-answer"):
        advice.append(
            f"{n('very-long-answer'):,} answers are longer than most rerankers read; split them where they "
            "change the subject."
        )
    return advice


def _on_groups(report: Audit) -> list[str]:
    if report.n_groups < MIN_GROUPS or report.largest_group <= 0.2 * report.n_queries_with_relevant:
        return []
    return [
        f"One group holds {report.largest_group:,} of {report.n_queries_with_relevant:,} questions, joined "
        "by common answers or nearly equal wording, and can only be trained on; look for an answer used too "
        "widely."
    ]
