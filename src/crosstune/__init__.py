"""Fine-tune a reranker on your own questions and answers, and prove whether ranking got better.

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
    from crosstune.recipes.settings import TuneSettings
    from crosstune.recipes.tune import tune
    from crosstune.scoring.reranker import Reranker
    from crosstune.training.mse import MSEEvaluator

__version__ = "0.1.0"

_HOME = {
    "CrosstuneError": "crosstune.errors",
    "LoadSettings": "crosstune.data.settings",
    "MSEEvaluator": "crosstune.training.mse",
    "Reranker": "crosstune.scoring.reranker",
    "SplitSettings": "crosstune.data.settings",
    "TuneSettings": "crosstune.recipes.settings",
    "build_nli_pairs": "crosstune.data.nli",
    "check": "crosstune.recipes.check",
    "evaluate_model": "crosstune.recipes.evaluate",
    "load": "crosstune.data.load",
    "read_qa_dict": "crosstune.data.nli",
    "tune": "crosstune.recipes.tune",
    "tune_blog": "crosstune.recipes.blog",
}

__all__ = [
    "CrosstuneError",
    "LoadSettings",
    "MSEEvaluator",
    "Reranker",
    "SplitSettings",
    "TuneSettings",
    "build_nli_pairs",
    "check",
    "evaluate_model",
    "load",
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
