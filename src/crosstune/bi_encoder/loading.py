"""A bi-encoder from disk, by sentence-transformers and without foreign code."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal

from crosstune.checkpoints import Checkpoint, quiet_transformers, routed_types, write_passages_revision
from crosstune.errors import CheckpointError
from crosstune.extras import require

Role = Literal["query", "document"]

# Models that were trained with an instruction before the question and whose files do not say so. From their cards.
_QUERY_PROMPTS = (
    (r"bge-(small|base|large)-en", "Represent this sentence for searching relevant passages: "),
    (r"bge-(small|base|large)-zh", "为这个句子生成表示以用于检索相关文章："),
)


def load_bi_encoder(checkpoint: Checkpoint, device: str | None = None) -> Any:
    """Load a sentence-transformers model, or a bare encoder, which gets mean pooling.

    Args:
        checkpoint: The model on disk.
        device: For example "cpu" or "cuda"; None is the GPU when there is one.

    Returns:
        `sentence_transformers.SentenceTransformer`, with the query prompt that the model was trained with.

    Raises:
        CheckpointError: The folder is no model that sentence-transformers reads, or needs code of its own.
        MissingExtraError: sentence-transformers is not installed.
    """
    _refuse_foreign_code(checkpoint)
    library = require("sentence_transformers", extra="train", what="dense retrieval")
    try:
        with quiet_transformers():
            model = library.SentenceTransformer(
                str(checkpoint.path), device=device, local_files_only=True, trust_remote_code=False
            )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"embedding model {checkpoint.name!r} cannot be loaded by sentence-transformers: {error}; give a "
            'complete sentence-transformers folder, or "embedded"'
        ) from error
    if not model.prompts.get("query"):
        for pattern, prompt in _QUERY_PROMPTS:
            # By the model's own name: the folders above it are the user's.
            if re.search(pattern, Path(checkpoint.name).name.lower()):
                model.prompts["query"] = prompt
    return model


def side_of(model: Any, role: Role) -> Any:
    """The bi-encoder that embeds questions, or the one that embeds passages: mostly the model itself for both.

    Raises:
        CheckpointError: The model has routes, but none for this role.
    """
    routes = getattr(model[0], "sub_modules", None)
    if routes is None:
        return model
    if role not in routes:
        raise CheckpointError(f"an embedding model with the routes {', '.join(routes)} has none for {role!r}")
    library = require("sentence_transformers", extra="train", what="dense retrieval")
    return library.SentenceTransformer(
        modules=[*routes[role], *list(model)[1:]],
        device=str(model.device),
        prompts=model.prompts,
        default_prompt_name=model.default_prompt_name,
    )


def save_two_sides(questions: Any, passages: Any, folder: Path, passages_revision: str) -> None:
    """Save a bi-encoder whose questions and passages are embedded by an encoder each, as sentence-transformers' Router.

    Args:
        questions, passages: From `load_bi_encoder`; prompts are those of the second.
        folder: Where to.
        passages_revision: Of the second: an index made with it is an index made with this model.
    """
    library = require("sentence_transformers", extra="train", what="dense retrieval")
    from sentence_transformers.models import Router

    router = Router.for_query_document(list(questions), list(passages))
    model = library.SentenceTransformer(
        modules=[router], device="cpu", prompts=passages.prompts, default_prompt_name=passages.default_prompt_name
    )
    with quiet_transformers():
        model.save_pretrained(str(folder))
    write_passages_revision(folder, passages_revision)


def transformer_of(model: Any) -> Any:
    """The transformers model: of a bi-encoder the one inside, of any other model itself."""
    return model[0].auto_model if hasattr(model, "encode_query") else model


def without_dropout(model: Any) -> None:
    """Turn dropout off for training too: its random numbers cost half a step on a CPU."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    # What attention reads instead of a module.
    for key in ("attention_probs_dropout_prob", "attention_dropout"):
        if hasattr(transformer_of(model).config, key):
            setattr(transformer_of(model).config, key, 0.0)


def _refuse_foreign_code(checkpoint: Checkpoint) -> None:
    """Older sentence-transformers run Python files of a local model folder without asking."""
    path = checkpoint.path / "modules.json"
    if not path.is_file():
        return
    try:
        types = [str(module["type"]) for module in json.loads(path.read_text(encoding="utf-8"))]
        types += routed_types(checkpoint.path).values()
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"embedding model {checkpoint.name!r}: modules.json is damaged: {error}") from error
    foreign = [name for name in types if not name.startswith("sentence_transformers.")]
    if foreign:
        raise CheckpointError(
            f"embedding model {checkpoint.name!r} needs code of its own ({', '.join(foreign)}), which "
            "is never run; choose a model made of sentence-transformers' own modules"
        )
