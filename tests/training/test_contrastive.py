"""Bi-encoder tuning: the loss by hand, the gradients of a plain loop, and a run that learns, dies and goes on."""

import math
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch

from crosstune.bi_encoder import TextEncoder, load_bi_encoder, without_dropout
from crosstune.checkpoints import resolve
from crosstune.errors import ConfigError
from crosstune.lean import LeanVectors, lean_vectors
from crosstune.progress import silent
from crosstune.training import ContrastiveExample, TrainingSettings, train_bi_encoder
from crosstune.training.contrastive import ContrastiveBatches, contrastive_loss
from crosstune.training.engine import Engine


@pytest.fixture
def model(bare_bert):
    loaded = load_bi_encoder(resolve(str(bare_bert)), "cpu")
    without_dropout(loaded)
    return loaded


@pytest.fixture(scope="module")
def texts(corpus):
    """Questions, passages and examples: the first passage of the topic answers."""
    queries, passages = list(corpus.queries.values()), list(corpus.passages.values())
    place = {passage.passage_id: i for i, passage in enumerate(passages)}
    examples = []
    for i, query in enumerate(queries):
        relevant = {place[pid] for pid in corpus.relevant(query.query_id)}
        examples.append(ContrastiveExample(i, min(relevant), (min(relevant) + 4,), frozenset(relevant)))
    return [query.text for query in queries], [passage.text for passage in passages], examples


class TestLoss:
    def test_by_hand(self):
        # Unit vectors at right angles: cosine 1 for each question's own answer, 0 for the other.
        queries, passages = torch.eye(2) * 3.0, torch.eye(2)
        allowed = torch.ones(2, 2, dtype=torch.bool)
        expected = math.log(1 + math.exp(-20))  # in both directions
        assert float(contrastive_loss(queries, passages, torch.tensor([0, 1]), allowed)) == pytest.approx(
            expected, abs=1e-7
        )
        # The wrong way round: -log(1 / (1 + e^20)), which is 20 to eight digits.
        assert float(contrastive_loss(queries, passages, torch.tensor([1, 0]), allowed)) == pytest.approx(20, abs=1e-5)

    def test_what_is_not_allowed_does_not_count(self):
        random = torch.Generator().manual_seed(0)
        queries, passages = torch.randn(3, 4, generator=random), torch.randn(4, 4, generator=random)
        allowed = torch.ones(3, 4, dtype=torch.bool)
        allowed[:, 3] = False
        positives = torch.tensor([0, 1, 2])
        assert float(contrastive_loss(queries, passages, positives, allowed)) == pytest.approx(
            float(contrastive_loss(queries, passages[:3], positives, allowed[:, :3])), abs=1e-6
        )

    def test_two_questions_of_one_answer_are_not_each_others_rivals(self):
        # Without a rival both softmaxes have one member, and the loss is 0; as rivals they would give ln 2 / 2.
        queries, passages = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[1.0, 0.0]])
        allowed = torch.ones(2, 1, dtype=torch.bool)
        loss = float(contrastive_loss(queries, passages, torch.tensor([0, 0]), allowed))
        assert loss == pytest.approx(0, abs=1e-6)

    def test_questions_as_rivals_by_hand(self):
        # Each question has its answer alone to compare with, at cosine 1; the two questions have a cosine of 0.6.
        queries = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
        allowed, positives = torch.eye(2, dtype=torch.bool), torch.tensor([0, 1])
        assert float(contrastive_loss(queries, queries, positives, allowed)) == pytest.approx(0, abs=1e-6)
        rivals = ~torch.eye(2, dtype=torch.bool)
        # Question against answer and rival: ln(1 + e^(20 * 0.6 - 20)); answer against questions: nothing to tell.
        expected = math.log(1 + math.exp(-8)) / 2
        assert float(contrastive_loss(queries, queries, positives, allowed, rivals)) == pytest.approx(
            expected, rel=1e-4
        )
        none = torch.zeros(2, 2, dtype=torch.bool)
        assert float(contrastive_loss(queries, queries, positives, allowed, none)) == pytest.approx(0, abs=1e-6)


