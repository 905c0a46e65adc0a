"""Tiny models of each family and a tiny corpus. Everything is made here, with fixed seeds and no network."""

import hashlib
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace

import pytest

from crosstune.types import Collection, Passage, Query

# Four topics of five passages: one that answers, one that half answers, and the rest of the topic.
TOPICS = {
    "password": "reset your password with the link that we mail to you",
    "invoice": "download the invoice of every month in the billing page",
    "refund": "a refund is paid to your card after thirty days",
    "export": "export the report as a table with the menu on top",
}
_DETAILS = ("", " plan basic", " plan team", " on the phone", " for guests")
QUESTIONS = {
    "q1": ("password", "how do I reset my password"),
    "q2": ("password", "link to reset a lost password"),
    "q3": ("invoice", "where is the invoice of this month"),
    "q4": ("invoice", "download an invoice"),
    "q5": ("refund", "when is my refund paid"),
    "q6": ("refund", "refund to a card"),
    "q7": ("export", "how do I export a report"),
    "q8": ("export", "export report as table"),
}
LLM_KEY = "sk-very-secret-0123456789"
FAMILIES = ("bert", "xlm-roberta", "modernbert", "distilbert")


@pytest.fixture(scope="session")
def corpus() -> Collection:
    """20 passages and 8 questions: the topic's first passage has relevance 2, its second 1, its third 0."""
    passages = {
        f"{topic}-{i}": Passage(f"{topic}-{i}", text + detail)
        for topic, text in TOPICS.items()
        for i, detail in enumerate(_DETAILS)
    }
    queries = {query_id: Query(query_id, text) for query_id, (_, text) in QUESTIONS.items()}
    qrels = {
        query_id: {f"{topic}-0": 2, f"{topic}-1": 1, f"{topic}-2": 0} for query_id, (topic, _) in QUESTIONS.items()
    }
    return Collection(passages, queries, qrels, hashlib.sha256(b"tiny corpus").hexdigest())


def _texts() -> list[str]:
    return [text + detail for text in TOPICS.values() for detail in _DETAILS] + [q for _, q in QUESTIONS.values()]


@pytest.fixture(scope="session")
def one_thread() -> None:
    """Models this small only wait for each other on several threads."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def families(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """family -> folder of a two-layer reranker (one logit) with its fast tokenizer."""
    return {family: _save(tmp_path_factory.mktemp("models") / family, family) for family in FAMILIES}


@pytest.fixture(scope="session")
def bert(families: dict[str, Path]) -> Path:
    """Folder of the two-layer BERT reranker."""
    return families["bert"]


@pytest.fixture(scope="session")
def bare_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a two-layer BERT without a head."""
    return _save(tmp_path_factory.mktemp("models") / "bare", "bert", head="none")


