"""Is it enough: sizes, the smallest gain, and what is said first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from crosstune.errors import MissingExtraError
from crosstune.recipes import check as module
from crosstune.recipes.check import check


@pytest.fixture(autouse=True)
def tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tokenizer that knows Latin letters only."""
    vocabulary = {"[UNK]": 0} | {
        f"{mark}{chr(97 + i)}": 1 + 26 * j + i for j, mark in enumerate(("", "##")) for i in range(26)
    }
    plain = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    monkeypatch.setattr(module, "load_tokenizer", lambda base: plain)


def write(path: Path, n: int, answer: str = "because of {}") -> Path:
    """n questions of one letter-word each, all different."""
    words = ["".join(chr(97 + (i // 26**k) % 26) * 3 for k in range(3)) for i in range(n)]
    path.write_text("question,answer\n" + "".join(f"{w},{answer.format(w)}\n" for w in words), encoding="utf-8")
    return path


def test_small(tmp_path: Path) -> None:
    result = check(write(tmp_path / "qa.csv", 250))
    # A fifth of 250 is 50 questions, each a group of its own: 2.8016 * 0.30 / sqrt(50) = 0.1189.
    assert (result.expected_test, result.expected_test_groups) == (50, 50)
    assert result.smallest_gain == pytest.approx(0.1189, abs=1e-4)
    assert result.recommendation == "small"
    assert result.advice[0].startswith("Small, but worth a try: a test set of 50 questions")
    assert result.unknown_token_share == 0.0


def test_enough(tmp_path: Path) -> None:
    result = check(write(tmp_path / "qa.csv", 3000))
    assert result.expected_test == 400  # capped
    assert result.smallest_gain == pytest.approx(2.8016 * 0.30 / 400**0.5, abs=1e-4)
    assert result.recommendation == "enough"


def test_groups_count_and_not_questions(tmp_path: Path) -> None:
    # 250 questions with one answer in common are one group: nothing can be proven, whatever the rows.
    result = check(write(tmp_path / "qa.csv", 250, answer="the same"))
    assert result.audit.n_groups == 1
    assert result.recommendation == "too few"
    assert "1 independent groups" in result.advice[0]


def test_the_gain_is_that_of_the_groups(tmp_path: Path) -> None:
    path = write(tmp_path / "qa.csv", 250)
    header, *lines = path.read_text().splitlines()
    pairs = [f"{line.split(',')[0]},answer {chr(97 + i // 2 % 26)}{i // 2}" for i, line in enumerate(lines)]
    path.write_text("\n".join([header, *pairs]))
    result = check(path)
    # Two questions to an answer: 125 groups, so that the 50 test questions are about 25 independent ones.
    assert (result.audit.n_groups, result.expected_test, result.expected_test_groups) == (125, 50, 25)
    assert result.smallest_gain == pytest.approx(2.8016 * 0.30 / 5, abs=1e-4)


def test_nothing_usable_is_said_and_not_raised(tmp_path: Path) -> None:
    result = check(write(tmp_path / "qa.csv", 5, answer=""))
    assert (result.smallest_gain, result.recommendation, result.audit.rows_dropped) == (None, "too few", 5)
    assert any("5 of 5 rows are dropped" in sentence for sentence in result.advice)


def test_unreadable_language(tmp_path: Path) -> None:
    # Each question is one known word of 9 letters, each answer one unknown token: 1 in 10.
    result = check(write(tmp_path / "qa.csv", 60, answer="付款"))
    assert result.unknown_token_share is not None
    assert result.unknown_token_share == pytest.approx(1 / 10)
    assert any("cannot read 10%" in sentence and "bge-reranker-v2-m3" in sentence for sentence in result.advice)


def test_missing_tokenizer_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(base: str) -> Tokenizer:
        raise MissingExtraError("train", "the embedded base model")

    monkeypatch.setattr(module, "load_tokenizer", missing)
    result = check(write(tmp_path / "qa.csv", 60))
    assert result.unknown_token_share is None
    assert any("was not measured" in sentence and "crosstune[train]" in sentence for sentence in result.advice)


def test_user_test_set_counts(tmp_path: Path) -> None:
    path = write(tmp_path / "qa.csv", 100)
    header, *lines = path.read_text().splitlines()
    split = [f"{line},{'test' if i < 40 else 'train'}" for i, line in enumerate(lines)]
    path.write_text("\n".join([header + ",split", *split]))
    assert check(path).expected_test == 40


def test_as_dict_is_json_without_the_sample(tmp_path: Path) -> None:
    fields = json.loads(json.dumps(check(write(tmp_path / "qa.csv", 60)).as_dict()))
    assert fields["audit"]["rows_read"] == 60
    assert not [name for name in fields["audit"] if name.startswith("sample")]


def test_synthetic_rows_do_not_count_towards_the_test(tmp_path: Path) -> None:
    path = write(tmp_path / "qa.csv", 250)
    header, *rows = path.read_text(encoding="utf-8").splitlines()
    marked = [f"{row},{'yes' if number < 150 else ''}" for number, row in enumerate(rows)]
    path.write_text("\n".join([f"{header},synthetic", *marked]) + "\n", encoding="utf-8")
    result = check(path)
    # 100 of 250 questions are a person's: a fifth of them.
    assert (result.audit.rows_synthetic, result.expected_test) == (150, 20)
    assert any("150 rows are synthetic" in line for line in result.advice)
    path.write_text("\n".join([f"{header},synthetic", *(f"{row},yes" for row in rows)]) + "\n", encoding="utf-8")
    assert check(path).advice[0] == "Too few: there is no question of a person's with an answer in the file."
