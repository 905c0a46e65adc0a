"""Questions for passages through the scripted server."""

import json
import re
import threading
import time

import pytest
from llm_stub import Reply, Stub

from crosstune.errors import ConfigError, LlmError
from crosstune.llm import (
    BadReply,
    QuestionStyle,
    SyntheticPair,
    Templates,
    connect,
    synthesize,
    synthesize_many,
)
from crosstune.types import Passage

PASSAGE = Passage("faq.csv#12", "A refund is paid after thirty days.", "Refunds")
ONE_STYLE = Templates("Ask.", (QuestionStyle("plain", "a plain question"),))


def reply(*questions, answer="After thirty days.", style="plain"):
    return json.dumps({"pairs": [{"question": q, "answer": answer, "style": style} for q in questions]})


def asked(request):
    return request["messages"][1]["content"]


def styles_of(request):
    """Styles wished for, in their order."""
    wishes = asked(request).split("Write one question of each of these styles:\n")[1].split("\n\n")[0]
    return re.findall(r"^\d+\. ([\w-]+): ", wishes, re.MULTILINE)


# One passage


def test_pairs_of_a_passage(stub, model):
    stub.script(reply(" When is\na refund paid? ", "Refund time"))
    assert synthesize(PASSAGE, model, ONE_STYLE, 2) == (
        SyntheticPair("When is a refund paid?", "After thirty days.", "plain", "faq.csv#12"),
        SyntheticPair("Refund time", "After thirty days.", "plain", "faq.csv#12"),
    )


def test_the_model_sees_task_passage_and_styles_but_not_the_id(stub, model):
    stub.script(reply("When?"))
    synthesize(PASSAGE, model, ONE_STYLE, 1)
    request = stub.requests[0]
    assert request["messages"][0] == {"role": "system", "content": "Ask."}
    assert re.match(r"<passage (\w{12})>\nRefunds\n\nA refund is .* days\.\n</passage \1>\n\n", asked(request))
    assert "1. plain: a plain question" in asked(request)
    assert "faq.csv" not in json.dumps(request)
    pair = request["response_format"]["json_schema"]["schema"]["properties"]["pairs"]["items"]
    assert pair["required"] == ["question", "answer", "style"]
    assert pair["properties"]["style"]["enum"] == ["plain"]


def test_styles_come_in_turn_and_begin_at_another_one_for_another_passage(stub, model):
    stub.default = lambda body: reply("When?", style=styles_of(body)[0])
    firsts = set()
    names = ["how-to", "factoid", "keyword", "own-words"]
    for i in range(24):
        synthesize(Passage(f"p{i}", "Text."), model, n_questions=3)
        styles = styles_of(stub.requests[-1])
        place = names.index(styles[0])
        assert styles == [names[(place + k) % 4] for k in range(3)]
        firsts.add(styles[0])
    assert firsts == set(names)


def test_more_questions_than_styles_repeat_them_and_more_replies_are_cut(stub, model):
    stub.script(reply("a?", "b?", "c?", "d?"))
    assert len(synthesize(PASSAGE, model, ONE_STYLE, 3)) == 3
    assert styles_of(stub.requests[0]) == ["plain"] * 3


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ("[]", "the reply is no JSON object"),
        (reply("When?", style="other"), "style is none of plain"),
        (reply(), "there are no questions in it"),
        (reply("When?", " "), "a question or an answer is empty"),
        (reply("When?", answer=""), "a question or an answer is empty"),
        (reply("What does faq.csv#12 say?"), "holds the file name or number of the passage"),
    ],
)
def test_a_bad_reply_is_asked_for_again_with_what_was_wrong(stub, model, bad, problem):
    stub.script(bad, bad, reply("When?"))
    assert [pair.question for pair in synthesize(PASSAGE, model, ONE_STYLE)] == ["When?"]
    assert "could not be used" not in asked(stub.requests[0])
    assert re.search(rf"Your last reply could not be used: .*{problem}", asked(stub.requests[2]))


def test_the_third_bad_reply_is_the_last(stub, model):
    stub.script(*[reply("")] * 3, reply("When?"))
    with pytest.raises(BadReply, match="tiny did not keep to the form asked for: a question or an answer is empty"):
        synthesize(PASSAGE, model, ONE_STYLE)
    assert len(stub.requests) == 3


def test_a_failing_endpoint_is_not_asked_again(stub, model):
    stub.script(Reply(status=401))
    with pytest.raises(LlmError, match="refuses the API key"):
        synthesize(PASSAGE, model, ONE_STYLE)
    assert len(stub.requests) == 1


def test_a_short_id_may_stand_in_a_question(stub, model):
    stub.script(reply("Why 30 days?"), reply("Why are refunds slow?"))
    assert len(synthesize(Passage("30", "x"), model, ONE_STYLE)) == 1
    assert len(synthesize(Passage("refunds", "x"), model, ONE_STYLE)) == 1


def test_at_least_one_question(model):
    with pytest.raises(ConfigError, match="n_questions must be at least 1, found 0"):
        synthesize(PASSAGE, model, n_questions=0)


# Many passages


PASSAGES = [Passage(f"p{i}", f"text number {i} ends") for i in range(12)]


def place_of(body):
    return int(re.search(r"text number (\d+) ends", asked(body))[1])


