import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from crosstune.errors import ConfigError
from crosstune.pair_encoding import PairEncoder
from crosstune.scoring import TorchScorer
from crosstune.training import TrainingSettings, load_trained, make_loss, train

FAST = TrainingSettings(n_steps=6, batch_groups=4, learning_rate=1e-3, n_evaluations=3, patience=9)


class KilledError(Exception):
    """Stands for kill -9: nothing after it runs."""


class Setup:
    """A model, its groups and a dev check; every call to `train` starts from the same weights."""

    def __init__(self, load, folder, make_groups, **options):
        self.load = lambda: load(folder, dropout=0.0, **options)
        self.encoder = PairEncoder(self.load().tokenizer, 48)
        self.groups = make_groups(self.encoder)
        self.model = None

    def dev_score(self, model):
        """Share of the groups whose positive comes first."""
        scorer = TorchScorer(model, self.encoder.tokenizer, 48)
        first = [scorer.score_encoded(group.pairs).argmax() == 0 for group in self.groups]
        return float(np.mean(first))

    def train(self, folder, settings=FAST, validate=None, loss="lce", **options):
        self.model = self.load().model
        return train(
            self.model,
            self.encoder,
            self.groups,
            make_loss(loss),
            validate or self.dev_score,
            settings,
            folder,
            **options,
        )


@pytest.fixture
def bert_setup(load, bert, make_groups):
    return Setup(load, bert, make_groups)


def weights_of(path):
    return load_trained(path).state_dict()


def assert_same_weights(one, other, atol=0.0):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], rtol=0, atol=atol)


def scripted(*scores):
    """A dev check that gives these scores one after the other."""
    left = list(scores)
    return lambda model: left.pop(0)


def kept_folders(folder):
    return sorted(path.name for path in folder.glob("best*") if path.is_dir())


class TestLearning:
    def test_it_learns_which_passage_answers(self, bert_setup, tmp_path):
        settings = replace(FAST, n_steps=60, n_evaluations=4)
        before = bert_setup.dev_score(bert_setup.load().model)
        result = bert_setup.train(tmp_path, settings)
        scores = dict(result.dev_scores)
        assert before < 0.6  # 4 candidates: chance is 0.25
        assert max(scores.values()) > 0.95
        assert np.mean(result.losses[-8:]) < 0.4 * np.mean(result.losses[:8])
        assert list(scores) == [15, 30, 45, 60]
        assert (result.n_steps, result.stopped, result.resumed_from, len(result.losses)) == (
            60,
            "finished",
            0,
            60,
        )
        assert bert_setup.dev_score(load_trained(result.model_path)) == scores[result.kept_step]

    @pytest.mark.parametrize("loss", ["lce", "bce"])
    @pytest.mark.parametrize("family", ["bert", "xlm-roberta", "modernbert", "distilbert"])
    def test_every_family_trains(self, load, families, make_groups, tmp_path, family, loss):
        setup = Setup(load, families[family], make_groups)
        settings = replace(FAST, n_steps=3, n_evaluations=1, keep="last")
        result = setup.train(tmp_path, settings, loss=loss)
        start = setup.load().model.state_dict()
        moved = [name for name, tensor in weights_of(result.model_path).items() if not torch.equal(tensor, start[name])]
        assert any("classifier" in name for name in moved)
        assert any("embeddings" in name for name in moved)
        assert np.isfinite(result.losses).all()

    def test_a_bare_encoder_trains(self, load, bare_bert, make_groups, tmp_path):
        result = Setup(load, bare_bert, make_groups, seed=3).train(tmp_path)
        assert load_trained(result.model_path).config.num_labels == 1

    def test_bf16_keeps_float32_weights(self, bert_setup, tmp_path):
        result = bert_setup.train(tmp_path, replace(FAST, n_steps=2, precision="bf16", attention="eager"))
        assert {tensor.dtype for tensor in weights_of(result.model_path).values()} == {torch.float32}
        assert np.isfinite(result.losses).all()

    def test_the_first_loss_is_the_models_own(self, bert_setup, tmp_path):
        result = bert_setup.train(tmp_path, replace(FAST, n_steps=1, batch_groups=24, n_evaluations=1))
        scorer = TorchScorer(bert_setup.load().model, bert_setup.encoder.tokenizer, 48)
        logits = np.array([scorer.score_encoded(group.pairs) for group in bert_setup.groups])
        # All 24 groups in one batch: the mean of -log softmax of the first candidate.
        expected = np.mean(np.log(np.exp(logits).sum(1)) - logits[:, 0])
        assert result.losses[0] == pytest.approx(expected, abs=1e-5)

    def test_the_same_seed_gives_the_same_weights(self, bert_setup, tmp_path):
        paths = [bert_setup.train(tmp_path / name).model_path for name in "ab"]
        assert_same_weights(weights_of(paths[0]), weights_of(paths[1]))
        other = bert_setup.train(tmp_path / "c", replace(FAST, seed=1))
        assert other.losses != bert_setup.train(tmp_path / "d").losses

    def test_nothing_is_printed(self, bert_setup, tmp_path, capfd, recwarn):
        bert_setup.train(tmp_path / "a")
        bert_setup.train(tmp_path / "b", replace(FAST, keep="last"))
        assert capfd.readouterr() == ("", "")
        assert not recwarn.list

    def test_progress_counts_every_step(self, bert_setup, tmp_path):
        from contextlib import contextmanager

        seen = []

        @contextmanager
        def progress(label, total):
            seen.append((label, total))
            yield seen.append

        bert_setup.train(tmp_path, progress=progress)
        assert seen[0] == ("Training", 6)
        assert sum(seen[1:]) == 6

    def test_nothing_to_train_on(self, bert_setup, tmp_path):
        bert_setup.groups = []
        with pytest.raises(ConfigError, match="nothing to train on"):
            bert_setup.train(tmp_path)