class TestVectors:
    @pytest.mark.parametrize("attention", ["eager", "sdpa"])
    def test_the_lean_pass_gives_the_librarys_vectors(self, model, texts, attention):
        model.eval()[0].auto_model.set_attn_implementation(attention)
        encoder, forward = TextEncoder(model), lean_vectors(model)
        assert isinstance(forward, LeanVectors)
        with torch.no_grad():
            found = forward(**encoder.pad(encoder.passages(texts[1]))).numpy()
        expected = model.encode_document(texts[1])
        assert np.abs(found - expected).max() < 1e-5

    def test_another_family_runs_its_own_pass(self, families, texts):
        model = load_bi_encoder(resolve(str(families["distilbert"])), "cpu").eval()
        encoder, forward = TextEncoder(model), lean_vectors(model)
        assert not isinstance(forward, LeanVectors)
        with torch.no_grad():
            found = forward(**encoder.pad(encoder.queries(texts[0]))).numpy()
        assert np.abs(found - model.encode_query(texts[0])).max() < 1e-5

    def test_long_texts_are_cut(self, model):
        encoder = TextEncoder(model, 10)
        (ids,) = encoder.passages(["refund " * 50])
        assert len(ids) == 10
        assert ids[-1] == model.tokenizer.sep_token_id

    def test_prompts_come_first(self, model):
        model.prompts = {"query": "reset ", "document": ""}
        encoder = TextEncoder(model)
        assert encoder.queries(["refund"])[0].tolist() == encoder.passages(["reset refund"])[0].tolist()


class TestGradients:
    def batches(self, model, texts, most_tokens, slice_tokens=64, protected=frozenset(), rivals=False):
        queries, passages, examples = texts
        encoder = TextEncoder(model)
        engine = Engine(model, "fp32", forward=lean_vectors(model))
        encoded = encoder.queries(queries), encoder.passages(passages)
        return engine, ContrastiveBatches(
            engine, encoder, *encoded, examples, protected, rivals, slice_tokens, most_tokens
        )

    def gradients(self, engine):
        return {n: p.grad.clone() for n, p in engine.parameters.items() if p.grad is not None}

    def test_they_are_those_of_a_plain_pass(self, model, texts):
        queries, passages, examples = texts
        chosen = [examples[0], examples[2], examples[4]]  # three topics, so nothing is another's other answer
        places = [place for e in chosen for place in (e.positive, *e.negatives)]
        encoder = TextEncoder(model)
        q = model(encoder.pad(encoder.queries([queries[e.query] for e in chosen])))["sentence_embedding"]
        p = model(encoder.pad(encoder.passages([passages[i] for i in places])))["sentence_embedding"]
        value = contrastive_loss(q, p, torch.tensor([0, 2, 4]), torch.ones(3, 6, dtype=torch.bool))
        value.backward()
        expected = {n: w.grad.clone() for n, w in model.named_parameters() if w.grad is not None}
        model.zero_grad()
        engine, batches = self.batches(model, texts, 10_000)
        assert batches.gradients([0, 2, 4]) == pytest.approx(float(value.detach()), abs=1e-5)
        for name, gradient in self.gradients(engine).items():
            torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=1e-5, msg=name)

    def test_computing_twice_gives_the_same(self, model, texts):
        engine, batches = self.batches(model, texts, 10_000)
        loss = batches.gradients([0, 1, 2, 3])
        expected = self.gradients(engine)
        engine.forget_gradients()
        _, spare = self.batches(model, texts, 0, slice_tokens=32)
        assert spare.gradients([0, 1, 2, 3]) == pytest.approx(loss, abs=1e-5)
        for name, gradient in self.gradients(spare._engine).items():
            torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=1e-5, msg=name)

    def test_who_is_whose_negative(self, model, texts):
        _, batches = self.batches(model, texts, 10_000, protected=frozenset({0, 7}))
        first, third = texts[2][0], texts[2][2]  # of "password" (places 0 to 4) and "invoice" (5 to 9)
        assert (first.positive, first.negatives) == (0, (4,))
        assert third.positive == 5
        places = [0, 1, 4, 5, 7, 9]
        found = batches._allowed([first, third], places, {place: i for i, place in enumerate(places)})
        # Of the first: its answer though protected; not another of its own; its mined negative; another's; protected.
        assert found[0].tolist() == [True, False, True, True, False, True]
        # Of the third: not the protected answer of a dev or test question, and not another answer of its own.
        assert found[1].tolist() == [False, True, True, True, False, True]

    def test_where_all_is_protected_only_questions_of_other_groups_teach(self, model, texts):
        queries, passages, examples = texts
        bare = [replace(e, negatives=(), group="one") for e in examples]
        everything = frozenset(range(len(passages)))
        for examples, rivals, teaches in (
            (bare, False, False),
            (bare, True, False),
            ([replace(e, group=str(e.query)) for e in bare], True, True),
        ):
            _, batches = self.batches(model, (queries, passages, examples), 10_000, 64, everything, rivals)
            loss = batches.gradients([0, 2, 4])
            assert (loss > 0.01) is teaches
            assert any(bool(g.abs().max() > 1e-6) for g in self.gradients(batches._engine).values()) is teaches

    def test_out_of_memory_keeps_no_graphs_then_halves_slices(self, model, texts, monkeypatch):
        _, batches = self.batches(model, texts, 10_000)
        expected = batches.gradients([0, 2])
        asked = []
        gradients = Engine.gradients

        def short_of_memory(self, slices, loss, twice=False):
            asked.append((twice, max(part["input_ids"].numel() for part in slices)))
            if not twice or asked[-1][1] > 40:
                raise RuntimeError("DefaultCPUAllocator: not enough memory")
            return gradients(self, slices, loss, twice)

        monkeypatch.setattr(Engine, "gradients", short_of_memory)
        batches._encoder.max_length = 16
        assert batches.gradients([0, 2]) == pytest.approx(expected, abs=1e-5)
        assert [twice for twice, _ in asked[:2]] == [False, True]
        assert asked[-1][1] <= 40

    def test_a_text_that_never_fits_is_said(self, model, texts, monkeypatch):
        def no_memory(self, slices, loss, twice=False):
            raise torch.OutOfMemoryError("CUDA out of memory")

        _, batches = self.batches(model, texts, 10_000)
        monkeypatch.setattr(Engine, "gradients", no_memory)
        with pytest.raises(ConfigError, match="does not fit into memory"):
            batches.gradients([0, 2])


