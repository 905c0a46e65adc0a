"""What went wrong at the endpoint, in words that carry neither the API key nor the user's text.

What a server says is never passed on, nor chained as the cause: some repeat the key or the prompt in their messages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from crosstune.errors import LlmError
from crosstune.extras import require

_TOO_LONG = re.compile(
    r"context.?(length|size|window)|maximum.context|(prompt|input).{0,20}too long|too many tokens", re.IGNORECASE
)
_CODE = re.compile(r"[a-z_]{3,40}")


class BadReply(LlmError):
    """The endpoint works, but a reply has not the agreed form: another try may go better.

    Args:
        model: Name of the model.
        problem: What is wrong with the reply, without quoting it.
    """

    def __init__(self, model: str, problem: str) -> None:
        self.problem = problem
        super().__init__(f"{model} did not keep to the form asked for: {problem}; try again, or take another model")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Whom the messages speak of.

    Attributes:
        address: Base URL without user, password and query.
        model: Name of the model.
        timeout_s: Longest wait for the next part of a reply.
        n_retries: Tries after the first one.
    """

    address: str
    model: str
    timeout_s: float
    n_retries: int

    def __str__(self) -> str:
        return f"the language model at {self.address}"


@contextmanager
def translated(endpoint: Endpoint) -> Iterator[None]:
    """Turn every error of the openai package into an `LlmError` with its remedy."""
    openai = require("openai", extra="llm", what="a language model")
    try:
        yield
    except openai.OpenAIError as error:
        raise LlmError(f"{endpoint} {_what_happened(openai, error, endpoint)}") from None
    except (json.JSONDecodeError, UnicodeDecodeError):  # of a body, or of a line of the stream
        raise LlmError(
            f"{endpoint} sent something that is no JSON; check that the base URL is that of an OpenAI-compatible API"
        ) from None


def is_too_long(error: Any) -> bool:
    """Whether the endpoint says that the prompt does not fit the model's context."""
    return error.code == "context_length_exceeded" or bool(_TOO_LONG.search(error.message or ""))


def _what_happened(openai: Any, error: Any, endpoint: Endpoint) -> str:
    tries = f", after {endpoint.n_retries + 1} tries" if endpoint.n_retries else ""
    if isinstance(error, openai.APITimeoutError):
        return f"was silent for {endpoint.timeout_s:g} s{tries}; take a shorter context or a faster model"
    if isinstance(error, openai.APIConnectionError):
        return "cannot be reached or broke off; check that it runs and that OPENAI_BASE_URL is right"
    if isinstance(error, openai.APIError) and is_too_long(error):
        return "refuses the prompt: it is longer than the model's context; take a smaller budget or shorter passages"
    if isinstance(error, openai.APIStatusError):
        return _of_status(error.status_code, _code(error), endpoint, tries)
    return f"reported an error while it replied{_code(error)}; look at its log, or try again"


def _of_status(status: int, code: str, endpoint: Endpoint, tries: str) -> str:
    if status in (401, 403):
        return f"refuses the API key (HTTP {status}{code}); set OPENAI_API_KEY to one that may use {endpoint.model}"
    if status == 404:
        return (
            f"has no model {endpoint.model!r} (HTTP 404{code}); check CROSSTUNE_LLM_MODEL, and that the base URL is "
            "complete: it usually ends in /v1"
        )
    if status == 429 and "insufficient_quota" in code:
        return "refuses further requests: the account's quota is used up (HTTP 429); top it up or take another key"
    if status == 429:
        return f"asks for fewer requests (HTTP 429{code}){tries}; wait a little, or take fewer workers"
    if status >= 500 or status == 408:
        return f"failed (HTTP {status}{code}){tries}; look at its log, or try again later"
    return f"refuses the request (HTTP {status}{code}); check that it serves chat completions with {endpoint.model}"


def _code(error: Any) -> str:
    """The server's name for the error, when it is one: letters and underscores only, so never a key or a text."""
    code = getattr(error, "code", None)
    return f", {code}" if isinstance(code, str) and _CODE.fullmatch(code) else ""