@pytest.fixture(scope="session")
def two_label_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a two-layer BERT classifier with two labels."""
    return _save(tmp_path_factory.mktemp("models") / "two", "bert", head="two labels")


def _save(folder: Path, family: str, head: str = "one logit") -> Path:
    import torch
    import transformers

    from crosstune.checkpoints import quiet_transformers

    tokenizer = _TOKENIZERS[family]()
    config = _config(family, tokenizer)
    config.num_labels = 2 if head == "two labels" else 1
    auto = transformers.AutoModel if head == "none" else transformers.AutoModelForSequenceClassification
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(4)
        model = auto.from_config(config)
        # Fresh weights of 0.02 make all logits and vectors alike to three digits; these tell texts apart, by words more
        # than by their places.
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and "position" not in name and "token_type" not in name:
                torch.nn.init.normal_(parameter, std=0.15)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def _config(family, tokenizer):
    import transformers

    size = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 130,
        "pad_token_id": tokenizer.pad_token_id,
    }
    wide = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    special = {"bos_token_id": 0, "eos_token_id": 2}
    return {
        "bert": lambda: transformers.BertConfig(**size, **wide),
        "xlm-roberta": lambda: transformers.XLMRobertaConfig(**size, **wide, **special, type_vocab_size=1),
        "modernbert": lambda: transformers.ModernBertConfig(
            **size,
            **wide,
            local_attention=16,
            global_attn_every_n_layers=2,
            cls_token_id=0,
            sep_token_id=2,
            bos_token_id=0,
            eos_token_id=2,
        ),
        "distilbert": lambda: transformers.DistilBertConfig(**size, dim=32, n_layers=2, n_heads=2, hidden_dim=64),
    }[family]()


def _words_and_letters() -> tuple[list[str], list[str]]:
    """All there are in the texts, sorted. Trained vocabularies differ from process to process, and models with them."""
    words = sorted({word for text in _texts() for word in text.split()})
    return words, sorted(set("".join(words)))


def _wordpiece(tokenizer_class="BertTokenizer"):
    import tokenizers
    import transformers
    from tokenizers import models, normalizers, pre_tokenizers, processors

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words, letters = _words_and_letters()
    pieces = dict.fromkeys(map(str.lower, [*letters, *(f"##{letter}" for letter in letters), *words]))
    vocabulary = {piece: place for place, piece in enumerate([*special, *pieces])}
    raw = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    raw.normalizer = normalizers.BertNormalizer()
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True))
    inputs = ["input_ids", "attention_mask"]
    if tokenizer_class == "BertTokenizer":
        inputs.insert(1, "token_type_ids")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, model_max_length=128, model_input_names=inputs, **names
    )


def _unigram():
    import tokenizers
    import transformers
    from tokenizers import models, pre_tokenizers, processors

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    words, letters = _words_and_letters()
    scores = dict.fromkeys(special, 0.0) | dict.fromkeys(["▁", *letters], -8.0)
    scores |= dict.fromkeys([f"▁{word}" for word in words], -4.0)
    raw = tokenizers.Tokenizer(models.Unigram(list(scores.items()), unk_id=special.index("<unk>")))
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    raw.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw,
        model_max_length=128,
        model_input_names=["input_ids", "attention_mask"],
        bos_token="<s>",
        cls_token="<s>",
        sep_token="</s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
    )


def _byte_pairs():
    import tokenizers
    import transformers
    from tokenizers import models, pre_tokenizers, processors, trainers

    special = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"]
    raw = tokenizers.Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.train_from_iterator(
        _texts(),
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 2)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw,
        model_max_length=128,
        model_input_names=["input_ids", "attention_mask"],
        cls_token="[CLS]",
        pad_token="[PAD]",
        sep_token="[SEP]",
        unk_token="[UNK]",
        mask_token="[MASK]",
    )


_TOKENIZERS = {
    "bert": _wordpiece,
    "xlm-roberta": _unigram,
    "modernbert": _byte_pairs,
    "distilbert": lambda: _wordpiece("DistilBertTokenizer"),
}


@pytest.fixture(scope="session")
def load():
    """Folder -> (model, tokenizer), dropout off; a fresh model at each call."""
    from crosstune.checkpoints import load_reranker, resolve

    def loaded(folder, **options):
        return SimpleNamespace(
            **dict(zip(("model", "tokenizer"), load_reranker(resolve(str(folder)), **options), strict=True))
        )

    return loaded


def _share(name: str, file: str) -> None:
    """A file of helpers as a module: with importlib mode the tests' folders are not on the path."""
    spec = spec_from_file_location(name, Path(__file__).parent / file)
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


_share("llm_stub", "llm/stub.py")
_share("store_data", "retrieval/store_data.py")
_share("foreign_data", "retrieval/foreign_data.py")


@pytest.fixture
def llm_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No endpoint but the tests' own, a key that must not show, and no proxy in between."""
    for name in ("OPENAI_BASE_URL", "CROSSTUNE_LLM_MODEL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", LLM_KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def stub(llm_environment: None):
    """A scripted language model over real HTTP, on this machine only."""
    from llm_stub import Stub

    with Stub() as running:
        yield running
