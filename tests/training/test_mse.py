"""The article's evaluator: errors worked out by hand, and the library led to the best checkpoint by it."""

from __future__ import annotations

import csv
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crosstune.errors import ConfigError

pytest.importorskip("sentence_transformers", reason="needs the extra train")

import torch
from sentence_transformers import CrossEncoder
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from crosstune.training.mse import MSEEvaluator, mean_squared_error

WORDS = ["how", "do", "i", "pay", "open", "the", "door", "by", "card", "in", "store", "with", "key"]


@dataclass(frozen=True)
class Pair:
    query: str
    passage: str
    label: int


PAIRS = [
    Pair("how do i pay", "by card", 1),
    Pair("how do i pay", "with the key", 0),
    Pair("open the door", "with the key", 1),
    Pair("open the door", "in store by card", 0),
]


def make_tokenizer() -> PreTrainedTokenizerFast:
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {word: i for i, word in enumerate(specials + sorted(set(WORDS)))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        model_max_length=64,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny")
    make_model(1).save_pretrained(path)
    make_tokenizer().save_pretrained(path)
    return path


def make_model(n_labels: int) -> BertForSequenceClassification:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=32, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, num_labels=n_labels, initializer_range=0.3,
    )  # fmt: skip
    return BertForSequenceClassification(config)


def constant(folder: Path, tmp_path: Path, logit: float, **options: Any) -> CrossEncoder:
    """A model that gives every pair this logit."""
    model = BertForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.fill_(logit)
    model.save_pretrained(tmp_path / "constant")
    make_tokenizer().save_pretrained(tmp_path / "constant")
    return CrossEncoder(str(tmp_path / "constant"), device="cpu", **options)


@pytest.mark.parametrize("activation", [torch.nn.Sigmoid(), torch.nn.Identity()], ids=["sigmoid", "identity"])
def test_by_hand(folder: Path, tmp_path: Path, activation: Any) -> None:
    model = constant(folder, tmp_path, float(np.log(3)), activation_fn=activation)
    # p = sigmoid(ln 3) = 3/4: errors (1/4)^2 and (3/4)^2, mean 5/16. A second sigmoid would make it 0.282.
    assert MSEEvaluator(PAIRS)(model) == pytest.approx(0.3125, abs=1e-6)
    # Three entailments of four pairs: (3 * 1/16 + 9/16) / 4.
    three = [*PAIRS[:3], Pair("open the door", "with the key", 1)]
    assert MSEEvaluator(three)(model) == pytest.approx(0.1875, abs=1e-6)


def test_against_transformers_alone(folder: Path) -> None:
    model = BertForSequenceClassification.from_pretrained(folder).eval()
    texts = [pair.query for pair in PAIRS], [pair.passage for pair in PAIRS]
    with torch.no_grad():
        logits = model(**make_tokenizer()(*texts, padding=True, return_tensors="pt")).logits[:, 0].double()
    assert logits.std() > 1e-3  # an order mixed up would show
    expected = ((logits.sigmoid() - torch.tensor([1.0, 0, 1, 0])) ** 2).mean().item()
    for batch_size in (1, 3, 16):
        found = MSEEvaluator(PAIRS, batch_size=batch_size)(CrossEncoder(str(folder), device="cpu"))
        assert found == pytest.approx(expected, abs=1e-7)


def test_float64_where_float32_saturates() -> None:
    # 1 - sigmoid(20) = e^-20 / (1 + e^-20) = 2.0612e-9, which float32 rounds to 0.
    assert mean_squared_error(np.array([20.0]), np.array([1.0])) == pytest.approx(2.06115362e-9**2, rel=1e-6)
    assert mean_squared_error(np.array([-1e4, 1e4]), np.array([0.0, 0.0])) == pytest.approx(0.5)


def test_csv(folder: Path, tmp_path: Path) -> None:
    model = constant(folder, tmp_path, 0.0)
    evaluator = MSEEvaluator(PAIRS, name="train")
    evaluator(model, tmp_path / "eval", epoch=1, steps=23)
    evaluator(model, str(tmp_path / "eval"), epoch=2, steps=46)
    with (tmp_path / "eval" / "MSEEvaluator_train_results.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    # Logit 0 is p = 1/2, so that every error is 1/4.
    assert rows == [["epoch", "steps", "MSE"], ["1", "23", "0.25"], ["2", "46", "0.25"]]


def test_nothing_is_written_unasked(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = CrossEncoder(str(folder), device="cpu")
    monkeypatch.chdir(tmp_path)
    MSEEvaluator(PAIRS)(model)
    assert list(tmp_path.iterdir()) == []


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least one pair"):
        MSEEvaluator([])
    make_model(3).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="one logit, found 3"):
        MSEEvaluator(PAIRS)(CrossEncoder(str(tmp_path), device="cpu"))


def test_the_trainer_keeps_the_checkpoint_with_the_least_error(folder: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="CrossEncoderTrainer needs the package datasets")
    from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
    from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

    model = CrossEncoder(str(folder), device="cpu")
    # Evaluated on entailments, trained to call them contradictions: the error rises and the first is best.
    evaluator = MSEEvaluator([Pair(pair.query, pair.passage, 1) for pair in PAIRS])
    columns = {"query": [pair.query for pair in PAIRS], "passage": [pair.passage for pair in PAIRS]}
    wrong = datasets.Dataset.from_dict(columns | {"label": [0.0] * len(PAIRS)})
    arguments = CrossEncoderTrainingArguments(
        output_dir=str(tmp_path), num_train_epochs=4, learning_rate=1e-2, eval_strategy="epoch",
        save_strategy="epoch", load_best_model_at_end=True, metric_for_best_model="eval_evaluator",
        greater_is_better=evaluator.greater_is_better, report_to="none", use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    loss = BinaryCrossEntropyLoss(model)
    trainer = CrossEncoderTrainer(model, arguments, wrong, loss=loss, evaluator=evaluator)
    trainer.train()
    errors = [entry["eval_evaluator"] for entry in trainer.state.log_history if "eval_evaluator" in entry]
    assert len(errors) == 4
    assert min(errors) == errors[0]
    assert errors[-1] > errors[0] + 0.03
    assert evaluator(model) == pytest.approx(errors[0], abs=1e-6)


def test_the_library_saves_on_less_error(tmp_path: Path) -> None:
    from sentence_transformers.cross_encoder.fit_mixin import SaveModelCallback

    class Model:
        n_saved = 0

        def save(self, path: str) -> None:
            self.n_saved += 1

    model, saved = Model(), []
    callback = SaveModelCallback(str(tmp_path), MSEEvaluator(PAIRS), save_best_model=True)
    for error in (0.3, 0.2, 0.4, 0.1):
        callback.on_evaluate(None, None, None, metrics={"eval_evaluator": error}, model=model)
        saved.append(model.n_saved)
    assert saved == [1, 2, 2, 3]


def test_the_room_does_not_import_the_library() -> None:
    code = "import crosstune.training, sys; print('sentence_transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
