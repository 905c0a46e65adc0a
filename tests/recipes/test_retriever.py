"""What tuning the first stage costs."""

from types import SimpleNamespace

import pytest

from crosstune.bi_encoder import TextEncoder, load_bi_encoder
from crosstune.checkpoints import resolve
from crosstune.data import near_duplicate_passages
from crosstune.errors import ConfigError
from crosstune.recipes import retriever
from crosstune.recipes.prepare import Stopwatch
from crosstune.recipes.retriever import FirstStageTuner
from crosstune.recipes.settings import TuneSettings
from crosstune.training import Throughput
from crosstune.types import Splits


@pytest.fixture
def tuner(corpus, bare_bert, monkeypatch):
    measured = []
    monkeypatch.setattr(
        retriever, "measure_training", lambda *args: measured.append(1) or [Throughput("fp32", "eager", 1000.0, 0.0)]
    )
    known = {"embedding_s": 10.0}
    folder = SimpleNamespace(recall=known.get, remember=lambda **values: known.update(values), known=known)
    prepared = SimpleNamespace(
        collection=corpus,
        splits=Splits(tuple(corpus.queries), (), (), {q: q for q in corpus.queries}, 0),
        embedder=resolve(str(bare_bert)),
        near_duplicates=lambda: near_duplicate_passages(corpus),
        stopwatch=Stopwatch(),
    )
    found = FirstStageTuner(prepared, TuneSettings(), folder)
    again = FirstStageTuner(prepared, TuneSettings(), folder)
    assert measured == [1]  # a continued run measures nothing anew
    assert again.seconds(1) == found.seconds(1)
    return found


def test_an_epoch_costs_its_tokens(tuner, corpus, bare_bert):
    encoder = TextEncoder(load_bi_encoder(resolve(str(bare_bert)), "cpu"))
    pairs = [
        (q.text, corpus.passages[p].full_text) for q in corpus.queries.values() for p in corpus.relevant(q.query_id)
    ]
    assert len(pairs) <= 32  # one step is an epoch
    tokens = sum(len(ids) for q, p in pairs for ids in (*encoder.queries([q]), *encoder.passages([p])))
    # 850 of the 1,000 tokens a second are counted on.
    assert tuner.seconds(1) == pytest.approx(tokens / 850)
    assert tuner.seconds(2) == pytest.approx(2 * tokens / 850)


def test_questions_alone_cost_their_own_tokens(tuner, corpus, bare_bert):
    encoder = TextEncoder(load_bi_encoder(resolve(str(bare_bert)), "cpu"))
    tokens = sum(len(ids) for ids in encoder.queries([q.text for q in corpus.queries.values()]))
    # All questions are one batch: four epochs where there is time for them.
    assert tuner.questions_s(1e6) == pytest.approx(4 * tokens / 850)


def test_questions_have_a_share_beside_both_sides_and_else_all_the_time(tuner, monkeypatch):
    class Asked(Exception):
        pass

    def plan(budget_s):
        raise Asked(budget_s)

    monkeypatch.setattr(tuner, "_plan_questions", plan)
    for whole, seconds in ((True, 15.0), (False, 100.0)):
        with pytest.raises(Asked) as asked:
            tuner.tune(100.0, whole, None, None)
        assert asked.value.args == (pytest.approx(seconds),)


def test_an_index_that_must_stay_has_questions_tuned_alone(tuner):
    assert tuner.whole
    kept = FirstStageTuner(tuner._prepared, TuneSettings(keep_index=True), tuner._folder)
    assert not kept.whole
    with pytest.raises(ConfigError, match="leaves every index as it is"):
        TuneSettings(keep_index=True, stages="reranker")


def test_the_corpus_is_embedded_afterwards(tuner):
    assert tuner.after_s == 10.0  # there are no dev questions whose candidates would be embedded before
