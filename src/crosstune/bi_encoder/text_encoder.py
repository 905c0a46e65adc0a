"""Texts to token ids with special tokens, and ids to padded tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosstune.bi_encoder.loading import side_of

_TEXTS_PER_CALL = 2048


class TextEncoder:
    """Tokenises as the model's own `encode` does, prompts included.

    Args:
        model: From `load_bi_encoder`.
        max_length: Most tokens of a text; the model's own limit when that is less, or when None.
    """

    def __init__(self, model: Any, max_length: int | None = None) -> None:
        passages = side_of(model, "document")
        limits = [limit for limit in (max_length, passages.max_seq_length) if limit is not None]
        self.max_length = min(limits, default=512)
        self._tokenizer = passages.tokenizer  # questions are read by the same one
        self._query_prompt, self._passage_prompt = (_prompt(model, "query"), _prompt(model, "document"))

    def queries(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Token ids of questions, after the model's prompt."""
        return self._ids([self._query_prompt + text for text in texts])

    def passages(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Token ids of passages, after the model's prompt."""
        return self._ids([self._passage_prompt + text for text in texts])

    def _ids(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        found: list[NDArray[np.int32]] = []
        for start in range(0, len(texts), _TEXTS_PER_CALL):
            # Half a surrogate pair, as cut JSON has it, would stop the tokenizer: it becomes a question mark.
            block = [text.encode("utf-8", "replace").decode("utf-8") for text in texts[start : start + _TEXTS_PER_CALL]]
            encoded = self._tokenizer(block, truncation=True, max_length=self.max_length, padding=False)
            found.extend(np.array(ids, np.int32) for ids in encoded["input_ids"])
        return found

    def pad(self, texts: Sequence[NDArray[np.int32]]) -> dict[str, Any]:
        """Tensors (texts, longest) for the model."""
        import torch

        longest = max(len(ids) for ids in texts)
        ids = np.full((len(texts), longest), self._tokenizer.pad_token_id, np.int64)
        mask = np.zeros((len(texts), longest), np.int64)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = text
            mask[row, : len(text)] = 1
        tensors = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        if "token_type_ids" in self._tokenizer.model_input_names:
            tensors["token_type_ids"] = torch.zeros_like(tensors["input_ids"])
        return tensors


def _prompt(model: Any, role: str) -> str:
    """What `encode_query` or `encode_document` puts before a text."""
    name = role if role in model.prompts else model.default_prompt_name
    return str(model.prompts.get(name, "")) if name else ""
