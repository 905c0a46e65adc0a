import numpy as np
import pytest
import torch

from crosstune.errors import ConfigError
from crosstune.pair_encoding import PairEncoder
from crosstune.team import Team
from crosstune.training import TrainingSettings, make_loss, train
from crosstune.training.batches import GroupCollator, LengthGroupedSampler, micro_batches
from crosstune.training.engine import Engine, Optimizer
from crosstune.training.memory import free_bytes, tokens_at_once


@pytest.fixture
def parts(load, bert, make_groups):
    loaded = load(bert, dropout=0.0)
    encoder = PairEncoder(loaded.tokenizer, 48)
    return loaded.model, encoder, make_groups(encoder, n_groups=8)


def loss_of(batch):
    return lambda logits: make_loss("lce")(logits[batch["position"]], batch["labels"], batch["mask"])


class TestGradients:
    def test_they_are_those_of_the_plain_model(self, parts):
        model, encoder, groups = parts
        batch = GroupCollator(encoder, 64)(groups)
        assert len(batch["slices"]) > 3
        logits = torch.cat([model(**part).logits[:, 0] for part in batch["slices"]])
        loss_of(batch)(logits).backward()
        expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
        model.zero_grad()
        engine = Engine(model, "fp32")
        assert engine.gradients(batch["slices"], loss_of(batch)) == pytest.approx(
            float(loss_of(batch)(logits.detach())), abs=1e-6
        )
        for name, parameter in engine.parameters.items():
            torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-5, msg=name)

    def test_bf16_points_the_same_way(self, parts):
        model, encoder, groups = parts
        batch = GroupCollator(encoder, 64)(groups)
        flat = {}
        for precision in ("fp32", "bf16"):
            engine = Engine(model, precision)
            engine.gradients(batch["slices"], loss_of(batch))
            assert {parameter.grad.dtype for parameter in engine.parameters.values()} == {torch.float32}
            flat[precision] = torch.cat([parameter.grad.flatten() for parameter in engine.parameters.values()])
            engine.forget_gradients()
        # bfloat16 keeps 8 bits; how kernels round differs by machine and load.
        assert torch.cosine_similarity(flat["fp32"], flat["bf16"], dim=0) > 0.99
        assert not torch.equal(flat["fp32"], flat["bf16"])

    def test_only_the_words_seen_are_trained(self, parts):
        model, encoder, groups = parts
        ids = sorted({int(i) for group in groups for pair in group.pairs for i in pair.ids})
        table = model.get_input_embeddings().weight
        before = table.detach().clone()
        engine = Engine(model, "fp32", ids)
        batch = GroupCollator(encoder, 64)(groups)
        engine.gradients(batch["slices"], loss_of(batch))
        Optimizer(engine, TrainingSettings(n_steps=2, warmup_share=0.0, learning_rate=0.1)).step(0)
        assert torch.equal(table, before)
        engine.publish()
        moved = (table != before).any(1).nonzero()[:, 0].tolist()
        assert set(moved) <= set(ids)
        assert len(moved) > len(ids) / 2


