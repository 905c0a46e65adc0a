"""The client through the real openai package, against a scripted server."""

import json
import re
import sys
import time

import pytest
from llm_stub import Reply

from crosstune.errors import ConfigError, LlmError, MissingExtraError
from crosstune.llm import BadReply, Usage, configured, connect

KEY = "sk-very-secret-0123456789"
SECRET_TEXT = "my ailment is a secret"
ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": SECRET_TEXT}]
SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}


def failure(model, messages=ASKED):
    """The message of the error that streaming ends with; it must tell no secret, nor lead to one."""
    with pytest.raises(LlmError) as caught:
        list(model.stream(messages))
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    message = str(caught.value)
    assert KEY not in message
    assert SECRET_TEXT not in message
    return message


# Connecting


def test_an_endpoint_is_a_base_url_or_a_key(monkeypatch):
    assert configured()
    monkeypatch.setenv("OPENAI_API_KEY", " ")
    assert not configured()
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:1/v1")
    assert configured()


def test_without_an_endpoint_nothing_is_opened(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ConfigError, match="set OPENAI_BASE_URL"):
        connect("tiny")


def test_a_model_must_be_named():
    with pytest.raises(ConfigError, match="set CROSSTUNE_LLM_MODEL"):
        connect()


def test_everything_can_come_from_the_environment(stub, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", stub.base_url)
    monkeypatch.setenv("CROSSTUNE_LLM_MODEL", "named-there")
    stub.script("Hi.")
    assert list(connect().stream(ASKED)) == ["Hi."]
    assert stub.requests[0]["model"] == "named-there"
    assert stub.headers[0]["authorization"] == f"Bearer {KEY}"


def test_what_is_given_comes_before_the_environment(stub, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("CROSSTUNE_LLM_MODEL", "named-there")
    assert list(connect("tiny", stub.base_url).stream(ASKED)) == ["ok"]
    assert stub.requests[0]["model"] == "tiny"


def test_a_local_endpoint_needs_no_key(stub, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    assert list(connect("tiny", stub.base_url).stream(ASKED)) == ["ok"]


@pytest.mark.parametrize("url", ["localhost:11434", "ftp://host/v1", "http://", "http://[::1/v1"])
def test_a_base_url_must_be_one(url):
    with pytest.raises(ConfigError, match="check OPENAI_BASE_URL"):
        connect("tiny", url)


def test_a_key_that_cannot_be_sent_is_refused_and_not_shown(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-geh\u00e4im")
    with pytest.raises(ConfigError, match="OPENAI_API_KEY holds characters") as caught:
        connect("tiny")
    assert "sk-geh" not in str(caught.value)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(MissingExtraError, match=r"crosstune\[llm\]"):
        connect("tiny")


# Streaming


def test_pieces_come_one_by_one_and_tokens_are_counted(stub, model):
    stub.script("Within thirty days.", "Yes.")
    assert list(model.stream(ASKED)) == ["Within", " thirty", " days."]
    # The stub counts words: "Be brief." and "my ailment is a secret" are 2 + 5, the reply 3.
    assert model.usage == Usage(7, 3, 1)
    list(model.stream(ASKED))
    assert model.usage == Usage(14, 4, 2)
    assert model.notes == ()


def test_the_request(stub, model):
    list(model.stream(ASKED))
    assert stub.requests == [
        {
            "model": "tiny",
            "messages": ASKED,
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": 0.0,
        }
    ]
    list(connect("tiny", stub.base_url, seed=7, temperature=0.5).stream(ASKED))
    assert (stub.requests[1]["seed"], stub.requests[1]["temperature"]) == (7, 0.5)


def test_an_endpoint_that_counts_nothing_is_noted_once(stub, model):
    stub.script(Reply("Yes.", counted=False), Reply("Yes.", counted=False))
    list(model.stream(ASKED))
    list(model.stream(ASKED))
    assert model.usage == Usage(0, 0, 2)
    assert model.notes == ("the endpoint does not say how many tokens it used: they are not counted",)


def test_a_reader_may_stop_early(stub, model):
    stub.script("one two three", "next")
    pieces = model.stream(ASKED)
    assert next(pieces) == "one"
    pieces.close()
    assert list(model.stream(ASKED)) == ["next"]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply("one two", cut="clean"), "broke off before the end"),
        (Reply("one two", cut="broken"), "cannot be reached or broke off"),
        (Reply("one two", cut="error", code="server_error", message=SECRET_TEXT), "while it replied, server_error;"),
        (Reply("one two", finish="length"), "ran out of room"),
        (Reply("one two", finish="content_filter"), "content filter"),
    ],
)
def test_a_reply_that_ends_too_soon_is_an_error_after_its_pieces(stub, model, reply, expected):
    stub.script(reply, reply)
    pieces = model.stream(ASKED)
    assert next(pieces) == "one"
    with pytest.raises(LlmError, match=expected):
        list(pieces)
    failure(model)


# Failures


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (
            Reply(status=401, message=f"Incorrect API key: {KEY}"),
            r"refuses the API key \(HTTP 401\); set OPENAI_API_KEY",
        ),
        (Reply(status=403), "refuses the API key"),
        (Reply(status=404, code="model_not_found"), r"has no model 'tiny' \(HTTP 404, model_not_found\)"),
        (Reply(status=429), r"asks for fewer requests \(HTTP 429\); wait"),
        (Reply(status=429, code="insufficient_quota"), "quota is used up"),
        (Reply(status=500, message=SECRET_TEXT), r"failed \(HTTP 500\)"),
        (Reply(status=503), r"failed \(HTTP 503\)"),
        (Reply(status=400, message=f"bad: {SECRET_TEXT}"), r"refuses the request \(HTTP 400\)"),
        (Reply(status=400, code=f"{KEY}"), r"refuses the request \(HTTP 400\)"),
        (Reply(status=400, code="context_length_exceeded"), "longer than the model's context; take a smaller budget"),
        (Reply(status=400, message="This model's maximum context length is 4096 tokens"), "longer than the model's"),
        (Reply(body="<html>a page</html>"), "no chat completion; check that OPENAI_BASE_URL"),
    ],
)
def test_each_failure_has_its_remedy(stub, model, reply, expected):
    stub.script(reply)
    message = failure(model)
    assert message.startswith(f"the language model at {stub.base_url} ")
    assert re.search(expected, message)


