from crosstune.serving.metrics import Metrics


def values(text):
    return dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))


def test_counted_by_hand():
    metrics = Metrics()
    for seconds in (0.005, 0.02, 0.3, 100.0):
        metrics.request("cohere", "/v1/rerank", 200, seconds)
    metrics.request("tei", "/rerank", 200, 0.3)
    metrics.request("unknown", "/rerank", 400, 0.001)
    metrics.pairs(50)
    metrics.pairs(7)
    found = values(metrics.exposition(n_waiting=3, is_ready=True))
    assert found['crosstune_requests_total{dialect="cohere",path="/v1/rerank",status="200"}'] == "4"
    assert found['crosstune_requests_total{dialect="tei",path="/rerank",status="200"}'] == "1"
    assert found['crosstune_requests_total{dialect="unknown",path="/rerank",status="400"}'] == "1"
    # Cumulative, a bound is inside, and the refusal has no part.
    assert [found[f'crosstune_request_seconds_bucket{{le="{bound}"}}'] for bound in ("0.005", "0.01", "0.025")] == [
        "1",
        "1",
        "2",
    ]
    assert found['crosstune_request_seconds_bucket{le="0.5"}'] == "4"
    assert found['crosstune_request_seconds_bucket{le="60.0"}'] == "4"
    assert found['crosstune_request_seconds_bucket{le="+Inf"}'] == found["crosstune_request_seconds_count"] == "5"
    assert float(found["crosstune_request_seconds_sum"]) == 100.625
    assert (found["crosstune_pairs_scored_total"], found["crosstune_queue_depth"]) == ("57", "3")
    assert found["crosstune_ready"] == "1"


def test_before_anything_happened():
    text = Metrics().exposition(0, False)
    found = values(text)
    assert (found["crosstune_request_seconds_count"], found["crosstune_ready"]) == ("0", "0")
    assert not any(name.startswith("crosstune_requests_total") for name in found)
    # Every metric is explained and typed once, and the text ends with a line's end, as the format wants.
    for name in ("requests_total", "request_seconds", "pairs_scored_total", "queue_depth", "ready"):
        assert text.count(f"# HELP crosstune_{name} ") == text.count(f"# TYPE crosstune_{name} ") == 1
    assert text.endswith("\n")