class TestWhatIsKept:
    def test_the_best_and_not_the_last(self, bert_setup, tmp_path):
        copies = {}

        def validate(model):
            step = 2 * (len(copies) + 1)
            copies[step] = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            return {2: 0.3, 4: 0.8, 6: 0.5}[step]

        told = []
        result = bert_setup.train(tmp_path, validate=validate, on_evaluation=lambda *seen: told.append(seen))
        assert result.kept_step == 4
        assert result.dev_scores == ((2, 0.3), (4, 0.8), (6, 0.5)) == tuple(told)
        assert_same_weights(weights_of(result.model_path), copies[4])
        assert not torch.equal(copies[4]["classifier.weight"], copies[6]["classifier.weight"])
        assert kept_folders(tmp_path) == ["best-4"]

    def test_superseded_weights_go_once_a_checkpoint_knows_of_better_ones(self, bert_setup, tmp_path):
        seen = []
        bert_setup.train(
            tmp_path, validate=scripted(0.1, 0.2, 0.3), on_evaluation=lambda *_: seen.append(kept_folders(tmp_path))
        )
        assert seen == [["best-2"], ["best-2", "best-4"], ["best-4", "best-6"]]

    def test_of_equal_scores_the_earliest(self, bert_setup, tmp_path):
        assert bert_setup.train(tmp_path, validate=scripted(0.5, 0.7, 0.7)).kept_step == 4

    def test_a_score_that_is_not_a_number_is_never_the_best(self, bert_setup, tmp_path):
        assert bert_setup.train(tmp_path, validate=scripted(float("nan"), 0.1, float("nan"))).kept_step == 4

    def test_the_last_when_asked_for(self, bert_setup, tmp_path):
        result = bert_setup.train(tmp_path, replace(FAST, keep="last", patience=1), scripted(0.9, 0.5, 0.4))
        assert (result.kept_step, result.n_steps, result.stopped) == (6, 6, "finished")
        assert_same_weights(weights_of(result.model_path), bert_setup.model.state_dict())
        assert kept_folders(tmp_path) == ["best-6"]

    def test_early_stopping(self, bert_setup, tmp_path):
        settings = replace(FAST, n_steps=12, n_evaluations=6, patience=2)
        result = bert_setup.train(tmp_path, settings, scripted(0.4, 0.6, 0.6, 0.5, 0.9, 0.9))
        # Best at step 4; steps 6 and 8 bring nothing better.
        assert (result.n_steps, result.stopped, result.kept_step) == (8, "no better dev score", 4)

    def test_a_rise_resets_the_patience(self, bert_setup, tmp_path):
        settings = replace(FAST, n_steps=12, n_evaluations=6, patience=2)
        result = bert_setup.train(tmp_path, settings, scripted(0.4, 0.3, 0.5, 0.4, 0.6, 0.5))
        assert (result.n_steps, result.stopped, result.kept_step) == (12, "finished", 10)


