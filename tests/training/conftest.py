"""Training examples over the tiny corpus: a passage answers when it shares the question's topic."""

import gc

import numpy as np
import pytest

from crosstune.pair_encoding import PairEncoder
from crosstune.training import EncodedGroup


@pytest.fixture(scope="session", autouse=True)
def quick_collections(families):
    """Every training run collects garbage first: spare it the objects of the libraries, 0.3 s a run."""
    gc.freeze()


@pytest.fixture(scope="session")
def make_groups(corpus):
    """(encoder, groups, negatives) -> groups: a positive of the question's topic, negatives of others."""

    def groups(encoder: PairEncoder, n_groups: int = 24, n_negatives: int = 3) -> list[EncodedGroup]:
        random = np.random.default_rng(11)
        made = []
        for i in range(n_groups):
            query_id = f"q{i % 8 + 1}"
            relevant = sorted(corpus.relevant(query_id))
            topic = relevant[0].split("-")[0]
            others = [pid for pid in corpus.passages if not pid.startswith(topic)]
            ids = [relevant[i // 8 % 2], *random.choice(others, n_negatives, replace=False)]
            texts = encoder.tokenize([corpus.queries[query_id].text, *(corpus.passages[p].full_text for p in ids)])
            pairs = tuple(encoder.pair(texts[0], passage) for passage in texts[1:])
            made.append(EncodedGroup(pairs, (1.0, *[0.0] * n_negatives)))
        return made

    return groups
