"""Tuning a bi-encoder: every question against the passages of its whole batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crosstune.bi_encoder import TextEncoder, transformer_of
from crosstune.errors import ConfigError
from crosstune.extras import require
from crosstune.pair_encoding import length_batches
from crosstune.progress import Progress, silent
from crosstune.training.batches import LengthGroupedSampler, slice_tokens
from crosstune.training.checkpointing import BestModel, last_complete_checkpoint
from crosstune.training.settings import TrainingSettings
from crosstune.training.trainer import TrainingResult, result, token_ids

if TYPE_CHECKING:
    from torch import Tensor

    from crosstune.training.engine import Engine

# Cosines lie close together: 20 times them is the scale at which a softmax can tell them apart.
SCALE = 20.0


@dataclass(frozen=True, slots=True)
class ContrastiveExample:
    """One question with its answer and mined negatives, by their places in the lists of texts.

    Attributes:
        query: Place of the question.
        positive: Place of the passage that answers it.
        negatives: Places of its mined negatives.
        never: Places of passages that must not be its negatives when they stand in the same batch: other answers to
            it and their near-duplicates.
        group: Questions of one group ask the same: they are not each other's rivals.
    """

    query: int
    positive: int
    negatives: tuple[int, ...]
    never: Set[int]
    group: str = ""


def contrastive_loss(
    queries: Tensor, passages: Tensor, positives: Tensor, allowed: Tensor, rivals: Tensor | None = None
) -> Tensor:
    """Softmax cross-entropy of each question's answer against all passages of the batch, and the other way round.

    The other way: of all questions of the batch the one that the answer belongs to. With one answer a question it
    doubles what a small batch teaches. What sentence-transformers calls MultipleNegativesRankingLoss is the first
    half. Source: Henderson et al., "Efficient Natural Language Response Suggestion for Smart Reply", 2017.

    Args:
        queries: (questions, dimensions).
        passages: (passages, dimensions).
        positives: (questions,) place of each question's answer.
        allowed: (questions, passages) True where the passage counts for the question: its answer and its negatives.
        rivals: (questions, questions) True where another question must be further from the question than its answer
            is; None for no such pair. (Li et al., "Towards General Text Embeddings with Multi-stage Contrastive
            Learning", 2023, contrast questions so beside the passages.)

    Returns:
        A scalar.
    """
    import torch
    from torch.nn.functional import cross_entropy, normalize

    queries, passages = normalize(queries, dim=1), normalize(passages, dim=1)
    scores = (SCALE * queries @ passages.T).masked_fill(~allowed, float("-inf"))  # (questions, passages)
    own = torch.arange(len(queries), device=positives.device)
    # Questions with the same answer are not rivals for it.
    shared = (positives[:, None] == positives[None, :]) & (own[:, None] != own[None, :])
    backwards = scores[:, positives].T.masked_fill(shared, float("-inf"))  # (answers, questions)
    if rivals is not None:
        among = (SCALE * queries @ queries.T).masked_fill(~rivals, float("-inf"))  # (questions, questions)
        scores = torch.cat([scores, among], dim=1)
    return 0.5 * (cross_entropy(scores, positives) + cross_entropy(backwards, own))


class ContrastiveBatches:
    """Gradients of batches of examples.

    Args:
        engine: Over the bi-encoder.
        encoder: Pads texts.
        queries: Token ids of all questions.
        passages: Token ids of all passages: a question is contrasted with those of its batch. Or unit vectors
            (passages, dimensions) by an encoder that stays as it is: with every passage.
        examples: All training examples.
        protected: Places of passages that are nobody's negative unless mined: answers of dev and test questions.
        rival_questions: Contrast questions with each other, too.
        slice_tokens: Padded tokens that go through the model at once.
        most_tokens: Padded tokens whose graphs may be kept at once.
    """

    def __init__(
        self,
        engine: Engine,
        encoder: TextEncoder,
        queries: Sequence[NDArray[np.int32]],
        passages: Sequence[NDArray[np.int32]] | NDArray[np.float32],
        examples: Sequence[ContrastiveExample],
        protected: Set[int],
        rival_questions: bool,
        slice_tokens: int,
        most_tokens: int,
    ) -> None:
        self._engine = engine
        self._encoder = encoder
        self._queries, self._passages = queries, passages
        self._fixed = _tensor(passages, engine) if isinstance(passages, np.ndarray) else None
        self._units = _in_units(examples, by_question=self._fixed is not None)
        self._protected = protected
        self._rival_questions = rival_questions
        self._slice_tokens = slice_tokens
        self._most_tokens = most_tokens

    @property
    def n_units(self) -> int:
        """How many there are of what a batch is made of: examples, or questions where passages are fixed."""
        return len(self._units)

    def gradients(self, batch: Sequence[int]) -> float:
        """Sum the gradients of these units, by place, as one batch; returns the loss.

        When memory runs out, graphs are no longer kept; when it still does, slices are halved.
        """
        from crosstune.out_of_memory import is_out_of_memory

        while True:
            try:
                return self._once([example for i in batch for example in self._units[i]])
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                self._engine.forget_gradients()
                self._spare(error)

    def _spare(self, error: RuntimeError) -> None:
        if self._most_tokens:
            self._most_tokens = 0
        elif self._slice_tokens > self._encoder.max_length:
            self._slice_tokens //= 2
        else:
            raise ConfigError(
                "one text alone does not fit into memory; tune a smaller embedder, or use a machine with more memory"
            ) from error

    def _once(self, examples: Sequence[ContrastiveExample]) -> float:
        import torch

        fixed = self._fixed
        asked = list(dict.fromkeys(e.query for e in examples))
        row = {place: i for i, place in enumerate(asked)}
        rows = torch.tensor([row[e.query] for e in examples])  # (examples,) each one's question
        texts = [self._queries[place] for place in asked]
        if fixed is None:
            places = list(dict.fromkeys(place for e in examples for place in (e.positive, *e.negatives)))
            texts += [self._passages[place] for place in places]
        else:
            places = list(range(len(fixed)))
        column = {place: i for i, place in enumerate(places)}
        positives = torch.tensor([column[e.positive] for e in examples])
        allowed = torch.from_numpy(self._allowed(examples, places, column))
        rivals = None
        if self._rival_questions:
            rivals = torch.tensor([[one.group != other.group for other in examples] for one in examples])
        cut = length_batches([len(text) for text in texts], self._slice_tokens, self._engine.n_workers)
        back = torch.from_numpy(np.argsort(np.concatenate(cut)))  # (texts,) from the slices' order to ours

        def loss(vectors: Tensor) -> Tensor:
            device = vectors.device
            ordered = vectors[back.to(device)]
            passages = ordered[len(asked) :] if fixed is None else fixed
            against = None if rivals is None else rivals.to(device)
            return contrastive_loss(
                ordered[rows.to(device)], passages, positives.to(device), allowed.to(device), against
            )

        slices = [self._encoder.pad([texts[i] for i in batch]) for batch in cut]
        n_tokens = sum(part["input_ids"].numel() for part in slices)
        return self._engine.gradients(slices, loss, twice=n_tokens > self._most_tokens)

    def _allowed(
        self, examples: Sequence[ContrastiveExample], places: Sequence[int], column: Mapping[int, int]
    ) -> NDArray[np.bool_]:
        """(examples, passages) whether a passage stands in the softmax of an example."""
        free = np.array([place not in self._protected for place in places])
        allowed = np.tile(free, (len(examples), 1))
        for row, example in zip(allowed, examples, strict=True):
            row[[column[place] for place in example.never if place in column]] = False
            row[[column[place] for place in (example.positive, *example.negatives)]] = True
        return allowed


def _tensor(vectors: NDArray[np.float32], engine: Engine) -> Tensor:
    """Vectors where the model is, moved there once."""
    import torch

    return torch.from_numpy(vectors).to(next(engine.model.parameters()).device)


def _in_units(examples: Sequence[ContrastiveExample], by_question: bool) -> list[tuple[ContrastiveExample, ...]]:
    """What a batch is made of: single examples, or questions with all of their answers.

    Where passages are fixed a question costs the same with one answer and with ten.
    """
    if not by_question:
        return [(example,) for example in examples]
    units: dict[int, list[ContrastiveExample]] = {}
    for example in examples:
        units.setdefault(example.query, []).append(example)
    return [tuple(unit) for unit in units.values()]


def train_bi_encoder(
    model: Any,
    encoder: TextEncoder,
    queries: Sequence[str],
    passages: Sequence[str] | NDArray[np.float32],
    examples: Sequence[ContrastiveExample],
    protected: Set[int],
    settings: TrainingSettings,
    folder: Path,
    progress: Progress = silent,
    *,
    rival_questions: bool = False,
) -> TrainingResult:
    """Train until the steps are done or the deadline comes; continue a run that was killed. The last weights count.

    A few passes over the pairs do not overfit as a reranker does, so dev is asked once, afterwards, of the ranking.

    Args:
        model: From `load_bi_encoder`, float32; trained in place.
        encoder: Tokenises and pads.
        queries: Texts that the examples name by place.
        passages: Texts; or unit vectors (passages, dimensions) by an encoder that stays as it is. Then the model
            learns to embed questions alone, against every passage and not those of its batch, and an index of these
            vectors stays valid.
        examples: What to learn; a batch has `settings.batch_groups` of them, of fixed passages as many questions.
        protected: Places of passages that are nobody's negative unless mined.
        settings: See `TrainingSettings`; without evaluations, and keeping the last.
        folder: For checkpoints; a folder with complete checkpoints of this run is continued.
        progress: Told of steps.
        rival_questions: Contrast questions with each other, too. Where hardly a passage may be a negative, this is
            all there is to contrast an answer with; where passages may, it brings nothing.

    Raises:
        ConfigError: Fewer than two examples: there would be nothing to compare with.
        MissingExtraError: The extra `train` is not installed.
    """
    if len(examples) < 2:
        raise ConfigError(f"tuning a first stage takes at least 2 questions with an answer, found {len(examples)}")
    require("torch", extra="train", what="training")
    from crosstune.lean import lean_vectors
    from crosstune.training.engine import Engine
    from crosstune.training.loop import run
    from crosstune.training.memory import tokens_at_once

    resume = last_complete_checkpoint(folder)
    best = BestModel(folder, settings, _unasked, lambda step, score: None, resume)
    transformer_of(model).set_attn_implementation(settings.attention)
    device = next(model.parameters()).device
    asked = encoder.queries(queries)
    answers = passages if isinstance(passages, np.ndarray) else encoder.passages(passages)
    read = asked if isinstance(answers, np.ndarray) else [*asked, *answers]
    engine = Engine(model, settings.precision, token_ids(read), lean_vectors(model))
    most_tokens = tokens_at_once(transformer_of(model).config, device, settings.precision, encoder.max_length)
    batches = ContrastiveBatches(
        engine, encoder, asked, answers, examples, protected, rival_questions, slice_tokens(device.type), most_tokens
    )
    outcome = run(
        engine=engine,
        gradients=batches.gradients,
        # Batches at random: in-batch negatives of like length would teach length.
        sampler=LengthGroupedSampler([0] * batches.n_units, settings.batch_groups, settings.n_steps, settings.seed),
        best=best,
        settings=settings,
        folder=folder,
        resume=resume,
        progress=progress,
    )
    return result(model, best, outcome, settings)


def _unasked(model: Any) -> float:
    raise ConfigError("a bi-encoder is tuned without dev evaluations: set n_evaluations to 0")
