"""What both sides work on: pairs of mixed lengths made of our own example, and models of two sizes."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np

from crosstune.checkpoints import load_reranker, quiet_transformers, resolve
from crosstune.data import load

ROOT = Path(__file__).resolve().parents[1]
MAX_LENGTH = 512
# Log-normal lengths with a mean of about 190 tokens, as passages of mixed collections have.
_MEDIAN_WORDS, _SIGMA = 110, 0.8

MINILM, XLMR = "MiniLM-L6 (23M)", "XLM-R-base (278M)"


def mixed_pairs(n: int, seed: int = 0, one_query: bool = False) -> list[tuple[str, str]]:
    """Pairs whose passages have log-normal numbers of words.

    Args:
        n: Pairs.
        seed: Of the draw.
        one_query: Candidates of one question rather than pairs of many.
    """
    collection = load(ROOT / "examples" / "helpdesk.csv").collection
    draw, numbers = random.Random(seed), np.random.default_rng(seed)
    words = [word for passage in collection.passages.values() for word in passage.text.split()]
    queries = [query.text for query in collection.queries.values()]
    lengths = np.maximum(4, numbers.lognormal(np.log(_MEDIAN_WORDS), _SIGMA, n).astype(int))
    starts = [draw.randrange(len(words)) for _ in range(n)]
    passages = [" ".join((words * 2)[start : start + length]) for start, length in zip(starts, lengths, strict=True)]
    query = draw.choice(queries)
    return [(query if one_query else draw.choice(queries), passage) for passage in passages]


def save_model(size: str, folder: Path) -> tuple[Any, Any]:
    """Write a reranker of a size to a folder; (model, tokenizer).

    MiniLM has its real encoder under a fresh head. The large one has random weights (none can be had offline) and
    reads with MiniLM's tokenizer: speed does not depend on what the weights are.
    """
    model, tokenizer = load_reranker(resolve("embedded"))  # with the model's own dropout, which is a default, too
    if size == XLMR:
        model = _xlmr(tokenizer)
    tokenizer.model_max_length = MAX_LENGTH
    model.config.sentence_transformers = {"activation_fn": "torch.nn.modules.linear.Identity"}
    with quiet_transformers():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return model.eval(), tokenizer


def _xlmr(tokenizer: Any) -> Any:
    import torch
    from transformers import XLMRobertaConfig, XLMRobertaForSequenceClassification

    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=250_002,
        max_position_embeddings=MAX_LENGTH + 2,
        type_vocab_size=2,
        pad_token_id=tokenizer.pad_token_id,
        num_labels=1,
    )
    return XLMRobertaForSequenceClassification(config)