class TestStops:
    def test_weights_that_are_not_numbers(self, bert_setup, tmp_path):
        load = bert_setup.load

        def spoilt():
            loaded = load()
            loaded.model.classifier.weight.data[0, 0] = float("nan")
            return loaded

        bert_setup.load = spoilt
        result = bert_setup.train(tmp_path, validate=lambda model: 0.0)
        assert (result.stopped, result.n_steps) == ("nan", 1)
        assert np.isnan(result.losses).tolist() == [True]

    def test_a_loss_that_explodes_keeps_the_weights_before(self, bert_setup, tmp_path):
        def spoil_after_four(model):
            if len(seen) == 1:
                model.classifier.weight.data.fill_(float("inf"))
            seen.append(0.5)
            return 0.5

        seen = []
        result = bert_setup.train(tmp_path, validate=spoil_after_four)
        assert (result.stopped, result.n_steps, result.kept_step) == ("nan", 5, 2)
        assert not np.isfinite(result.losses[-1])
        assert all(torch.isfinite(tensor).all() for tensor in weights_of(result.model_path).values())

    def test_the_deadline(self, bert_setup, tmp_path):
        settings = replace(FAST, n_steps=50, n_evaluations=1, deadline_s=0.0)
        result = bert_setup.train(tmp_path, settings)
        assert (result.stopped, result.n_steps, result.kept_step) == ("deadline", 1, 1)
        assert [step for step, _ in result.dev_scores] == [1]  # what is kept has been judged

    def test_no_deadline(self, bert_setup, tmp_path):
        assert bert_setup.train(tmp_path, replace(FAST, deadline_s=1e6)).stopped == "finished"