def many(stub, passages=PASSAGES, **options):
    return synthesize_many(passages, connect("tiny", stub.base_url, n_retries=0), ONE_STYLE, 1, **options)


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("crosstune-llm")]


def test_results_come_in_the_order_of_the_passages_and_are_told_as_they_finish(stub):
    another_is_done = threading.Event()

    def first_is_late(body):
        if place_of(body) == 0:
            another_is_done.wait(5)
        return reply(f"q{place_of(body)}?")

    def note(result):
        done.append(result)
        another_is_done.set()

    stub.default = first_is_late
    done = []
    results = list(many(stub, on_done=note))
    assert [r.passage_id for r in results] == [p.passage_id for p in PASSAGES]
    assert [r.pairs[0].question for r in results] == [f"q{i}?" for i in range(12)]
    assert sorted(done, key=lambda r: int(r.passage_id[1:])) == results
    assert done[0].passage_id != "p0"
    assert threads() == []


def test_no_more_requests_at_a_time_than_workers():
    running, most, lock = 0, 0, threading.Lock()
    all_busy = threading.Barrier(3, timeout=5)  # 12 requests, three at a time, or it breaks

    def counting(body):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        all_busy.wait()
        time.sleep(0.01)
        with lock:
            running -= 1
        return reply("q?")

    with Stub(counting) as stub:
        assert len(list(many(stub, n_workers=3))) == 12
    assert most == 3


def test_one_failed_passage_does_not_stop_the_rest(stub):
    stub.default = lambda body: "no" if place_of(body) in (0, 1, 2, 3, 7) else reply("q?")
    results = list(many(stub))
    assert [r.passage_id for r in results if r.error] == ["p0", "p1", "p2", "p3", "p7"]
    assert all(isinstance(r.error, BadReply) and r.pairs == () for r in results if r.error)


def test_five_failures_at_the_start_stop_it(stub):
    stub.default = lambda body: "no" if place_of(body) < 5 else reply("q?")
    results = many(stub, n_workers=1)
    assert [next(results).passage_id for _ in range(4)] == ["p0", "p1", "p2", "p3"]
    with pytest.raises(BadReply):
        next(results)
    assert threads() == []
    assert max(place_of(body) for body in stub.requests) <= 6


def test_bad_replies_later_on_do_not_stop_it(stub):
    stub.default = lambda body: "no" if place_of(body) else reply("q?")
    assert [bool(r.error) for r in many(stub)] == [False] + [True] * 11


def test_an_endpoint_that_dies_later_on_does(stub):
    stub.script(Reply(reply("q?")), Reply(reply("q?")), *[Reply(status=500)] * 20)
    results = many(stub, n_workers=1)
    assert [bool(next(results).error) for _ in range(6)] == [False, False, True, True, True, True]
    with pytest.raises(LlmError, match="HTTP 500"):
        next(results)


def test_a_reader_that_stops_leaves_nothing_running(stub):
    stub.default = lambda body: reply("q?")
    for result in many(stub, n_workers=2):
        assert result.passage_id == "p0"
        break
    del result
    assert threads() == []
    assert len(stub.requests) < 12


@pytest.mark.parametrize(("n_workers", "later"), [(1, "no"), (2, reply("q?"))])
def test_when_the_reader_stops_no_passage_is_begun_or_asked_for_again(stub, n_workers, later):
    gate = threading.Event()

    def held_but_first(body):
        if place_of(body) == 0:
            return reply("q?")
        gate.wait(5)
        return later

    stub.default = held_but_first
    results = many(stub, n_workers=n_workers)
    next(results)  # every worker goes on to the next passage; with two of them, one more passage waits
    until = time.monotonic() + 5
    while len(stub.requests) < 1 + n_workers and time.monotonic() < until:
        time.sleep(0.01)
    threading.Timer(0.2, gate.set).start()
    results.close()
    assert sorted(place_of(body) for body in stub.requests) == list(range(1 + n_workers))


def test_the_callback_is_called_by_one_worker_at_a_time(stub):
    stub.default = lambda body: reply("q?")
    inside, overlaps = threading.Semaphore(1), []

    def careful(result):
        overlaps.append(not inside.acquire(blocking=False))
        time.sleep(0.01)
        inside.release()

    list(many(stub, on_done=careful))
    assert overlaps == [False] * 12


def test_ctrl_c_leaves_nothing_running(stub):
    stub.default = lambda body: reply("q?")
    results = many(stub, n_workers=2, on_done=lambda result: time.sleep(0.02))
    next(results)
    with pytest.raises(KeyboardInterrupt):
        results.throw(KeyboardInterrupt)
    assert threads() == []
    n_requests = len(stub.requests)
    time.sleep(0.05)
    assert len(stub.requests) == n_requests < 12


def test_a_failing_callback_stops_it(stub):
    stub.default = lambda body: reply("q?")

    def full_disk(result):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        list(many(stub, on_done=full_disk))
    assert threads() == []


def test_no_passages(stub):
    assert list(many(stub, [])) == []


def test_settings_are_checked_at_once(model):
    with pytest.raises(ConfigError, match="n_workers must be at least 1, found 0"):
        synthesize_many(PASSAGES, model, n_workers=0)
    with pytest.raises(ConfigError, match="n_questions must be at least 1, found 0"):
        synthesize_many(PASSAGES, model, n_questions=0)
