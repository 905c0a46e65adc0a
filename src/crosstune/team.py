"""Threads that each work on a batch of their own with their share of the processors.

Batches side by side are faster than batches one after the other on all processors: a small model's pass is a thousand
short operations, and after each of them processors that share it wait for one another. On 2 cores a training step of
a MiniLM takes 0.7 of the time (docs/experiments.md).
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

Task = Callable[[], None]

# Each has buffers, and in training weights, of its own: more of them cost memory, and a single question's latency.
_LARGEST = 4


class Team:
    """Threads that do tasks side by side.

    Args:
        size: Threads; with one, tasks are done by whoever asks.
        begin: Called in each thread before its first task.
    """

    def __init__(self, size: int, begin: Task = lambda: None) -> None:
        self.size = size
        if size > 1:
            self._threads = ThreadPoolExecutor(size, thread_name_prefix="crosstune")
            ready = threading.Barrier(size + 1)  # so that each thread begins once, and now

            def start() -> None:
                begin()
                ready.wait()

            for _ in range(size):
                self._threads.submit(start)
            ready.wait()

    def spread(self, tasks: Sequence[Task]) -> None:
        """Do all tasks; each thread takes the next one when it is free."""
        left = iter(tasks)  # one iterator for all: taking from it is atomic
        self.side_by_side([left] * min(self.size, len(tasks)))

    def side_by_side(self, queues: Sequence[Iterable[Task]]) -> None:
        """Do the tasks of each queue in its order, at most as many queues as there are threads.

        When a task fails, or the waiting thread is interrupted, no further one is begun and the error is raised once
        those under way have ended.
        """
        stopped = threading.Event()

        def work(queue: Iterable[Task]) -> None:
            for task in queue:
                if stopped.is_set():
                    return
                task()

        if self.size == 1 or len(queues) < 2:
            for queue in queues:
                work(queue)
            return
        under_way = [self._threads.submit(work, queue) for queue in queues]
        try:
            for future in under_way:
                future.result()
        except BaseException:
            stopped.set()
            wait(under_way)
            raise


def team_of(n_processors: int) -> Team:
    """The threads of this process for runtimes that know nothing of threads."""
    return _team(os.getpid(), n_processors)


def torch_team() -> Team:
    """The threads of this process that compute with torch on the CPU, as many as torch may use."""
    import torch

    return _torch_team(os.getpid(), torch.get_num_threads())


# By process: a forked child has none of its parent's threads.
@functools.cache
def _team(process: int, n_processors: int) -> Team:
    return Team(_size(n_processors))


@functools.cache
def _torch_team(process: int, n_threads: int) -> Team:
    import torch

    size = _size(n_threads)

    def begin() -> None:
        torch.set_num_threads(n_threads // size)
        torch.get_num_threads()  # or the thread would take the default of then at its first operation

    team = Team(size, begin)
    torch.set_num_threads(n_threads)  # each thread's own number became the default of those that come later
    return team


def _size(n_processors: int) -> int:
    return max(1, min(n_processors, _LARGEST))


def shared_out(sizes: Sequence[int], n: int) -> list[list[int]]:
    """Places of the items for each of n workers, of nearly equal sums: the largest first, each to who has least."""
    shares: list[list[int]] = [[] for _ in range(n)]
    loads = [0] * n
    for place in sorted(range(len(sizes)), key=lambda place: -sizes[place]):
        least = loads.index(min(loads))
        shares[least].append(place)
        loads[least] += sizes[place]
    return shares
