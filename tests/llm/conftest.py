"""A language model that is a script on this machine, reached through the real openai package."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from crosstune.llm import connect

KEY = "sk-very-secret-0123456789"


def _load_stub():
    """`stub.py` under one name for all tests: with importlib mode this folder is not on the path."""
    spec = spec_from_file_location("llm_stub", Path(__file__).with_name("stub.py"))
    module = module_from_spec(spec)
    sys.modules["llm_stub"] = module
    spec.loader.exec_module(module)


_load_stub()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No endpoint but the tests' own, a key that must not show, and no proxy in between."""
    for name in ("OPENAI_BASE_URL", "CROSSTUNE_LLM_MODEL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def stub():
    """The scripted server."""
    from llm_stub import Stub

    with Stub() as running:
        yield running


@pytest.fixture
def model(stub):
    """The model behind it, without retries."""
    return connect("tiny", stub.base_url, n_retries=0, timeout_s=5)
