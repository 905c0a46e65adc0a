"""A RedisVL semantic cache whose hits count only when a tuned model agrees."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from crosstune.errors import ConfigError
from crosstune.integrations.ranking import Model, check, opened, probabilities

if TYPE_CHECKING:
    from redisvl.extensions.cache.llm import SemanticCache

_JUDGED = ("prompt", "response")


class GatedSemanticCache:
    """Near in vector space is not the same question: a cross-encoder reads both and decides.

    The cache refreshes the time to live of all that it finds, also of hits that are then refused.

    Args:
        cache: The cache; answers are stored through it as before.
        model: A model folder, its run folder, or a loaded `Reranker`; it must have a cross-encoder.
        threshold: Least calibrated probability of a hit; None is the model's own no-answer threshold.
        judged: What the prompt is read together with: the hit's "prompt", for a model tuned on pairs of questions, or
            its "response", for a model tuned on questions and answers.

    Raises:
        BundleError: The model has no cross-encoder.
        ConfigError: No such threshold, or nothing of that name to judge.
    """

    def __init__(
        self, cache: SemanticCache, model: Model, threshold: float | None = None, judged: str = "prompt"
    ) -> None:
        check(None, threshold)
        if judged not in _JUDGED:
            raise ConfigError(f"a hit is judged by its prompt or its response, found {judged!r}")
        self.cache = cache
        self._reranker = opened(model)
        self._reranker.scorer  # noqa: B018 - a model without a cross-encoder is told now
        self._threshold = self._reranker.bundle.calibration.threshold if threshold is None else threshold
        self._judged = judged

    def check(self, prompt: str, *, return_fields: list[str] | None = None, **options: Any) -> list[dict[str, Any]]:
        """Hits that the model agrees with, the most probable first, each with its `rerank_probability`.

        Args:
            prompt: The question; a vector alone cannot be read.
            return_fields, options: As of `SemanticCache.check`. With `num_results` above 1 a hit that is not the
                nearest can be the one.
        """
        hits = self.cache.check(prompt, return_fields=self._with_judged(return_fields), **options)
        return self._agreed(prompt, hits, return_fields)

    async def acheck(
        self, prompt: str, *, return_fields: list[str] | None = None, **options: Any
    ) -> list[dict[str, Any]]:
        """As `check`; the model reads in a worker thread."""
        hits = await self.cache.acheck(prompt, return_fields=self._with_judged(return_fields), **options)
        return await asyncio.to_thread(self._agreed, prompt, hits, return_fields)

    def _with_judged(self, return_fields: list[str] | None) -> list[str] | None:
        return [*return_fields, self._judged] if return_fields else return_fields

    def _agreed(self, prompt: str, hits: list[dict[str, Any]], return_fields: list[str] | None) -> list[dict[str, Any]]:
        if not hits:
            return []
        found = probabilities(self._reranker, prompt, [hit[self._judged] for hit in hits])
        agreed = [(p, hit) for p, hit in zip(found, hits, strict=True) if p >= self._threshold]
        agreed.sort(key=lambda pair: -pair[0])
        unasked = set() if not return_fields or self._judged in return_fields else {self._judged}
        return [
            {name: value for name, value in hit.items() if name not in unasked} | {"rerank_probability": probability}
            for probability, hit in agreed
        ]