def test_a_server_that_is_not_there():
    model = connect("tiny", "http://user:hunter2@127.0.0.1:9/v1?token=abc", n_retries=0)
    message = failure(model)
    assert message.startswith("the language model at http://127.0.0.1:9/v1 cannot be reached")


def test_a_server_that_keeps_silent(stub):
    stub.script(Reply("late", hang_s=3))
    started = time.monotonic()
    message = failure(connect("tiny", stub.base_url, timeout_s=0.2, n_retries=0))
    assert "was silent for 0.2 s; take a shorter context" in message
    assert time.monotonic() - started < 2


def test_a_busy_server_is_asked_again(stub):
    at_once = {"retry-after": "0", "retry-after-ms": "1"}
    busy = Reply(status=429, headers=at_once)
    stub.script(busy, Reply(status=500, headers=at_once), "There.")
    model = connect("tiny", stub.base_url, n_retries=2)
    assert list(model.stream(ASKED)) == ["There."]
    assert (len(stub.requests), model.usage.n_requests) == (3, 1)
    stub.script(busy, busy, busy)
    assert "after 3 tries" in failure(model)
    assert len(stub.requests) == 6


# Settings that are not understood


def test_a_refused_temperature_is_left_out_and_noted_once(stub, model):
    stub.refuses = {"temperature"}
    assert list(model.stream(ASKED)) == ["ok"]
    assert list(model.stream(ASKED)) == ["ok"]
    assert ["temperature" in body for body in stub.requests] == [True, False, False]
    assert model.notes == (
        "the endpoint does not take temperature: the same question may get another answer each time",
    )


def test_several_refused_settings_are_found_out_one_by_one(stub):
    stub.refuses = {"temperature", "seed", "stream_options"}
    model = connect("tiny", stub.base_url, seed=1)
    assert list(model.stream(ASKED)) == ["ok"]
    assert len(stub.requests) == 4
    assert len(model.notes) == 4  # the tokens are not counted either


def test_a_setting_named_in_a_message_only(stub, model):
    stub.script(Reply(status=422, message="extra fields not permitted: stream_options"), "Yes.")
    assert list(model.stream(ASKED)) == ["Yes."]


def test_an_error_about_something_else_is_not_asked_again(stub, model):
    stub.script(Reply(status=400, message="temperature", param="messages"))
    assert "refuses the request" in failure(model)
    stub.script(Reply(status=400, message="maximum context length is 10; you sent: temperature"))
    assert "longer than the model's context" in failure(model)
    assert len(stub.requests) == 2


# JSON


def test_json_is_asked_for_with_a_strict_schema(stub, model):
    stub.script('{"n": 3}')
    assert model.ask_json(ASKED, SCHEMA, "count") == {"n": 3}
    body = stub.requests[0]
    assert body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "count", "schema": SCHEMA, "strict": True},
    }
    assert body["messages"][0] == ASKED[0]
    assert body["messages"][1]["content"].startswith(SECRET_TEXT)
    assert body["messages"][1]["content"].endswith(json.dumps(SCHEMA))
    assert model.usage.n_requests == 1


def test_without_schemas_plain_json_is_asked_for_and_noted(stub, model):
    stub.refuses = {"json_schema"}
    stub.script('{"n": 3}', '{"n": 4}')
    assert model.ask_json(ASKED, SCHEMA, "count") == {"n": 3}
    assert model.ask_json(ASKED, SCHEMA, "count") == {"n": 4}
    kinds = [body["response_format"]["type"] for body in stub.requests]
    assert kinds == ["json_schema", "json_object", "json_object"]
    assert model.notes == (
        "the endpoint does not take json_schema: replies are asked for as plain JSON and checked here",
    )


def test_without_any_response_format_the_prompt_must_do(stub, model):
    stub.refuses = {"response_format"}
    stub.script('<think>A {set} it is.</think>\nHere it is:\n```json\n{"n": 3}\n```\nAnything else {to do}?')
    assert model.ask_json(ASKED, SCHEMA, "count") == {"n": 3}
    assert len(model.notes) == 2


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        ("three, " + SECRET_TEXT, "the reply is no JSON object"),
        ("[3]", "the reply is no JSON object"),
        ('{"n": "3"}', "the reply.n is no integer"),
        ("{}", "the reply lacks n"),
        ('{"n": 3, "m": 4}', "the reply has other keys than n"),
        (Reply('{"n": ', finish="length"), "ran out of room"),
        (Reply("", finish="content_filter"), "content filter"),
    ],
)
def test_another_form_is_a_bad_reply(stub, model, reply, problem):
    stub.script(reply)
    with pytest.raises(BadReply, match=problem) as caught:
        model.ask_json(ASKED, SCHEMA, "count")
    assert SECRET_TEXT not in str(caught.value)
    assert model.usage.n_requests == 1


def test_a_failing_endpoint_is_no_bad_reply(stub, model):
    stub.script(Reply(status=401), Reply(body="<html>"))
    for expected in ("refuses the API key", "no chat completion"):
        with pytest.raises(LlmError, match=expected) as caught:
            model.ask_json(ASKED, SCHEMA, "count")
        assert not isinstance(caught.value, BadReply)
