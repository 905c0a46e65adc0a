"""A language model that is a script on this machine, reached through the real openai package."""

import pytest

from crosstune.llm import connect


@pytest.fixture(autouse=True)
def environment(llm_environment):
    """Everything in this folder runs without the person's own endpoint."""


@pytest.fixture
def model(stub):
    """The model behind it, without retries."""
    return connect("tiny", stub.base_url, n_retries=0, timeout_s=5)