class TestResume:
    @pytest.fixture
    def whole(self, bert_setup, tmp_path):
        return bert_setup.train(tmp_path / "whole")

    def killed_at(self, bert_setup, folder, step, settings=FAST):
        """Kill a run just after the evaluation at `step` and before its checkpoint."""

        def kill(at, score):
            if at == step:
                raise KilledError

        with pytest.raises(KilledError):
            bert_setup.train(folder, settings, on_evaluation=kill)

    @pytest.mark.parametrize("step", [2, 4, 6])
    @pytest.mark.parametrize("keep", ["best", "last"])
    def test_a_killed_run_ends_like_one_that_was_not(self, bert_setup, tmp_path, step, keep):
        settings = replace(FAST, keep=keep)
        whole = bert_setup.train(tmp_path / "whole", settings)
        folder = tmp_path / "run"
        self.killed_at(bert_setup, folder, step, settings)
        result = bert_setup.train(folder, settings)
        assert result.resumed_from == step - 2  # the last checkpoint, made after the evaluation before
        assert result.losses == pytest.approx(whole.losses, abs=1e-6)
        assert result.dev_scores == whole.dev_scores
        assert (result.kept_step, result.n_steps, result.stopped) == (whole.kept_step, 6, "finished")
        assert_same_weights(weights_of(result.model_path), weights_of(whole.model_path), atol=1e-6)

    def test_dropout_and_a_second_epoch_continue_alike_too(self, load, bert, make_groups, tmp_path):
        setup = Setup(load, bert, make_groups)
        setup.load = lambda: load(bert, dropout=0.2)
        settings = replace(FAST, n_steps=14, n_evaluations=7, keep="last")  # 6 batches an epoch
        whole = setup.train(tmp_path / "whole", settings)
        self.killed_at(setup, tmp_path / "run", 10, settings)
        result = setup.train(tmp_path / "run", settings)
        assert result.resumed_from == 8
        assert result.losses == pytest.approx(whole.losses, abs=1e-6)
        assert_same_weights(weights_of(result.model_path), weights_of(whole.model_path), atol=1e-6)

    def test_killed_twice(self, bert_setup, tmp_path, whole):
        for step in (4, 6):
            self.killed_at(bert_setup, tmp_path / "run", step)
        result = bert_setup.train(tmp_path / "run")
        assert result.resumed_from == 4
        assert_same_weights(weights_of(result.model_path), weights_of(whole.model_path), atol=1e-6)

    def test_a_half_written_checkpoint_is_ignored(self, bert_setup, tmp_path, whole):
        folder = tmp_path / "run"
        self.killed_at(bert_setup, folder, 6)
        assert [path.name for path in folder.glob("checkpoint-*")].count("checkpoint-4") == 1
        half = folder / "checkpoint-5"
        shutil.copytree(folder / "checkpoint-4", half)
        (half / "complete.json").unlink()
        (half / "optimizer.pt").write_bytes(b"half")
        result = bert_setup.train(folder)
        assert result.resumed_from == 4
        assert_same_weights(weights_of(result.model_path), weights_of(whole.model_path), atol=1e-6)

    def test_only_a_half_written_checkpoint_starts_anew(self, bert_setup, tmp_path, whole):
        folder = tmp_path / "run"
        self.killed_at(bert_setup, folder, 2)
        (folder / "checkpoint-1").mkdir()
        (folder / "checkpoint-1" / "trainer_state.json").write_text("{")
        result = bert_setup.train(folder)
        assert (result.resumed_from, result.dev_scores) == (0, whole.dev_scores)
        assert_same_weights(weights_of(result.model_path), weights_of(whole.model_path))

    def test_a_kill_before_the_checkpoint_does_not_lose_the_best_weights(self, bert_setup, tmp_path):
        # Step 4 is better than step 2 and is kept, and the kill comes before checkpoint 4. The second
        # process, from step 2, finds step 4 worse this time: step 2 must still be there.
        folder = tmp_path / "run"
        scores = iter([0.5, 0.9])

        def kill(step, score):
            if step == 4:
                raise KilledError

        with pytest.raises(KilledError):
            bert_setup.train(folder, validate=lambda model: next(scores), on_evaluation=kill)
        assert kept_folders(folder) == ["best-2", "best-4"]
        result = bert_setup.train(folder, validate=scripted(0.4, 0.3))
        assert result.resumed_from == 2
        assert result.dev_scores == ((2, 0.5), (4, 0.4), (6, 0.3))
        assert result.kept_step == 2
        assert kept_folders(folder) == ["best-2"]
        reached = bert_setup.train(tmp_path / "two", replace(FAST, keep="best"), scripted(0.5, 0.4, 0.3))
        assert_same_weights(weights_of(result.model_path), weights_of(reached.model_path), atol=1e-6)

    @pytest.mark.parametrize("keep", ["best", "last"])
    def test_a_finished_run_is_not_trained_on(self, bert_setup, tmp_path, keep):
        settings = replace(FAST, keep=keep)
        first = bert_setup.train(tmp_path, settings)
        again = bert_setup.train(tmp_path, settings, validate=scripted())
        assert (again.resumed_from, again.n_steps, again.stopped) == (6, 6, "finished")
        assert again.losses == first.losses
        assert (again.dev_scores, again.kept_step) == (first.dev_scores, first.kept_step)
        assert_same_weights(weights_of(again.model_path), weights_of(first.model_path))

    def test_a_run_that_stopped_early_is_not_trained_on(self, bert_setup, tmp_path):
        settings = replace(FAST, patience=1)
        first = bert_setup.train(tmp_path, settings, scripted(0.5, 0.4))
        again = bert_setup.train(tmp_path, settings, scripted())
        assert (first.n_steps, first.stopped) == (4, "no better dev score") == (again.n_steps, again.stopped)
        assert again.kept_step == 2

    @pytest.mark.parametrize("keep", ["best", "last"])
    def test_a_run_that_met_its_deadline_is_not_trained_on(self, bert_setup, tmp_path, keep):
        settings = replace(FAST, deadline_s=0.0, keep=keep)
        first = bert_setup.train(tmp_path, settings, scripted(0.5))
        again = bert_setup.train(tmp_path, settings, scripted())
        assert (first.n_steps, first.stopped) == (1, "deadline") == (again.n_steps, again.stopped)
        assert again.losses == first.losses
        assert_same_weights(weights_of(again.model_path), weights_of(first.model_path))

    def test_the_deadline_counts_the_time_of_all_processes(self, bert_setup, tmp_path):
        self.killed_at(bert_setup, tmp_path, 4)
        marker = tmp_path / "checkpoint-2" / "complete.json"
        content = json.loads(marker.read_text())
        assert 0 < content["elapsed_s"] < 60
        assert len(content["losses"]) == 2
        marker.write_text(json.dumps(content | {"elapsed_s": 1000.0}))
        # Not over yet, but one more step passes it; in this process alone it would be far away.
        result = bert_setup.train(tmp_path, replace(FAST, deadline_s=1000.0), validate=scripted(0.1))
        assert (result.n_steps, result.stopped) == (3, "deadline")
        shutil.rmtree(tmp_path)
        self.killed_at(bert_setup, tmp_path, 4)
        marker.write_text(json.dumps(content | {"elapsed_s": 1000.0}))
        result = bert_setup.train(tmp_path, replace(FAST, deadline_s=999.0, keep="last"), validate=scripted())
        assert (result.n_steps, result.stopped) == (2, "deadline")
        assert_same_weights(weights_of(result.model_path), load_file(tmp_path / "checkpoint-2/model.safetensors"))

    def test_checkpoints_by_time(self, bert_setup, tmp_path):
        settings = replace(FAST, n_evaluations=1, checkpoint_every_s=0.0)

        def kill(step, score):
            raise KilledError

        with pytest.raises(KilledError):
            bert_setup.train(tmp_path, settings, on_evaluation=kill)
        # Every step had one; the last two are left, and the kill came before the one of step 6.
        assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-4", "checkpoint-5"]
        assert bert_setup.train(tmp_path, settings).resumed_from == 5


class TestSettings:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"n_steps": 0},
            {"batch_groups": 0},
            {"n_evaluations": 0},
            {"patience": 0},
            {"learning_rate": 0.0},
            {"learning_rate": float("nan")},
            {"keep": "first"},
        ],
    )
    def test_a_wrong_setting_is_named(self, wrong):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            replace(FAST, **wrong)
