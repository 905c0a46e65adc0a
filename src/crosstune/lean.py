"""The same results from fewer operations: a forward pass for BERT and RoBERTa rerankers and bi-encoders.

Four things are saved against the model's own `forward`, none of which changes what is computed:

- a reranker's last layer is computed for the first token alone, the only one that the head reads: a sixth of that
  layer's work is left (keys and values of the other tokens), 14% of a 6-layer model's;
- query, key and value come from one matrix product;
- nothing is built that the head does not need (masks in several shapes, hidden states, output objects);
- on a GPU with 16-bit layers padding is left out: tokens of all texts stand one behind the other, and attention is
  told where each text ends.

Other families (ModernBERT, DistilBERT, ...) run their own `forward`.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # torch before 2.10 computes with padding
    varlen_attn = None  # type: ignore[assignment]

# Families whose layers are BERT's: one attention block, one feed-forward block, normalised after each.
_FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert")
# Added to the scores of padding: exp of it is 0 in float32 and bfloat16, and it fits float16.
_PADDED = -30000.0


class WordRows(nn.Module):
    """Some rows of a word embedding as a table of their own, for training that sees no other words.

    A multilingual model has 250,000 rows, of which a user's data needs a few thousand: gradients and optimizer state
    of the others would be most of the work of a step and most of its memory.

    Args:
        table: (vocabulary, width) the whole embedding; not changed until `publish`.
        used: (rows,) token ids, each once.
    """

    def __init__(self, table: Tensor, used: Tensor) -> None:
        super().__init__()
        self.table, self._used = table, used
        self.weight = nn.Parameter(table.detach()[used].clone())  # (rows, width)
        self.places = torch.zeros(len(table), dtype=torch.long, device=table.device)
        self.places[used] = torch.arange(len(used), device=table.device)

    def publish(self) -> None:
        """Write the rows back into the whole table."""
        with torch.no_grad():
            self.table[self._used] = self.weight

    def recall(self) -> None:
        """Read the rows from the whole table, after it was loaded."""
        with torch.no_grad():
            self.weight.copy_(self.table[self._used])


def lean(model: nn.Module) -> nn.Module:
    """A module `(input_ids, attention_mask, token_type_ids=None) -> logits (pairs,)` over a model's own weights.

    Weights are shared, not copied: training the one trains the other.

    Args:
        model: transformers sequence-classification model with one logit.
    """
    return Lean(model) if _is_plain(model.config) else _AsItIs(model)


def lean_vectors(model: nn.Module) -> nn.Module:
    """A module `(input_ids, attention_mask, token_type_ids=None) -> vectors (texts, dimensions)`, weights shared.

    Args:
        model: sentence-transformers bi-encoder whose first module is a transformer.
    """
    return LeanVectors(model) if _is_plain(_transformer(model).config) else _VectorsAsTheyAre(model)


def _is_plain(config: Any) -> bool:
    return (
        config.model_type in _FAMILIES
        and not getattr(config, "is_decoder", False)
        and getattr(config, "position_embedding_type", "absolute") in ("absolute", None)
    )


def _transformer(model: nn.Module) -> Any:
    """The transformers model inside a bi-encoder."""
    return model[0].auto_model  # type: ignore[index]


class _AsItIs(nn.Module):
    """The model's own forward."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        logits: Tensor = self.model(**inputs).logits[:, 0]
        return logits


class _VectorsAsTheyAre(nn.Module):
    """The bi-encoder's own forward."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        features = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            features["token_type_ids"] = token_type_ids
        vectors: Tensor = self.model(features)["sentence_embedding"]
        return vectors


@dataclass(frozen=True, slots=True)
class _Packing:
    """How the tokens of padded texts stand one behind the other, without padding.

    Attributes:
        places: (tokens,) where each stands in the padded texts, flattened.
        bounds: (texts + 1,) where each text begins, and where the last one ends; int32.
        longest: Tokens of the longest text, or more.
    """

    places: Tensor
    bounds: Tensor
    longest: int

    @classmethod
    def of(cls, attention_mask: Tensor) -> _Packing:
        """Of a mask (texts, tokens)."""
        bounds = functional.pad(attention_mask.sum(1).cumsum(0), (1, 0)).to(torch.int32)
        return cls(attention_mask.flatten().nonzero()[:, 0], bounds, attention_mask.shape[1])

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attention within each text.

        Args:
            query: (tokens or texts, heads, width of a head); as many as there are texts are those of first tokens.
            key, value: (tokens, heads, width of a head).
        """
        if len(query) == len(key):
            return varlen_attn(query, key, value, self.bounds, self.bounds, self.longest, self.longest)  # type: ignore[return-value]
        first = torch.arange(len(self.bounds), dtype=torch.int32, device=query.device)
        return varlen_attn(query, key, value, first, self.bounds, 1, self.longest)  # type: ignore[return-value]


