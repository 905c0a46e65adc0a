"""When a question counts as a train question that is asked again."""

from types import SimpleNamespace

import numpy as np
import pytest

from crosstune.progress import silent
from crosstune.recipes import known
from crosstune.recipes.known import KNOWN_WEIGHT, known_questions, known_scores
from crosstune.text import content_hash
from crosstune.types import Collection, Passage, Query, Splits


class Angles:
    """Embeds a question that is a number of degrees."""

    def embed_queries(self, texts, progress=silent):
        turned = np.radians(np.array([float(text) for text in texts]))
        return np.stack([np.cos(turned), np.sin(turned)], axis=1).astype(np.float32)


def prepared_of(train, dev, answers=None, groups=None):
    """Questions at these angles, each with an answer of its own unless told otherwise."""
    texts = {f"train{i}": str(angle) for i, angle in enumerate(train)}
    texts |= {f"dev{i}": str(angle) for i, angle in enumerate(dev)}
    answers = {q: q for q in texts} | (answers or {})
    return SimpleNamespace(
        collection=Collection(
            {pid: Passage(pid, f"answer {pid}") for pid in set(answers.values())},
            {q: Query(q, text) for q, text in texts.items()},
            {q: {pid: 1} for q, pid in answers.items()},
            "",
        ),
        splits=Splits(
            tuple(q for q in texts if q.startswith("train")),
            tuple(q for q in texts if q.startswith("dev")),
            (),
            {q: q for q in texts} | (groups or {}),
            0,
        ),
    )


def cosine(degrees):
    return float(np.cos(np.radians(degrees)))


# 8 degrees apart, from 0 to 232: the closest other train question of each is 8 degrees away.
TRAIN = [8 * i for i in range(30)]
FAR = [290.0 - i for i in range(20)]
HALF = 2e-4  # what half precision adds


def test_dev_questions_are_new_ones():
    # Dev questions between two train questions, 4 degrees from each; one is 3 degrees from one.
    dev = [*(4 + 8 * i for i in range(20)), 51]
    found = known_questions(prepared_of(TRAIN, dev), Angles(), silent)
    assert found.threshold == pytest.approx(cosine(3), abs=HALF)
    assert len(found.vectors) == 30  # those of dev are not known
    assert found.of_passage[content_hash("answer train7")] == [7]
    assert content_hash("answer dev0") not in found.of_passage


def test_train_questions_among_each_other_set_it_where_they_are_closer():
    found = known_questions(prepared_of(TRAIN, FAR), Angles(), silent)
    assert found.threshold == pytest.approx(cosine(8), abs=HALF)


def test_questions_with_a_common_answer_or_of_one_group_are_not_each_others_new_ones():
    # Two more dev questions, 1 degree from a train question: one has its answer, one is of its group.
    near = {"answers": {"dev20": "train2"}, "groups": {"dev21": "train9"}}
    found = known_questions(prepared_of(TRAIN, [*FAR, 17, 73], **near), Angles(), silent)
    # What is left: dev20 is 7 degrees from train3, dev21 from train10.
    assert found.threshold == pytest.approx(cosine(7), abs=HALF)


def test_one_in_a_hundred_may_be_closer():
    # 199 dev questions, 4 degrees from the train questions but for two, which are 3 and 3.5 degrees from one. The 198th
    # of 199 sorted cosines, ceil(200 * 0.99), is the second closest.
    dev = [4 + 8 * (i % 29) for i in range(197)]
    found = known_questions(prepared_of(TRAIN, [*dev, 51, 51.5]), Angles(), silent)
    assert found.threshold == pytest.approx(cosine(3.5), abs=HALF)


def test_too_few_to_tell():
    assert known_questions(prepared_of(TRAIN, FAR[1:]), Angles(), silent) is None
    assert known_questions(prepared_of(TRAIN, FAR), Angles(), silent) is not None


def test_a_new_question_that_is_written_like_a_known_one():
    # Nothing is closer than it, so that no cosine tells them apart.
    assert known_questions(prepared_of(TRAIN, [*FAR, 48]), Angles(), silent) is None


def test_large_data_is_sampled(monkeypatch):
    monkeypatch.setattr(known, "_MOST_QUESTIONS", 5)
    monkeypatch.setattr(known, "_ROWS_AT_ONCE", 2)
    found = known_questions(prepared_of(TRAIN, FAR), Angles(), silent)
    assert found.threshold == pytest.approx(cosine(8), abs=HALF)


def test_scores_of_passages_by_id():
    prepared = prepared_of(TRAIN, FAR)
    found = known_questions(prepared, Angles(), silent)
    asked = [Query("again", "36"), Query("new", "250")]
    scores = known_scores(found, prepared.collection, asked, Angles(), silent)
    expected = 1 + (cosine(4) - cosine(8)) / (1 - cosine(8))  # between train4 and train5; the threshold is 8 degrees
    found_scores = scores("again", ["train2", "train4", "train5", "dev0"]).tolist()
    assert found_scores == pytest.approx([0, expected, expected, 0], abs=0.02)
    assert scores("new", ["train3", "train4"]).tolist() == [0, 0]


def test_a_chance_of_one_in_a_hundred_is_worth_its_log():
    assert np.exp(-KNOWN_WEIGHT) == pytest.approx(0.01)
