"""Search over documents, end to end: index them in Redis, tune from the live index, index again, ask.

    python examples/rag/run.py        (or: make rag)

Needs no network and no Redis on the system: two Python packages bring the server and its search module. Every step is
a `crosstune` command, printed before it runs, so that you can repeat it with your own files. Everything is written to
runs/rag. Run again, it reads the finished tuning instead of doing it anew. docs/rag.md explains the steps.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from crosstune import CrosstuneError
from crosstune.llm import NO_ANSWER
from crosstune.retrieval.stores import embedded_redis

HERE = Path(os.path.relpath(Path(__file__).resolve().parent))
HANDBOOK, QUESTIONS = HERE / "handbook", HERE.parent / "helpdesk.csv"
NAME = "handbook"
DEPTH, CONTEXT_TOKENS = 50, 300
VERDICTS = {0: "better", 3: "not proven", 4: "worse"}
# The location of the live index is a part of what makes a tuning the same one: another port would be another run.
PORT = 6390


def main() -> None:
    """Run all steps with a Redis of our own, which ends with them."""
    options = parsed()
    os.environ.pop("CROSSTUNE_REDIS_PASSWORD", None)  # that of another server: ours has none and refuses any
    try:
        with embedded_redis(options.port) as server:
            print(f"Redis with its search module listens on {server.url}.")
            steps(server.url, options.out, options.budget)
            if options.keep:
                print(f"\nRedis stays at {server.url} for more questions. Ctrl-C ends it.", flush=True)
                threading.Event().wait()
    except CrosstuneError as error:
        sys.exit(f"Error: {error}")
    except KeyboardInterrupt:
        print("\nRedis has ended. The same command continues from where it was.")
        sys.exit(1)  # as crosstune itself, whichever of the two hears of it first


def steps(url: str, out: Path, budget: str) -> None:
    """What a user would type, one command after the other."""
    index, tuned = ("--redis", url, "--name", NAME), out / "tuned"

    heading("1. Index the handbook, with the embedder that comes with crosstune")
    crosstune("index", HANDBOOK, *index)

    heading("2. Tune first stage and reranker on questions and answers, from the live index")
    tune = ("tune", QUESTIONS, "--retriever", f"{url}/{NAME}", "--out", tuned, "--budget", budget)
    crosstune(*tune, accept=tuple(VERDICTS))

    heading("3. Before: the first three test questions of the file, searched in the index as it was")
    questions = unseen_questions(tuned)[:3]
    before = [right_rank(search(text, *index), right) for text, right in questions]

    heading("4. Index again with the tuned embedder: a new version beside the old one, then one switch")
    if (tuned / "model" / "bi-encoder").is_dir():
        crosstune("index", HANDBOOK, *index, "--embedder", tuned)
    else:
        print("The first stage was not tuned in this time: the index stays as it is.")

    heading("5. After: the same questions, reranked by the tuned model")
    after = [right_rank(search(text, *index, "--model", tuned), right) for text, right in questions]
    print_ranks([text for text, _ in questions], before, after)

    heading("6. Ask: the best passages packed for a language model, which answers if OPENAI_BASE_URL names one")
    for text, _ in questions:
        answer = crosstune("ask", text, *index, "--model", tuned, "--context-tokens", CONTEXT_TOKENS, capture=True)
        print(answer)
        if not answer.startswith(NO_ANSWER):
            break


def crosstune(*arguments: object, accept: tuple[int, ...] = (0,), capture: bool = False) -> str:
    """Show a command and run it.

    Args:
        arguments: What stands after `crosstune`.
        accept: Exit codes that are no failure; another one ends this script.
        capture: Return what it prints, in place of showing it.
    """
    words = [str(argument) for argument in arguments]
    print(f"$ crosstune {shlex.join(words)}", flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "crosstune", *words], stdout=subprocess.PIPE if capture else None, text=True, check=False
    )
    if done.returncode not in accept:
        sys.exit(done.returncode)
    return done.stdout or ""


def search(question: str, *options: object) -> list[str]:
    """Ids of the passages found, best first."""
    found = crosstune("search", question, *options, "--depth", DEPTH, "--top-n", DEPTH, "--json", capture=True)
    hits: list[dict[str, Any]] = json.loads(found)["hits"]
    return [hit["passage_id"] for hit in hits]


def unseen_questions(tuned: Path) -> list[tuple[str, set[str]]]:
    """Questions that the tuning never saw, in the order of the file, each with its right passages."""
    splits = json.loads((tuned / "splits.json").read_text(encoding="utf-8"))
    right: dict[str, set[str]] = {query_id: set() for query_id in splits["test"]}
    for line in (tuned / "qrels.trec").read_text(encoding="utf-8").splitlines():
        query_id, _, passage_id, relevance = line.split()
        if int(relevance) > 0:
            right[query_id].add(passage_id)
    return [(text, right[query_id]) for query_id, text in splits["questions"].items() if query_id in right]


def right_rank(found: list[str], right: set[str]) -> int | None:
    """Rank of the first right passage; None when none was found."""
    return next((rank for rank, passage_id in enumerate(found, start=1) if passage_id in right), None)


def print_ranks(questions: list[str], before: list[int | None], after: list[int | None]) -> None:
    """Rank of the right passage of each question before and after."""
    print("\nRank of the right passage\nbefore  after  question")
    for text, *ranks in zip(questions, before, after, strict=True):
        was, now = ("-" if rank is None else str(rank) for rank in ranks)
        print(f"{was:>6}  {now:>5}  {text}")
    print(f"-: not among the first {DEPTH}. Three questions prove nothing: the verdict is over all test questions.")


def heading(text: str) -> None:
    """Say what comes next."""
    print(f"\n--- {text}", flush=True)


def parsed() -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/rag"), help="folder for all that is written")
    parser.add_argument("--budget", default="5m", help="time for the tuning: 60s, 5m")
    parser.add_argument("--port", type=int, default=PORT, help="of the Redis server that is started")
    parser.add_argument("--keep", action="store_true", help="let Redis run on at the end, until Ctrl-C")
    return parser.parse_args()


if __name__ == "__main__":
    main()
