"""What recipes' tests share: embedders that measure nothing, and a run on a tiny model."""

import csv
import random
from types import SimpleNamespace

import pytest

from crosstune.bi_encoder import SentenceTransformerEmbedder
from crosstune.data import SplitSettings
from crosstune.recipes import measure, prepare, retriever
from crosstune.recipes import tune as recipe
from crosstune.recipes.settings import TuneSettings
from crosstune.training import Throughput

WORDS = [
    "reset",
    "password",
    "link",
    "mail",
    "invoice",
    "month",
    "billing",
    "page",
    "refund",
    "card",
    "thirty",
    "days",
    "export",
    "report",
    "table",
    "menu",
    "top",
    "plan",
    "basic",
    "team",
    "phone",
    "guests",
    "download",
    "paid",
    "lost",
    "where",
    "free",
    "order",
    "change",
]


def write_csv(path, n_rows=80):
    """An answer repeats three words of its question among others; one row in ten is empty."""
    choose = random.Random(3)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["Question", "Answer"])
        for number in range(n_rows):
            question = choose.sample(WORDS, 5)
            rest = [word for word in WORDS if word not in question]
            answer = " ".join(question[:3] + choose.sample(rest, 6)) + "."
            writer.writerow([" ".join(question) + "?", "" if number % 10 == 9 else answer])
    return path


def _in_fp32(checkpoint, precision):
    """An embedder that measures nothing."""
    return SentenceTransformerEmbedder(checkpoint, precision="fp32")


@pytest.fixture(scope="module")
def steady():
    """A step size that moves a tiny model, and no timing: a measured plan would differ from run to run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "learning_rate", lambda model, base: 3e-3)
        patch.setattr(retriever, "_learning_rate", lambda model: 3e-3)
        patch.setattr(retriever, "measure_training", lambda *args: [Throughput("fp32", "sdpa", 1e4, 0.0)])
        patch.setattr(prepare, "SentenceTransformerEmbedder", _in_fp32)
        patch.setattr(measure, "measure_scoring", lambda *args: ("fp32", 1e5))
        patch.setattr(measure, "measure_training", lambda *args: [Throughput("fp32", "sdpa", 1e4, 0.0)])
        yield


@pytest.fixture(scope="session")
def words():
    """Words that a tiny model has tokens for."""
    return WORDS


@pytest.fixture(scope="session", name="write_csv")
def csv_writer():
    """(path, n_rows=80) -> path, written."""
    return write_csv


@pytest.fixture(scope="module")
def settings(bert, bare_bert):
    """Of a run on tiny models."""
    return TuneSettings(
        base=str(bert),
        embedder=str(bare_bert),
        stages="both",
        depth=10,
        budget_s=60,
        split=SplitSettings(dev=0.2, test=0.2),
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory, settings, steady):
    """A whole run of both stages on a tiny model."""
    folder = tmp_path_factory.mktemp("tune")
    said = []
    with pytest.MonkeyPatch.context() as patch:
        # Random layers learn little in a few steps and are rightly refused; this shows what would be saved.
        patch.setattr("crosstune.recipes.choose.check_losses", lambda losses, chance: ())
        result = recipe.tune(write_csv(folder / "qa.csv"), folder / "run", settings, say=said.append)
    return SimpleNamespace(result=result, folder=folder / "run", file=folder / "qa.csv", said=said)


@pytest.fixture(scope="session", autouse=True)
def fp32_embedders():
    """No timing of precisions: on a busy machine bf16 would be chosen now and then, and vectors differ a little."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("crosstune.bi_encoder.embedder.faster_precision", lambda encode: "fp32")
        yield