class TestFixedPassages:
    """Vectors of passages in place of texts: questions alone are learnt, against all of them."""

    @pytest.fixture
    def vectors(self, model, texts):
        return model.encode_document(texts[1], normalize_embeddings=True)

    def batches(self, model, texts, vectors, protected=frozenset()):
        queries, _, examples = texts
        encoder, engine = TextEncoder(model), Engine(model, "fp32", forward=lean_vectors(model))
        return engine, ContrastiveBatches(
            engine, encoder, encoder.queries(queries), vectors, examples, protected, False, 64, 10_000
        )

    def test_gradients_are_those_of_a_plain_pass_against_every_passage(self, model, texts, vectors):
        queries, passages, examples = texts
        chosen = [examples[0], examples[4]]
        encoder = TextEncoder(model)
        q = model(encoder.pad(encoder.queries([queries[e.query] for e in chosen])))["sentence_embedding"]
        allowed = torch.ones(2, len(passages), dtype=torch.bool)
        for row, example in zip(allowed, chosen, strict=True):
            row[list(example.never)] = False
            row[[example.positive, *example.negatives]] = True
        allowed[:, 17] = False  # protected
        positives = torch.tensor([e.positive for e in chosen])
        value = contrastive_loss(q, torch.from_numpy(vectors), positives, allowed)
        value.backward()
        expected = {n: w.grad.clone() for n, w in model.named_parameters() if w.grad is not None}
        model.zero_grad()
        engine, batches = self.batches(model, texts, vectors, frozenset({17}))
        assert batches.gradients([0, 4]) == pytest.approx(float(value.detach()), abs=1e-5)
        found = {n: p.grad for n, p in engine.parameters.items() if p.grad is not None}
        for name, gradient in found.items():
            torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=1e-5, msg=name)

    def test_a_question_with_two_answers_is_read_once_and_counts_twice(self, model, texts, vectors):
        queries, passages, examples = texts
        first, other = examples[0], examples[2]
        second = replace(first, positive=1, negatives=())
        _, apart = self.batches(model, (queries, passages, [first, second, other]), vectors)
        assert apart.n_units == 2
        read = []
        gradients = apart._engine.gradients
        apart._engine.gradients = lambda slices, *rest, **named: (
            read.extend(len(part["input_ids"]) for part in slices) or gradients(slices, *rest, **named)
        )
        both = apart.gradients([0, 1])
        assert sum(read) == 2
        encoder = TextEncoder(model)
        with torch.no_grad():
            q = model(encoder.pad(encoder.queries([queries[e.query] for e in (first, second, other)])))
        places = list(range(len(passages)))
        allowed = apart._allowed([first, second, other], places, dict(zip(places, places, strict=True)))
        assert not allowed[0, 1] and allowed[1, 1]  # noqa: PT018 - the other answer is never a negative
        assert not allowed[1, 0] and allowed[0, 0]  # noqa: PT018
        expected = contrastive_loss(
            q["sentence_embedding"], torch.from_numpy(vectors), torch.tensor([0, 1, other.positive]),
            torch.from_numpy(allowed),
        )  # fmt: skip
        assert both == pytest.approx(float(expected), abs=1e-5)

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_questions_find_their_answers_among_vectors_that_stay(self, model, texts, vectors, tmp_path, precision):
        queries, _, examples = texts

        def ranks(found):
            scores = found.encode_query(queries) @ vectors.T
            return float(np.mean([(scores[e.query] > scores[e.query][e.positive]).sum() for e in examples]))

        before, kept = ranks(model), vectors.copy()
        settings = TrainingSettings(
            n_steps=30, batch_groups=4, learning_rate=3e-3, n_evaluations=0, keep="last", precision=precision
        )
        result = train_bi_encoder(
            model, TextEncoder(model), queries, vectors, examples, frozenset(), settings, tmp_path
        )
        assert ranks(load_bi_encoder(resolve(str(result.model_path)), "cpu")) < 0.5 * before
        assert np.array_equal(vectors, kept)


