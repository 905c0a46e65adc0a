"""The model folder we ship: a plain transformers model plus `crosstune.json`, which says how to use its scores.

The folder loads as it is in transformers and in sentence-transformers' `CrossEncoder`; there its scores are the same
logits, since the saved activation is the identity.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from crosstune.artefacts import usable_artefacts
from crosstune.checkpoints import quiet_transformers, weights_of
from crosstune.errors import BundleError
from crosstune.known_questions import KnownQuestions
from crosstune.types import Calibration, Fusion, Part, Reading, ScoreKind

MANIFEST = "crosstune.json"
_FORMAT = 3
BI_ENCODER = "bi-encoder"
# What the settings of a model folder say of a cross-encoder that is the base as it came.
UNTUNED = "the base, not tuned"
# In a folder of its own: safetensors files beside the cross-encoder are its weights.
_KNOWN_QUESTIONS = "known-questions/vectors.safetensors"


@dataclass(frozen=True, slots=True)
class ModelBundle:
    """What is known of a saved model.

    Attributes:
        path: The folder.
        max_length: Most tokens of a pair.
        score_kind: What the cross-encoder's raw score means.
        base_model, base_revision: What the cross-encoder was tuned from.
        data_fingerprint: SHA-256 of the data it was tuned on.
        precision: Precision it was judged in, "fp32" or "bf16".
        calibration: The cross-encoder's logit to probability, and the no-answer threshold.
        fusion: The ranking that was judged and is recommended; None for the cross-encoder alone.
        settings: Resolved settings of the run.
        versions: Package versions.
    """

    path: Path
    max_length: int
    score_kind: ScoreKind
    base_model: str
    base_revision: str
    data_fingerprint: str
    precision: str
    calibration: Calibration
    fusion: Fusion | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def has_cross_encoder(self) -> bool:
        """Whether the folder holds the cross-encoder: its weights, or an export for a machine without torch."""
        return any(self.path.glob("*.safetensors")) or bool(usable_artefacts(self.path))

    @property
    def is_untuned(self) -> bool:
        """Whether the cross-encoder is the base as it came."""
        return self.settings.get("cross_encoder") == UNTUNED

    @property
    def bi_encoder(self) -> Path | None:
        """Folder of the tuned bi-encoder, in sentence-transformers' format; None when it is not there."""
        folder = self.path / BI_ENCODER
        return folder if weights_of(folder) else None

    @property
    def known_questions(self) -> Path | None:
        """File of the known questions; None when it is not there."""
        path = self.path / _KNOWN_QUESTIONS
        return path if path.is_file() else None