class LeanLayers(nn.Module):
    """Embeddings and layers of a BERT or RoBERTa encoder.

    Args:
        encoder: transformers model without a head.

    Attributes:
        encoder: The same; a copy of it may be put in its place.
        rows: When set, word embeddings are looked up here; every token id but padding must be among its rows.
    """

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder
        config: Any = encoder.config
        self._n_heads = int(config.num_attention_heads)
        self._dropout = float(config.attention_probs_dropout_prob)
        self._roberta = config.model_type != "bert"
        self._padding = int(config.pad_token_id or 0)
        self.rows: WordRows | None = None

    def _hidden(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None, first_only: bool
    ) -> Tensor:
        """The last layer's output (texts, tokens, width), of the first token alone (texts, 1, width) if asked."""
        if self._roberta:  # Positions count on from the padding index.
            positions = attention_mask.cumsum(1) * attention_mask + self._padding
        else:
            positions = torch.ones_like(input_ids).cumsum(1) - 1
        types = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        if self._packs():
            return self._packed(_Packing.of(attention_mask), input_ids, positions, types, first_only)
        hidden = self._embed(input_ids, positions, types)  # (texts, tokens, width)
        bias = self._bias(attention_mask, hidden.dtype)
        *layers, last = self.encoder.encoder.layer
        for layer in layers:
            hidden = self._layer(layer, hidden, hidden, bias)
        return self._layer(last, hidden[:, :1] if first_only else hidden, hidden, bias)

    def _packs(self) -> bool:
        """Whether padding is left out: the kernel wants 16 bits and a GPU of 2020 or later, and knows no dropout."""
        weight = self.encoder.encoder.layer[0].intermediate.dense.weight
        return (
            varlen_attn is not None
            and weight.device.type == "cuda"
            and weight.dtype in (torch.bfloat16, torch.float16)
            and torch.cuda.get_device_capability(weight.device) >= (8, 0)
            and not (self.training and self._dropout)
            and self.encoder.config._attn_implementation != "eager"
        )

    def _packed(
        self, packing: _Packing, input_ids: Tensor, positions: Tensor, types: Tensor, first_only: bool
    ) -> Tensor:
        """What `_hidden` gives, with zeros for padding."""
        ids, positions, types = (tensor.flatten()[packing.places] for tensor in (input_ids, positions, types))
        hidden = self._embed(ids, positions, types)  # (tokens of all texts, width)
        *layers, last = self.encoder.encoder.layer
        for layer in layers:
            hidden = self._layer(layer, hidden, hidden, packing)
        if first_only:
            return self._layer(last, hidden[packing.bounds[:-1]], hidden, packing)[:, None]
        hidden = self._layer(last, hidden, hidden, packing)
        padded = hidden.new_zeros(input_ids.numel(), hidden.shape[1]).index_copy(0, packing.places, hidden)
        return padded.view(*input_ids.shape, -1)

    def _embed(self, input_ids: Tensor, positions: Tensor, types: Tensor) -> Tensor:
        """What the first layer reads (..., width), of ids of any shape."""
        parts = self.encoder.embeddings
        hidden = self._words(input_ids) + parts.position_embeddings(positions)
        hidden = parts.LayerNorm(hidden + parts.token_type_embeddings(types))
        # The layers may be in bfloat16 while the embeddings stay in float32.
        return parts.dropout(hidden).to(self.encoder.encoder.layer[0].intermediate.dense.weight.dtype)  # type: ignore[no-any-return]

    def _words(self, input_ids: Tensor) -> Tensor:
        if self.rows is None:
            return self.encoder.embeddings.word_embeddings(input_ids)  # type: ignore[no-any-return]
        return functional.embedding(self.rows.places[input_ids], self.rows.weight)

    def _bias(self, attention_mask: Tensor, dtype: torch.dtype) -> Tensor | None:
        """What is added to the attention scores (pairs, 1, 1, tokens); None when nothing is padded."""
        if not torch.onnx.is_in_onnx_export() and bool(attention_mask.all()):  # A graph must work with padding, too.
            return None
        return (1.0 - attention_mask[:, None, None, :].to(dtype)) * _PADDED

    def _layer(self, layer: Any, queried: Tensor, hidden: Tensor, among: Tensor | _Packing | None) -> Tensor:
        """One layer's output for the tokens `queried`, which look at all of `hidden` that belong to their text.

        Args:
            layer: Of the encoder.
            queried, hidden: (texts, tokens, width), or (tokens, width) when packed.
            among: What tells the texts' own tokens: the bias of padding, None without padding, or the packing.
        """
        context = self._attend(layer.attention.self, queried, hidden, among)
        queried = layer.attention.output(context, queried)
        return layer.output(layer.intermediate(queried), queried)  # type: ignore[no-any-return]

    def _attend(self, attention: Any, queried: Tensor, hidden: Tensor, among: Tensor | _Packing | None) -> Tensor:
        projections = (attention.query, attention.key, attention.value)
        if queried is hidden:
            weight = torch.cat([projection.weight for projection in projections])
            joined = functional.linear(hidden, weight, torch.cat([projection.bias for projection in projections]))
            parts = joined.chunk(3, dim=-1)
        else:
            parts = (attention.query(queried), attention.key(hidden), attention.value(hidden))
        query, key, value = (part.view(*part.shape[:-1], self._n_heads, -1) for part in parts)
        if isinstance(among, _Packing):
            return among.attend(query, key, value).flatten(1)
        return self._attend_padded(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), among)

    def _attend_padded(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
        """(texts, tokens, width) from three of (texts, heads, tokens, width of a head)."""
        dropout = self._dropout if self.training else 0.0
        # Which is faster depends on the machine and on whether there is a backward pass: it is measured.
        if self.encoder.config._attn_implementation == "eager":
            scores = torch.matmul(query * query.shape[-1] ** -0.5, key.transpose(-1, -2))
            weights = (scores if bias is None else scores + bias).softmax(-1)
            context = torch.matmul(functional.dropout(weights, dropout, self.training), value)
        else:
            context = functional.scaled_dot_product_attention(query, key, value, bias, dropout)
        return context.transpose(1, 2).flatten(2)


def bf16_layers(forward: LeanLayers) -> tuple[LeanLayers, list[tuple[nn.Parameter, nn.Parameter]]]:
    """The same pass over bfloat16 copies of the layers, and (float32, bfloat16) of their parameters.

    Embeddings and head stay the model's own.
    """
    replica, encoder = copy.copy(forward), copy.copy(forward.encoder)
    replica._modules, encoder._modules = dict(forward._modules), dict(forward.encoder._modules)
    encoder._modules["encoder"] = copy.deepcopy(forward.encoder.encoder).to(torch.bfloat16)
    replica.encoder = encoder
    originals = forward.encoder.encoder.parameters()
    return replica, list(zip(originals, encoder.encoder.parameters(), strict=True))


class Lean(LeanLayers):
    """A reranker: the layers, the last one for the first token alone, and the head."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(getattr(model, model.base_model_prefix))  # type: ignore[call-overload]
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Logits (pairs,) of padded pairs (pairs, tokens)."""
        first = self._hidden(input_ids, attention_mask, token_type_ids, first_only=True)  # (pairs, 1, width)
        return self._head(first)[:, 0]

    def _head(self, first: Tensor) -> Tensor:
        """Logits (pairs, 1) from the first token."""
        model: Any = self.model
        dense = model.classifier.dense if self._roberta else self.encoder.pooler.dense
        first = first.to(dense.weight.dtype)
        if self._roberta:
            return model.classifier(first)  # type: ignore[no-any-return]
        return model.classifier(model.dropout(self.encoder.pooler(first)))  # type: ignore[no-any-return]


class LeanVectors(LeanLayers):
    """A bi-encoder: the layers, then the modules (pooling, normalisation, ...) that the model ends with."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(_transformer(model))
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Vectors (texts, dimensions) of padded texts (texts, tokens)."""
        hidden = self._hidden(input_ids, attention_mask, token_type_ids, first_only=False)
        # Pooled in float32: a mean of hundreds of bfloat16 values would lose what tells neighbours apart.
        features: dict[str, Any] = {"token_embeddings": hidden.float(), "attention_mask": attention_mask}
        for module in list(self.model)[1:]:  # type: ignore[call-overload]
            features = module(features)
        return features["sentence_embedding"]  # type: ignore[no-any-return]
