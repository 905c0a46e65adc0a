"""What the first stage's tests, where scores are worked out by hand, do not ask of the index."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from crosstune.language import language_of
from crosstune.lexical import LexicalIndex, remembering


def test_one_score_for_each_text_in_input_order_and_0_where_no_word_is_shared():
    # Two of three texts hold "refund": idf = ln(1 + 1.5 / 2.5). Lengths 1, 2, 3: mean 2. Lucene's tf / (tf + K) with
    # K = 1.2 (0.25 + 0.75 length / 2) is 1 / 1.75 for length 1 and 1 / 2.65 for length 3.
    scores = LexicalIndex(["refund", "an invoice", "refund after days"], language_of("und")).scores("refund please")
    assert scores == pytest.approx([math.log(1.6) / 1.75, 0.0, math.log(1.6) / 2.65], rel=1e-6)


def test_a_question_of_stop_words_only_does_not_change_the_next_one():
    index = LexicalIndex(["what is it", "refund policy"], language_of("en"))
    before = index.scores("What is the refund?").tolist()
    assert before[0] == 0.0 < before[1]
    assert index.scores("What is it?").tolist()[1] == 0.0 < index.scores("What is it?").tolist()[0]
    assert index.scores("What is the refund?").tolist() == before


@pytest.mark.parametrize("question", ["refund", "what is it", ""])
def test_no_texts(question):
    assert LexicalIndex([], language_of("en")).scores(question).shape == (0,)


def test_a_tokenizer_that_remembers_gives_the_same_scores():
    english = language_of("en")
    cut = remembering(english)
    assert cut("Refund policies") == ["refund", "polici"]
    assert cut("Refund policies") is cut("Refund policies")  # cut once
    for texts in (["refund policies", "what is it"], ["what is it", "refund policies", "a policy"]):
        for question in ("policy", "What is it?", ""):
            expected = LexicalIndex(texts, english).scores(question)
            assert LexicalIndex(texts, english, cut).scores(question).tolist() == expected.tolist()


def test_jax_must_not_take_the_gpus_memory(tmp_path: Path) -> None:
    """bm25s asks JAX for something when it is imported, and JAX's first act is to reserve most of the GPU."""
    package = tmp_path / "jax"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "lax.py").write_text(
        "import os\nprint('reserves:', os.environ.get('XLA_PYTHON_CLIENT_PREALLOCATE', 'most'))\n"
        "def top_k(scores, k):\n    return scores[:k], scores[:k]\n"
    )
    asked = "import crosstune.lexical"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    environment.pop("XLA_PYTHON_CLIENT_PREALLOCATE", None)
    done = subprocess.run([sys.executable, "-c", asked], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "reserves: false\n"
