"""Better, worse or not proven, and the same in plain words."""

from __future__ import annotations

from collections.abc import Sequence

from crosstune.errors import ConfigError
from crosstune.evaluation.measures import HEADLINE
from crosstune.evaluation.statistics import MIN_GROUPS, detectable_gain
from crosstune.types import Comparison, EvalReport, TableRow, Verdict


def best_row(report: EvalReport, names: Sequence[str]) -> str:
    """Of the named rows the one with the highest headline mean; the first named of equals.

    Raises:
        ConfigError: There are no names, or one is not in the table.
    """
    if not names:
        raise ConfigError("no rows to choose the best of; name at least one first stage")
    return max(names, key=lambda name: _row(report, name).measures[HEADLINE].mean)


def verdict(report: EvalReport, shipped: str, baselines: Sequence[str]) -> Verdict:
    """What the test set says of the ranking that would be shipped.

    Better when the 95% interval of the paired nDCG@10 difference lies above 0 against every baseline; worse
    when it lies below 0 against any; otherwise not proven, which includes test sets too small for an
    interval.

    Args:
        report: Holds a comparison (baseline, shipped) for every baseline.
        shipped: Row name of the ranking that would be shipped.
        baselines: Rows it has to beat: the best first stage (`best_row`), and the base reranker if there is
            one.

    Raises:
        ConfigError: There are no baselines, or a comparison is missing.
    """
    deltas = [comparison.delta for comparison in _against(report, shipped, baselines)]
    if any(delta.ci_high < 0 for delta in deltas):
        return Verdict.WORSE
    if all(delta.ci_low > 0 for delta in deltas):
        return Verdict.BETTER
    return Verdict.NOT_PROVEN


def verdict_sentence(report: EvalReport, shipped: str, baselines: Sequence[str]) -> str:
    """The verdict with its figures, for a reader who knows no statistics.

    Raises:
        ConfigError: As `verdict`.
    """
    comparisons = _against(report, shipped, baselines)
    result = verdict(report, shipped, baselines)
    figure = _row(report, shipped).measures[HEADLINE]
    parts = " and ".join(_difference(comparison) for comparison in comparisons)
    return (
        f"On {_questions(figure.n)} {shipped} reaches {HEADLINE} {figure.mean:.3f}, {parts}. "
        f"{_resolution(comparisons)} {_CONCLUSION[result]}"
    )


_CONCLUSION = {
    Verdict.BETTER: "This is better.",
    Verdict.NOT_PROVEN: "This is not proven to be better; more questions or a better base may decide it.",
    Verdict.WORSE: "This is worse: do not ship it.",
}


def _difference(comparison: Comparison) -> str:
    delta = comparison.delta
    counts = (
        f"wins {comparison.wins}, ties {comparison.ties}, losses {comparison.losses}, "
        f"corrected p {_p(comparison.p_holm)}"
    )
    if comparison.wins == comparison.losses == 0:
        return f"the same as {comparison.baseline} on every question"
    place = "above" if delta.mean >= 0 else "below"
    interval = f"95% interval {delta.ci_low:+.3f} to {delta.ci_high:+.3f}; " if delta.ci_low == delta.ci_low else ""
    return f"{abs(delta.mean):.3f} {place} {comparison.baseline} ({interval}{counts})"


def _resolution(comparisons: Sequence[Comparison]) -> str:
    gains = [detectable_gain(comparison.delta) for comparison in comparisons]
    if any(gain != gain for gain in gains):
        return f"With fewer than {MIN_GROUPS} independent groups of questions nothing can be proven."
    if max(gains) == 0:
        return "The difference is the same on every question, so nothing can be said of smaller ones."
    return f"The smallest true gain a test set like this shows in 4 of 5 cases is {max(gains):.3f}."


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _questions(n: int) -> str:
    return "1 test question" if n == 1 else f"{n:,} test questions"


def _row(report: EvalReport, name: str) -> TableRow:
    for row in report.table:
        if row.name == name:
            return row
    raise ConfigError(f'row "{name}" is not in the table, which has: {", ".join(r.name for r in report.table)}')


def _against(report: EvalReport, shipped: str, baselines: Sequence[str]) -> list[Comparison]:
    if not baselines:
        raise ConfigError("a verdict needs at least one baseline to compare with; name the best first stage")
    found = {(c.baseline, c.candidate): c for c in report.comparisons if c.measure == HEADLINE}
    for baseline in baselines:
        if (baseline, shipped) not in found:
            raise ConfigError(f'"{shipped}" was not compared with "{baseline}"; add that pair to the comparisons')
    return [found[baseline, shipped] for baseline in baselines]
