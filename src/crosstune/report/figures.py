"""Figures as text, the same in the terminal and in the HTML report."""

from __future__ import annotations

import math

from crosstune.types import Comparison, Estimate

MISSING = "n/a"


def number(value: float) -> str:
    """Three decimals; "n/a" for a figure that does not exist."""
    return f"{value:.3f}" if math.isfinite(value) else MISSING


def signed(value: float) -> str:
    """Three decimals with the sign."""
    return f"{value:+.3f}" if math.isfinite(value) else MISSING


def interval(estimate: Estimate) -> str:
    """The 95% interval; "n/a" when there were too few groups for one."""
    if not math.isfinite(estimate.ci_low):
        return MISSING
    return f"{estimate.ci_low:.3f} to {estimate.ci_high:.3f}"


def signed_interval(estimate: Estimate) -> str:
    """The 95% interval of a difference."""
    if not math.isfinite(estimate.ci_low):
        return MISSING
    return f"{estimate.ci_low:+.3f} to {estimate.ci_high:+.3f}"


def p_value(value: float) -> str:
    """Three decimals, and never "0.000"."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def seconds(value: float) -> str:
    """A duration: "4.2 s", "3 min 05 s", "1 h 02 min"."""
    if value < 59.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(value / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def comparison_line(comparison: Comparison) -> str:
    """One comparison on one line of the terminal."""
    return (
        f"{comparison.candidate} vs {comparison.baseline}: {comparison.measure} "
        f"{signed(comparison.delta.mean)} (95% interval {signed_interval(comparison.delta)}), p "
        f"{p_value(comparison.p_holm)} (Holm), d {number(comparison.effect_size)}, "
        f"{comparison.wins} wins / {comparison.ties} ties / {comparison.losses} losses"
    )
