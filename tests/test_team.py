"""Threads that work side by side: all tasks are done, errors come out, and nothing is begun after one."""

import threading
import time

import pytest

from crosstune.team import Team, shared_out, team_of, torch_team


@pytest.mark.parametrize("size", [1, 2, 3])
def test_all_tasks_are_done_once(size):
    done = []
    Team(size).spread([lambda i=i: done.append(i) for i in range(20)])
    assert sorted(done) == list(range(20))


def test_queues_are_done_side_by_side_and_each_in_its_order():
    team, both, done = Team(2), threading.Barrier(2, timeout=10), ([], [])

    def task(queue, number):
        both.wait()  # passes only when the other queue is at its task, too
        done[queue].append((number, threading.current_thread().name))

    team.side_by_side([[lambda q=q, n=n: task(q, n) for n in range(3)] for q in range(2)])
    for queue in done:
        assert [number for number, _ in queue] == [0, 1, 2]
        assert len({name for _, name in queue}) == 1
    assert done[0][0][1] != done[1][0][1]


def test_one_thread_is_the_callers():
    names = []
    task = lambda: names.append(threading.current_thread())  # noqa: E731
    Team(1).side_by_side([[task], [task]])
    Team(3).spread([task])  # a single task is not worth a thread
    assert names == [threading.current_thread()] * 3


def test_every_thread_begins_once():
    begun = []
    team = Team(3, lambda: begun.append(threading.current_thread().name))
    assert len(set(begun)) == len(begun) == 3
    team.spread([lambda: time.sleep(0.001)] * 9)
    assert len(begun) == 3


def test_an_error_is_raised_and_nothing_more_is_begun():
    done = []

    def fails():
        time.sleep(0.05)
        raise RuntimeError("not enough memory")

    def works():
        time.sleep(0.01)
        done.append(1)

    with pytest.raises(RuntimeError, match="not enough memory"):
        Team(2).side_by_side([[fails, works], [works] * 100])
    n_done = len(done)
    assert 0 < n_done < 50
    time.sleep(0.05)
    assert len(done) == n_done  # it is over when the error is raised


def test_torchs_threads_share_its_processors(monkeypatch):
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(6)
        team = torch_team()
        assert team.size == 4
        found, together = [], threading.Barrier(4, timeout=10)

        def ask():
            together.wait()
            found.append(torch.get_num_threads())

        team.spread([ask] * 4)
        assert found == [1] * 4  # six shared by four
        assert torch.get_num_threads() == 6
        assert torch_team() is team
        torch.set_num_threads(1)
        assert torch_team().size == 1
    finally:
        torch.set_num_threads(before)


def test_teams_are_made_once_and_are_not_large():
    assert team_of(2) is team_of(2)
    assert [team_of(n).size for n in (1, 2, 64)] == [1, 2, 4]


def test_shares_by_hand():
    # 9 to the first, 7 to the second, 5 to the second (12), 4 to the first (13), 1 to the second (13).
    assert shared_out([5, 9, 1, 7, 4], 2) == [[1, 4], [3, 0, 2]]
    assert shared_out([5], 2) == [[0], []]
