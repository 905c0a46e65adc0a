import numpy as np
import pytest

from crosstune.errors import BundleError
from crosstune.known_questions import KnownQuestions, load_known_questions
from crosstune.text import content_hash

QUESTION = np.array([1.0, 0.0], np.float32)
# Cosines with the question: 1, 0.75, 0.5.
VECTORS = np.array([[1.0, 0.0], [0.75, 7**0.5 / 4], [0.5, 3**0.5 / 2]], np.float32)
OWNERS = {content_hash("first"): [2], content_hash("both"): [1, 2], content_hash("same"): [0]}


def test_an_answer_counts_by_the_closest_of_its_questions_beyond_the_threshold():
    known = KnownQuestions(VECTORS, OWNERS, threshold=0.5)
    scores = known.scores(QUESTION, ["both", "first", "another", "same"])
    # Half way beyond the threshold; at it, which is not above it; nobody asked for the third; the same question.
    assert scores.tolist() == pytest.approx([1.5, 0, 0, 2], abs=1e-6)


def test_no_more_than_the_same_question():
    # A vector that rounding made a little too long.
    known = KnownQuestions(VECTORS * np.float32(1.01), OWNERS, threshold=0.9)
    assert known.scores(QUESTION, ["same"]).tolist() == [2]


def test_no_passages():
    assert KnownQuestions(VECTORS, OWNERS, 0.6).scores(QUESTION, []).shape == (0,)


def test_no_known_questions():
    none = KnownQuestions(np.zeros((0, 2), np.float32), {}, 0.6)
    assert none.scores(QUESTION, ["both", "same"]).tolist() == [0, 0]


def test_saved_and_read_again(tmp_path):
    path = tmp_path / "vectors.safetensors"
    KnownQuestions(VECTORS, OWNERS, threshold=0.65).save(path)
    found = load_known_questions(path)
    assert found.threshold == 0.65
    assert found.of_passage == OWNERS
    np.testing.assert_allclose(found.vectors, VECTORS, atol=5e-4)  # half precision
    assert found.vectors.dtype == np.float32
    assert b"first" not in path.read_bytes()


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "vectors.safetensors"
    KnownQuestions(VECTORS, OWNERS, threshold=0.65).save(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BundleError, match=r"vectors\.safetensors: damaged"):
        load_known_questions(path)


@pytest.mark.parametrize("place", [3, -1])
def test_an_answer_to_a_question_that_is_not_there(tmp_path, place):
    path = tmp_path / "vectors.safetensors"
    KnownQuestions(VECTORS, {content_hash("first"): [place]}, threshold=0.65).save(path)
    with pytest.raises(BundleError, match="damaged"):
        load_known_questions(path)