class TestTraining:
    def settings(self, **changes):
        return TrainingSettings(
            **{"n_steps": 30, "batch_groups": 4, "learning_rate": 3e-3, "n_evaluations": 0, "keep": "last"} | changes
        )

    def rank_of_answers(self, model, texts):
        queries, passages, examples = texts
        scores = model.encode_query(queries) @ model.encode_document(passages).T
        return float(np.mean([(scores[e.query] > scores[e.query][e.positive]).sum() for e in examples]))

    def run(self, model, texts, folder, progress=silent, **changes):
        return train_bi_encoder(
            model, TextEncoder(model), *texts, frozenset(), self.settings(**changes), folder, progress
        )

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_answers_rise(self, model, texts, tmp_path, precision):
        before = self.rank_of_answers(model, texts)
        result = self.run(model, texts, tmp_path, precision=precision)
        assert result.stopped == "finished"
        assert np.mean(result.losses[-5:]) < 0.5 * np.mean(result.losses[:5])
        tuned = load_bi_encoder(resolve(str(result.model_path)), "cpu")
        assert self.rank_of_answers(tuned, texts) < 0.5 * before

    def test_killed_and_continued_ends_in_the_same_weights(self, bare_bert, texts, tmp_path):
        def fresh():
            loaded = load_bi_encoder(resolve(str(bare_bert)), "cpu")
            without_dropout(loaded)
            return loaded

        whole = self.run(fresh(), texts, tmp_path / "whole")

        class Killed(Exception):
            pass

        @contextmanager
        def dies(label, total):
            steps = []

            def advance(n):
                steps.append(n)
                if sum(steps) == 20:
                    raise Killed

            yield advance

        with pytest.raises(Killed):
            self.run(fresh(), texts, tmp_path / "killed", dies, checkpoint_every_s=0.0)
        again = self.run(fresh(), texts, tmp_path / "killed")
        assert again.resumed_from == 20
        first, second = (load_bi_encoder(resolve(str(r.model_path)), "cpu").state_dict() for r in (whole, again))
        for name, tensor in first.items():
            torch.testing.assert_close(second[name], tensor, rtol=0, atol=1e-6, msg=name)

    def test_asked_for_evaluations_it_says_that_there_are_none(self, model, texts, tmp_path):
        with pytest.raises(ConfigError, match="set n_evaluations to 0"):
            self.run(model, texts, tmp_path, n_evaluations=2)

    def test_one_example_has_nothing_to_compare_with(self, model, texts, tmp_path):
        queries, passages, examples = texts
        with pytest.raises(ConfigError, match="at least 2"):
            self.run(model, (queries, passages, examples[:1]), tmp_path)


def test_the_prompt_that_a_models_files_do_not_tell(bare_bert, tmp_path):
    import shutil

    folder = tmp_path / "bge-small-en-v1.5"
    shutil.copytree(bare_bert, folder)
    model = load_bi_encoder(resolve(str(folder)), "cpu")
    assert model.prompts["query"] == "Represent this sentence for searching relevant passages: "
    assert not load_bi_encoder(resolve(str(bare_bert)), "cpu").prompts.get("query")
