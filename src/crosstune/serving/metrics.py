"""Counts of a server, in Prometheus' text format. Only the event loop's thread touches them."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from itertools import accumulate

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_PREFIX = "crosstune"


class Metrics:
    """What has happened since the server started."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._buckets = [0] * (len(BUCKETS_S) + 1)
        self._seconds = 0.0
        self._pairs = 0

    def request(self, dialect: str, path: str, status: int, seconds: float) -> None:
        """Count a rerank request. Its time counts only if it was ranked: refusals are fast and say nothing."""
        self._requests[dialect, path, status] += 1
        if status == 200:
            self._buckets[bisect_left(BUCKETS_S, seconds)] += 1
            self._seconds += seconds

    def pairs(self, n: int) -> None:
        """Count documents that the model has scored."""
        self._pairs += n

    def exposition(self, n_waiting: int, is_ready: bool) -> str:
        """All metrics as text."""
        counts = list(accumulate(self._buckets))
        return "".join(
            [
                _head("requests_total", "counter", "Rerank requests by dialect, path and HTTP status."),
                *(
                    f'{_PREFIX}_requests_total{{dialect="{dialect}",path="{path}",status="{status}"}} {n}\n'
                    for (dialect, path, status), n in sorted(self._requests.items())
                ),
                _head("request_seconds", "histogram", "Time from arrival to answer of ranked requests, in seconds."),
                *(
                    f'{_PREFIX}_request_seconds_bucket{{le="{bound}"}} {n}\n'
                    for bound, n in zip((*BUCKETS_S, "+Inf"), counts, strict=True)
                ),
                f"{_PREFIX}_request_seconds_sum {self._seconds}\n{_PREFIX}_request_seconds_count {counts[-1]}\n",
                *_single("pairs_scored_total", "counter", "Documents scored for a query.", self._pairs),
                *_single("queue_depth", "gauge", "Requests that wait for the model.", n_waiting),
                *_single("ready", "gauge", "1 when /ready answers 200.", int(is_ready)),
            ]
        )


def _head(name: str, kind: str, help_text: str) -> str:
    return f"# HELP {_PREFIX}_{name} {help_text}\n# TYPE {_PREFIX}_{name} {kind}\n"


def _single(name: str, kind: str, help_text: str, value: int) -> tuple[str, str]:
    return _head(name, kind, help_text), f"{_PREFIX}_{name} {value}\n"