class TestThreads:
    def run(self, parts, precision, team, n_steps=3):
        """Losses, and the model's weights after a few steps."""
        model, encoder, groups = parts
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        ids = sorted({int(i) for group in groups for pair in group.pairs for i in pair.ids})
        engine = Engine(model, precision, ids, team=team)
        optimizer = Optimizer(engine, TrainingSettings(n_steps=n_steps, warmup_share=0.0, learning_rate=0.01))
        batch = GroupCollator(encoder, 64)(groups)
        losses = []
        for step in range(n_steps):
            losses.append(engine.gradients(batch["slices"], loss_of(batch), twice=step == 1))
            optimizer.step(step)
        engine.publish()
        after = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        model.load_state_dict(before)
        return losses, after

    @pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("bf16", 2e-2)])
    def test_several_end_in_the_weights_of_one(self, parts, precision, tolerance):
        losses, expected = self.run(parts, precision, Team(1))
        assert losses[2] < losses[0]
        for size in (2, 3):
            found, weights = self.run(parts, precision, Team(size))
            assert found == pytest.approx(losses, rel=tolerance)
            for name, tensor in weights.items():
                # A softmax does not see a constant: these gradients are rounding, of which Adam makes whole steps.
                if name.endswith(("classifier.bias", "key.bias")):
                    continue
                different = (tensor - expected[name]).abs() > 0.005
                assert different.float().mean() <= 10 * tolerance, name

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_gradients_are_those_of_one(self, parts, precision):
        model, encoder, groups = parts
        batch = GroupCollator(encoder, 64)(groups)
        flat = []
        for size in (1, 2, 4):
            engine = Engine(model, precision, team=Team(size))
            engine.gradients(batch["slices"], loss_of(batch))
            engine.gradients(batch["slices"], loss_of(batch))  # they are added up
            flat.append(torch.cat([parameter.grad.flatten() for parameter in engine.parameters.values()]))
            engine.forget_gradients()
            assert all(parameter.grad is None for parameter in engine.parameters.values())
            assert all(own.grad is None for worker in engine._workers for _, own in worker.copies)
        for other in flat[1:]:
            torch.testing.assert_close(other, flat[0], rtol=1e-3, atol=1e-5)

    def test_equal_runs_are_equal_to_the_last_bit(self, parts):
        first, second = (self.run(parts, "fp32", Team(2)) for _ in range(2))
        assert first[0] == second[0]
        for name, tensor in first[1].items():
            assert torch.equal(tensor, second[1][name]), name

    def test_what_is_not_used_is_not_copied(self, parts):
        model, _, _ = parts
        words = model.get_input_embeddings().weight
        engine = Engine(model, "bf16", [1, 2, 3], team=Team(2))
        _, second = engine._workers
        assert any(parameter is words for parameter in second.forward.parameters())
        layers = model.bert.encoder.parameters()
        assert all(any(trained is layer for trained, _ in second.copies) for layer in layers)
        assert {own.dtype for _, own in second.copies} == {torch.bfloat16, torch.float32}
        assert not any(own is p for _, own in second.copies for p in model.parameters())


def test_steps_are_those_of_a_plain_loop(load, bert, make_groups, tmp_path):
    """Three steps of AdamW with clipping and a linear schedule, written out with torch alone."""
    settings = TrainingSettings(n_steps=3, batch_groups=4, learning_rate=1e-2, warmup_share=0.3, n_evaluations=1)
    loaded = load(bert, dropout=0.0)
    encoder = PairEncoder(loaded.tokenizer, 48)
    groups = make_groups(encoder)
    plain = load(bert, dropout=0.0).model.train()
    decayed = [p for p in plain.parameters() if p.dim() > 1]
    others = [p for p in plain.parameters() if p.dim() <= 1]
    adam = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}], lr=1e-2
    )
    sampler = LengthGroupedSampler([group.n_tokens for group in groups], 4, 3, 0)
    # One step of warm-up from 0 (ceil of 0.3 * 3), then from the peak down to 0.
    for batch, share in zip(sampler, (0.0, 1.0, 0.5), strict=True):
        tensors = GroupCollator(encoder, 4096)([groups[i] for i in batch])
        logits = torch.cat([plain(**part).logits[:, 0] for part in tensors["slices"]])
        adam.zero_grad()
        loss_of(tensors)(logits).backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        for group in adam.param_groups:
            group["lr"] = 1e-2 * share
        adam.step()
    train(loaded.model, encoder, groups, make_loss("lce"), lambda model: 0.0, settings, tmp_path)
    found = loaded.model.state_dict()
    seen = sorted({int(i) for group in groups for pair in group.pairs for i in pair.ids})
    for name, tensor in plain.state_dict().items():
        # The true gradients of these are 0, since a softmax does not see a shift; Adam scales their noise up.
        if name.endswith(("key.bias", "classifier.bias")):
            continue
        # Words that are not in the data only decay in the plain loop.
        rows = seen if "word_embeddings" in name else slice(None)
        torch.testing.assert_close(found[name][rows], tensor[rows], rtol=0, atol=1e-5, msg=name)


