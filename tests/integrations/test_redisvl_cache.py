import asyncio
import math

import pytest
from redisvl.extensions.cache.llm import SemanticCache
from redisvl.utils.vectorize import CustomVectorizer

from crosstune.errors import BundleError, ConfigError
from crosstune.integrations.redisvl_cache import GatedSemanticCache

# Prompt -> degrees of its unit vector. What stands at the end of prompt and response is the scripted model's logit.
ANGLES = {"how do I get a refund": 0, "how do I refund a gift 1": 5, "may I have my money back 4": 10, "far away 9": 80}


def embed(text, **_):
    angle = math.radians(ANGLES.get(text, 0))  # RedisVL tries it with a text of its own
    return [math.cos(angle), math.sin(angle)]


@pytest.fixture
def cache(redis_url):
    found = SemanticCache(
        name="cache", distance_threshold=0.1, vectorizer=CustomVectorizer(embed), redis_url=redis_url, overwrite=True
    )
    found.store("how do I refund a gift 1", "gifts are not refunded 5", metadata={"n": 1})
    found.store("may I have my money back 4", "within thirty days -3")
    found.store("far away 9", "another thing 9")
    yield found
    found.delete()
    found.disconnect()


ASKED = "how do I get a refund"


def prompts(hits):
    return [hit["prompt"] for hit in hits]


def test_the_cache_alone_takes_the_nearest(cache):
    assert prompts(cache.check(ASKED)) == ["how do I refund a gift 1"]
    assert prompts(cache.check(ASKED, num_results=5)) == ["how do I refund a gift 1", "may I have my money back 4"]


def test_a_hit_counts_when_the_model_agrees(cache, scripted):
    gate = GatedSemanticCache(cache, scripted)
    # sigmoid(1 / 2 - 1) = 0.378 is below the model's threshold of 0.6; sigmoid(4 / 2 - 1) = 0.731 is not.
    assert gate.check(ASKED) == []
    (hit,) = gate.check(ASKED, num_results=5)
    assert hit["prompt"] == "may I have my money back 4"
    assert hit["response"] == "within thirty days -3"
    assert hit["rerank_probability"] == pytest.approx(0.7311, abs=1e-4)
    assert set(scripted.seen) == {(ASKED, "how do I refund a gift 1"), (ASKED, "may I have my money back 4")}


def test_its_own_threshold_and_the_most_probable_first(cache, scripted):
    gate = GatedSemanticCache(cache, scripted, threshold=0.3)
    assert prompts(gate.check(ASKED, num_results=5)) == ["may I have my money back 4", "how do I refund a gift 1"]
    assert GatedSemanticCache(cache, scripted, threshold=0.8).check(ASKED, num_results=5) == []


def test_the_response_can_be_judged(cache, scripted):
    (hit,) = GatedSemanticCache(cache, scripted, judged="response").check(ASKED, num_results=5)
    assert hit["response"] == "gifts are not refunded 5"
    assert hit["metadata"] == {"n": 1}


def test_the_judged_field_is_returned_only_when_asked_for(cache, scripted):
    gate = GatedSemanticCache(cache, scripted, threshold=0.5)
    (hit,) = gate.check(ASKED, num_results=5, return_fields=["response"])
    assert hit.keys() == {"key", "response", "rerank_probability"}
    (hit,) = gate.check(ASKED, num_results=5, return_fields=["prompt"])
    assert hit.keys() == {"key", "prompt", "rerank_probability"}


def test_the_caches_own_options_hold(cache, scripted):
    gate = GatedSemanticCache(cache, scripted)
    # 1 - cos(10 degrees) = 0.0152
    assert gate.check(ASKED, num_results=5, distance_threshold=0.01) == []
    assert prompts(gate.check(ASKED, num_results=5, distance_threshold=1.0)) == [
        "far away 9",
        "may I have my money back 4",
    ]
    with pytest.raises(TypeError, match="top_k"):
        gate.check(ASKED, top_k=3)


def test_no_hits_ask_no_model(cache, scripted):
    cache.clear()
    assert GatedSemanticCache(cache, scripted).check(ASKED) == []
    assert scripted.seen == []


def test_async_gives_the_same_and_leaves_the_loop_free(cache, scripted, ticks_while):
    gate = GatedSemanticCache(cache, scripted)
    expected = prompts(gate.check(ASKED, num_results=5))
    scripted.delay_s = 0.3
    hits, ticks = ticks_while(gate.acheck(ASKED, num_results=5, return_fields=["prompt"]))
    assert prompts(hits) == expected == ["may I have my money back 4"]
    assert ticks >= 10


def test_wrong_settings(scripted, models, folders):
    cache = object()  # never asked
    with pytest.raises(ConfigError, match="from 0 to 1"):
        GatedSemanticCache(cache, scripted, threshold=2)
    with pytest.raises(ConfigError, match="by its prompt or its response, found 'answer'"):
        GatedSemanticCache(cache, scripted, judged="answer")
    with pytest.raises(BundleError, match="no cross-encoder"):
        GatedSemanticCache(cache, models["bi-encoder"])
    assert GatedSemanticCache(cache, folders["plain"]).cache is cache


def test_a_vector_alone_is_no_prompt(scripted):
    gate = GatedSemanticCache(object(), scripted)
    for call in (gate.check, lambda **options: asyncio.run(gate.acheck(**options))):
        with pytest.raises(TypeError, match="prompt"):
            call(vector=[1.0, 0.0])
