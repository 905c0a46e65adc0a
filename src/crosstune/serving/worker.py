"""The one thread that owns the model, and the requests that wait for it, first come first served."""

from __future__ import annotations

import asyncio
import logging
import math
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from crosstune.scoring import Reranker
from crosstune.serving.dialects import Ranking, RerankRequest
from crosstune.serving.metrics import Metrics
from crosstune.serving.ranking import rank, warm_up
from crosstune.serving.refusal import Reason, Refusal

_log = logging.getLogger(__name__)
_PROBE_EVERY_S = 5.0
# A ranking that takes longer hangs: the process should be replaced.
STUCK_S = 600.0
# Cohere's client waits no longer than this, whatever it is told.
_LONGEST_RETRY_S = 60
_LOADING_RETRY_S = 5

Found = TypeVar("Found")


class State(str, Enum):
    """Whether the worker can rank. The value is what `/ready` says."""

    LOADING = "loading"
    READY = "ready"
    FAILING = "failing"


@dataclass(frozen=True, slots=True)
class Done:
    """A ranking and how long it waited and took, in seconds."""

    ranking: Ranking
    waited_s: float
    took_s: float


@dataclass(slots=True, eq=False)
class Job:
    """A request on its way.

    Attributes:
        future: Of its ranking.
        submitted, deadline: By `time.monotonic`.
        timer: Takes it out of the line at the deadline.
    """

    request: RerankRequest
    future: asyncio.Future[Done]
    submitted: float
    deadline: float | None
    timer: asyncio.TimerHandle | None = None


class Worker:
    """Loads the model, ranks one request after the other, and knows whether that works.

    All methods belong to the event loop's thread.

    Args:
        load: Gives the model; called in the worker's thread.
        metrics: Told of scored pairs.
        max_waiting: Most requests that wait.

    Attributes:
        failure: Why the model could not be loaded; None while it could.
        on_failure: Called when it could not.
    """

    def __init__(self, load: Callable[[], Reranker], metrics: Metrics, max_waiting: int = 64) -> None:
        self.failure: Exception | None = None
        self.on_failure: Callable[[], None] = lambda: None
        self._load, self._metrics, self._max_waiting = load, metrics, max_waiting
        self._state = State.LOADING
        self._reranker: Reranker | None = None
        # A dictionary as an ordered set: a request that is dropped makes room at once.
        self._waiting: dict[Job, None] = {}
        self._news = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "crosstune-model")
        self._busy_since: float | None = None
        self._last_took_s = 1.0

    def start(self) -> None:
        """Begin to load, in the running event loop."""
        self._task = asyncio.create_task(self._run())

    def stop(self) -> None:
        """Take no more work. What the thread is doing it finishes."""
        self._task.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    @property
    def n_waiting(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    @property
    def is_stuck(self) -> bool:
        """Whether nothing will be ranked any more: a ranking takes so long that it must hang, or the line has ended."""
        too_long = self._busy_since is not None and time.monotonic() - self._busy_since > STUCK_S
        return too_long or self._task.done()

    @property
    def status(self) -> str:
        """ "ready", or why not."""
        return "stuck" if self.is_stuck else self._state.value

    @property
    def is_ready(self) -> bool:
        """Whether the model is loaded and its last trial gave sound scores."""
        return self.status == State.READY.value

    @property
    def reranker(self) -> Reranker:
        """The model.

        Raises:
            Refusal: It is not loaded yet.
        """
        if self._reranker is None:
            raise Refusal(Reason.NOT_READY, "the model is loading; ask again when /ready says so", _LOADING_RETRY_S)
        return self._reranker

    def submit(self, request: RerankRequest, deadline_ms: float | None) -> Job:
        """Put a request last in the line.

        Args:
            deadline_ms: From now. A request that still waits then is refused; one that is being ranked gets what could
                be scored by then.

        Raises:
            Refusal: The model is not ready, or the line is full.
        """
        if not self.is_ready:
            raise Refusal(Reason.NOT_READY, f"the model is not ready ({self.status}); see /ready", _LOADING_RETRY_S)
        if self.n_waiting >= self._max_waiting:
            raise Refusal(
                Reason.OVERLOADED, f"{self.n_waiting} requests wait already; try again later", self._retry_after_s()
            )
        loop, now = asyncio.get_running_loop(), time.monotonic()
        deadline = None if deadline_ms is None else now + deadline_ms / 1000
        job = Job(request, loop.create_future(), now, deadline)
        self._waiting[job] = None
        self._news.set()
        if deadline_ms is not None:
            job.timer = loop.call_later(deadline_ms / 1000, self._expire, job)
        return job

    def drop(self, job: Job) -> None:
        """Forget a request whose client has gone; one that is being ranked is finished for nobody."""
        self._leave(job)
        job.future.cancel()

    def _leave(self, job: Job) -> None:
        self._waiting.pop(job, None)
        if job.timer is not None:
            job.timer.cancel()

    def _expire(self, job: Job) -> None:
        self._leave(job)
        message = "the deadline came while the request waited; allow more time or try again later"
        job.future.set_exception(Refusal(Reason.OVERLOADED, message, self._retry_after_s()))

    def _retry_after_s(self) -> int:
        """When the line should have gone."""
        return min(_LONGEST_RETRY_S, max(1, math.ceil(self.n_waiting * self._last_took_s)))

    async def _run(self) -> None:
        try:
            self._reranker = await self._in_thread(self._loaded)
        except Exception as error:
            self.failure = error
            self.on_failure()
            return
        self._state = State.READY
        _log.info("ready")
        for part, why in self._reranker.missing.items():
            _log.warning("ranking without the part %s: %s", part.value, why)
        while True:
            await self._wait()
            if self._waiting:
                job = next(iter(self._waiting))
                self._leave(job)
                await self._do(job, self._reranker)
            elif self._state is State.FAILING:
                await self._probe(self._reranker)

    def _loaded(self) -> Reranker:
        reranker = self._load()
        warm_up(reranker)
        return reranker

    async def _wait(self) -> None:
        """For a request; while the model fails no longer than until the next trial."""
        self._news.clear()
        if not self._waiting:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._news.wait(), _PROBE_EVERY_S if self._state is State.FAILING else None)

    async def _do(self, job: Job, reranker: Reranker) -> None:
        started = time.monotonic()
        # Its turn has come: at least the first passages are read, however little time is left.
        left_ms = None if job.deadline is None else max((job.deadline - started) * 1000, 0.001)
        try:
            ranking = await self._in_thread(lambda: rank(reranker, job.request, left_ms))
        except Exception as error:
            _log.error("a ranking failed: %s", without_texts(error))
            if not job.future.done():
                job.future.set_exception(Refusal(Reason.FAILED, "the model failed; the server's log names the error"))
            await self._probe(reranker)
            return
        self._last_took_s = time.monotonic() - started
        if not job.future.done():
            job.future.set_result(Done(ranking, started - job.submitted, self._last_took_s))
        self._metrics.pairs(ranking.n_scored)

    async def _probe(self, reranker: Reranker) -> None:
        """See whether the model still ranks, after a failure."""
        try:
            await self._in_thread(lambda: warm_up(reranker))
        except Exception as error:
            self._state = State.FAILING
            _log.error("the model fails: %s", without_texts(error))
        else:
            self._state = State.READY

    async def _in_thread(self, work: Callable[[], Found]) -> Found:
        self._busy_since = time.monotonic()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            self._busy_since = None


def without_texts(error: BaseException) -> str:
    """An error's kind and place. Its message is left out, since it may hold a user's text."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""
    return f"{type(error).__name__}{place}"