class TestMemory:
    def test_parts_are_whole_groups(self, parts):
        _, _, groups = parts
        sizes = [group.n_tokens for group in groups]
        split = micro_batches(groups, sizes[0] + sizes[1])
        assert [group for part in split for group in part] == list(groups)
        assert len(split[0]) == 2
        assert all(len(part) == 1 for part in micro_batches(groups, 1))

    @pytest.mark.parametrize("loss", ["lce", "bce"])
    def test_parts_give_the_gradient_of_the_whole(self, load, bert, make_groups, tmp_path, loss, monkeypatch):
        encoder = PairEncoder(load(bert).tokenizer, 48)
        groups = [*make_groups(encoder, 6, 3), *make_groups(encoder, 6, 1)]  # of two sizes: means weigh differently
        settings = TrainingSettings(n_steps=2, batch_groups=12, learning_rate=1e-3, warmup_share=0.0, n_evaluations=1)
        losses = []
        for most in (100_000, 60):
            monkeypatch.setattr("crosstune.training.memory.tokens_at_once", lambda *_, most=most: most)
            model = load(bert, dropout=0.0).model
            losses.append(
                train(model, encoder, groups, make_loss(loss), lambda m: 0.0, settings, tmp_path / f"{most}").losses
            )
        assert losses[0] == pytest.approx(losses[1], abs=1e-5)

    def test_out_of_memory_halves_and_goes_on(self, parts, tmp_path, monkeypatch):
        model, encoder, groups = parts
        settings = TrainingSettings(n_steps=2, batch_groups=8, n_evaluations=1)
        whole = train(model, encoder, groups, make_loss("lce"), lambda m: 0.0, settings, tmp_path / "whole").losses
        seen = []
        gradients = Engine.gradients

        def short_of_memory(self, slices, loss, twice=False):
            n_tokens = sum(part["input_ids"].numel() for part in slices)
            seen.append(n_tokens)
            if n_tokens > 200:
                raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory")
            return gradients(self, slices, loss)

        monkeypatch.setattr(Engine, "gradients", short_of_memory)
        monkeypatch.setattr("crosstune.training.memory.tokens_at_once", lambda *_: 10_000)
        again = train(model, encoder, groups, make_loss("lce"), lambda m: 0.0, settings, tmp_path / "parts")
        assert again.stopped == "finished"
        assert np.isfinite(again.losses).all()
        assert max(seen) > 200 > seen[-1]
        assert len(whole) == len(again.losses) == 2

    def test_a_pair_that_never_fits_is_said(self, parts, tmp_path, monkeypatch):
        model, encoder, groups = parts

        def no_memory(self, slices, loss, twice=False):
            raise torch.OutOfMemoryError("CUDA out of memory")

        monkeypatch.setattr(Engine, "gradients", no_memory)
        settings = TrainingSettings(n_steps=2, n_evaluations=1)
        with pytest.raises(ConfigError, match="does not fit into memory"):
            train(model, encoder, groups, make_loss("lce"), lambda m: 0.0, settings, tmp_path)

    def test_another_error_is_not_swallowed(self, parts, tmp_path, monkeypatch):
        model, encoder, groups = parts

        def broken(self, slices, loss, twice=False):
            raise RuntimeError("shapes do not match")

        monkeypatch.setattr(Engine, "gradients", broken)
        with pytest.raises(RuntimeError, match="shapes"):
            train(model, encoder, groups, make_loss("lce"), lambda m: 0.0, TrainingSettings(n_steps=1), tmp_path)

    def test_reckoned_by_hand(self, parts, monkeypatch):
        model, _, _ = parts
        # 2 layers * (16 * 32 + 3 * 64 + 3 * 2 heads * 48 tokens) = 1984 values a token, of 4 bytes; half of 8 MB.
        monkeypatch.setattr("crosstune.training.memory.free_bytes", lambda device: 8_000_000)
        device = torch.device("cpu")
        assert tokens_at_once(model.config, device, "fp32", 48) == 512  # 504, raised to the fewest there are
        assert tokens_at_once(model.config, device, "bf16", 48) == int(4_000_000 / (1984 * 2))

    def test_free_memory_is_this_machines(self):
        assert 1 << 26 < free_bytes(torch.device("cpu")) < 1 << 44
