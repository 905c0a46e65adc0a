"""Fine-tune a reranker on your own questions and answers, prove whether ranking got better, and search with it.

Names are loaded when first used: `import crosstune` imports nothing heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crosstune.data.load import load
    from crosstune.data.nli import build_nli_pairs, read_qa_dict
    from crosstune.data.settings import LoadSettings, SplitSettings
    from crosstune.errors import CrosstuneError
    from crosstune.recipes.blog import tune_blog
    from crosstune.recipes.check import check
    from crosstune.recipes.evaluate import evaluate_model
    from crosstune.recipes.index import IndexSettings, index
    from crosstune.recipes.search import Pipeline, open_pipeline
    from crosstune.recipes.settings import TuneSettings
    from crosstune.recipes.tune import tune
    from crosstune.retrieval.packing import pack
    from crosstune.retrieval.stores import open_store
    from crosstune.scoring.reranker import Reranker
    from crosstune.training.mse import MSEEvaluator

__version__ = "0.1.0"

_HOME = {
    "CrosstuneError": "crosstune.errors",
    "IndexSettings": "crosstune.recipes.index",
    "LoadSettings": "crosstune.data.settings",
    "MSEEvaluator": "crosstune.training.mse",
    "Pipeline": "crosstune.recipes.search",
    "Reranker": "crosstune.scoring.reranker",
    "SplitSettings": "crosstune.data.settings",
    "TuneSettings": "crosstune.recipes.settings",
    "build_nli_pairs": "crosstune.data.nli",
    "check": "crosstune.recipes.check",
    "evaluate_model": "crosstune.recipes.evaluate",
    "index": "crosstune.recipes.index",
    "load": "crosstune.data.load",
    "open_pipeline": "crosstune.recipes.search",
    "open_store": "crosstune.retrieval.stores",
    "pack": "crosstune.retrieval.packing",
    "read_qa_dict": "crosstune.data.nli",
    "tune": "crosstune.recipes.tune",
    "tune_blog": "crosstune.recipes.blog",
}

__all__ = [
    "CrosstuneError",
    "IndexSettings",
    "LoadSettings",
    "MSEEvaluator",
    "Pipeline",
    "Reranker",
    "SplitSettings",
    "TuneSettings",
    "build_nli_pairs",
    "check",
    "evaluate_model",
    "index",
    "load",
    "open_pipeline",
    "open_store",
    "pack",
    "read_qa_dict",
    "tune",
    "tune_blog",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'crosstune' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
