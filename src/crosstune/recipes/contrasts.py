"""What a first stage learns from: the train questions' answers, and who must not be whose negative."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from crosstune.recipes.prepare import Prepared
from crosstune.training import ContrastiveExample
from crosstune.types import Collection


class Contrasts:
    """Question-answer pairs of the train split, with who must not be whose negative.

    Args:
        prepared: The data.
        among: Passages that are contrasted, by id; None for the answers to train questions alone.

    Attributes:
        queries: Texts of the train questions.
        passage_ids: Passages that the examples name by place: the answers to train questions, and the others.
        all: The examples.
        protected: Places of passages that are nobody's negative: answers of dev and test questions.
        rival_questions: Whether questions must be contrasted with each other, because hardly a passage may be.
    """

    def __init__(self, prepared: Prepared, among: Sequence[str] = ()) -> None:
        collection, splits = prepared.collection, prepared.splits
        duplicates = prepared.near_duplicates()
        pairs = [(query_id, pid) for query_id in splits.train for pid in sorted(collection.relevant(query_id))]
        query_ids, answers = (list(dict.fromkeys(pair[side] for pair in pairs)) for side in (0, 1))
        self.passage_ids = list(dict.fromkeys([*answers, *among]))
        query = {query_id: place for place, query_id in enumerate(query_ids)}
        passage = {passage_id: place for place, passage_id in enumerate(self.passage_ids)}

        def places(found: set[str]) -> frozenset[int]:
            return frozenset(passage[pid] for pid in found if pid in passage)

        never = {query_id: places(_alike(collection, query_id, duplicates)) for query_id in query_ids}
        self.queries = [collection.queries[query_id].text for query_id in query_ids]
        groups = splits.groups
        self.all = [ContrastiveExample(query[qid], passage[pid], (), never[qid], groups[qid]) for qid, pid in pairs]
        self.protected = places(splits.held_out(collection))
        # In data with one set of answers for all splits hardly a passage may be anybody's negative.
        self.rival_questions = 2 * sum(place < len(answers) for place in self.protected) > len(answers)

    def texts(self, collection: Collection) -> list[str]:
        """Texts of `passage_ids`."""
        return [collection.passages[passage_id].full_text for passage_id in self.passage_ids]


def _alike(collection: Collection, query_id: str, duplicates: Mapping[str, frozenset[str]]) -> set[str]:
    """Answers to a question, and their near-duplicates."""
    relevant = collection.relevant(query_id)
    return relevant.union(*(duplicates.get(passage_id, frozenset()) for passage_id in relevant))