def save_bundle(
    bundle: ModelBundle,
    cross_encoder: tuple[Any, Any] | None,
    bi_encoder: Path | None = None,
    known: KnownQuestions | None = None,
) -> None:
    """Write models and manifest to `bundle.path`; a folder that is there is replaced once all is written.

    The cross-encoder lies in the folder itself, where sentence-transformers and transformers load it; the bi-encoder in
    `bi-encoder/`, where sentence-transformers loads that.

    Args:
        bundle: What to say of the models.
        cross_encoder: transformers sequence-classification model, saved in float32 safetensors, and its tokenizer,
            saved with the bundle's maximum length, so that other libraries cut passages alike.
        bi_encoder: Folder to copy it from.
        known: Known questions, as this bi-encoder embeds them.
    """
    temporary = bundle.path.with_name(bundle.path.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    if cross_encoder is not None:
        model, tokenizer = cross_encoder
        # sentence-transformers applies a sigmoid to one-label models unless the config says otherwise.
        model.config.sentence_transformers = {"activation_fn": "torch.nn.modules.linear.Identity"}
        tokenizer.model_max_length = bundle.max_length
        with quiet_transformers():
            model.float().save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
    if bi_encoder is not None:
        shutil.copytree(bi_encoder, temporary / BI_ENCODER)
    if known is not None:
        path = temporary / _KNOWN_QUESTIONS
        path.parent.mkdir()
        known.save(path)
    (temporary / MANIFEST).write_text(json.dumps(_to_json(bundle), indent=2, ensure_ascii=False), encoding="utf-8")
    _replace_folder(temporary, bundle.path)


def _replace_folder(new: Path, target: Path) -> None:
    """Two renames: a kill between them leaves both the old and the new folder whole, never half of one."""
    old = target.with_name(target.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        os.replace(target, old)
    os.replace(new, target)
    shutil.rmtree(old, ignore_errors=True)


def load_bundle(path: str | Path) -> ModelBundle:
    """Read the manifest of a model folder.

    Args:
        path: The model folder, or the run folder that holds it as `model/`.

    Raises:
        BundleError: No such folder, no manifest, a damaged one, or one of another format.
    """
    folder = Path(path)
    if not (folder / MANIFEST).is_file() and (folder / "model" / MANIFEST).is_file():
        folder = folder / "model"
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BundleError(
            f"{path}: not a crosstune model folder ({MANIFEST} is not there); give the folder model/ that "
            "`crosstune tune` wrote, or the --out folder it is in"
        ) from error
    except ValueError as error:
        raise BundleError(
            f"{folder / MANIFEST}: not valid JSON ({error}); the folder is damaged, tune again"
        ) from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != _FORMAT:
        raise BundleError(
            f"{folder / MANIFEST}: format {found!r}, this crosstune reads format {_FORMAT}; "
            "use the version of crosstune that wrote it, or tune again"
        )
    try:
        bundle = _from_json(content, folder)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{folder / MANIFEST}: a field is missing or wrong ({error}); tune again") from error
    if not bundle.has_cross_encoder and bundle.bi_encoder is None:
        raise BundleError(f"{folder}: the model's weights (.safetensors) are not there; copy them back or tune again")
    return bundle


def _to_json(bundle: ModelBundle) -> dict[str, Any]:
    content = asdict(bundle)
    del content["path"]
    if bundle.fusion is not None:
        content["fusion"]["weights"] = _by_name(bundle.fusion.weights)
        if bundle.fusion.reading is not None:
            content["fusion"]["reading"]["weights"] = _by_name(bundle.fusion.reading.weights)
    return {"format": _FORMAT, **content, "score_kind": bundle.score_kind.value}


def _by_name(weights: Mapping[Part, float]) -> dict[str, float]:
    return {part.value: weight for part, weight in weights.items()}


def _from_json(content: dict[str, Any], folder: Path) -> ModelBundle:
    fields = {key: value for key, value in content.items() if key != "format"}
    fields["score_kind"] = ScoreKind(fields["score_kind"])
    fields["calibration"] = _calibration(fields["calibration"])
    if not (isinstance(fields["max_length"], int) and fields["max_length"] > 0):
        raise ValueError(f"max_length {fields['max_length']!r}")
    fields["fusion"] = None if fields["fusion"] is None else _fusion(fields["fusion"])
    return ModelBundle(path=folder, **fields)


def _calibration(content: dict[str, Any]) -> Calibration:
    calibration = Calibration(**content)
    # A comparison with a wrong type raises TypeError, which is reported like a wrong value.
    if not (calibration.temperature > 0 and 0 <= calibration.threshold <= 1 and math.isfinite(calibration.bias)):
        raise ValueError(f"calibration {content}")
    return calibration


def _fusion(content: dict[str, Any]) -> Fusion:
    weights = _weights(content["weights"])
    if not weights:
        raise ValueError("fusion without weights")
    scale, reading = content["calibration"], content["reading"]
    read = {
        "weights": weights,
        "calibration": None if scale is None else _calibration(scale),
        "reading": None if reading is None else _reading(reading),
    }
    return Fusion(**content | read)


def _reading(content: dict[str, Any]) -> Reading:
    weights = _weights(content["weights"])
    if not (isinstance(content["n"], int) and content["n"] > 0) or Part.CROSS_ENCODER in weights:
        raise ValueError(f"fusion reading {content}")
    return Reading(**content | {"weights": weights})


def _weights(content: dict[str, float]) -> dict[Part, float]:
    weights = {Part(name): weight for name, weight in content.items()}
    if not all(weight > 0 and math.isfinite(weight) for weight in weights.values()):
        raise ValueError(f"fusion weights {content}")
    return weights
