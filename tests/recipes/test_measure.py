from crosstune.recipes.measure import _sample_pairs


def test_pairs_to_time_have_every_question_once_where_there_are_enough_and_more_often_where_not(corpus):
    texts = {query.text for query in corpus.queries.values()}
    few = _sample_pairs(corpus, list(corpus.queries), 8, seed=0)
    assert {question for question, _ in few} == texts
    many = _sample_pairs(corpus, list(corpus.queries), 40, seed=0)
    assert len(many) == 40
    assert {question for question, _ in many} <= texts
    assert {passage for _, passage in many} <= {passage.full_text for passage in corpus.passages.values()}
    assert _sample_pairs(corpus, list(corpus.queries), 8, seed=0) == few
