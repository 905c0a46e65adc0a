"""Training and scoring speed against the field's tools: all sides in one run, same pairs, same threads.

`make bench` prints tables and writes benchmarks/results/<machine>.json. Ratios are what counts; machines differ.
`python -m benchmarks.run training scoring` runs some of the parts; `gpu` and `gpu-bulk` need a CUDA
device.
"""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Callable
from typing import Any

# As the command line does: set before torch loads, so for all sides.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from benchmarks import gpu
from benchmarks.scaling import cores, graph_search, mining_passages, scoring_pairs, training_pairs
from benchmarks.scoring import scoring
from benchmarks.slices import slices
from benchmarks.timing import machine
from benchmarks.training import peak_memory, training
from benchmarks.workload import MINILM, ROOT, XLMR

PARTS: dict[str, dict[str, Callable[[], dict[str, Any]]]] = {
    "scoring": {
        f"scoring, 100 passages of one query, {MINILM}": lambda: scoring(MINILM, 100, one_query=True),
        f"scoring, 50 passages of one query, {XLMR}": lambda: scoring(XLMR, 50, one_query=True),
    },
    "training": {
        f"training, {MINILM}": lambda: training(MINILM),
        f"training, {MINILM}, at most 256 tokens": lambda: training(MINILM, 256),
        f"training, {XLMR}": lambda: training(XLMR),
    },
    "bulk": {f"scoring, 10,000 pairs, {MINILM}": lambda: scoring(MINILM, 10_000, one_query=False)},
    "slices": {"batches cut for all threads": slices},
    "memory": {f"peak memory of training 48 pairs of 512 tokens, {XLMR}": lambda: peak_memory(XLMR)},
    "gpu": {
        f"GPU training, {XLMR}": lambda: gpu.training(XLMR),
        f"GPU training, {MINILM}": lambda: gpu.training(MINILM),
        f"GPU memory of training pairs of 512 tokens, {XLMR}": lambda: gpu.memory(XLMR),
        f"GPU scoring, 100 passages of one query, {XLMR}": lambda: gpu.scoring(XLMR, 100, one_query=True),
    },
    "gpu-bulk": {
        f"GPU scoring, 2,000 pairs, {XLMR}": lambda: gpu.scoring(XLMR, 2_000, one_query=False),
        f"GPU scoring, 10,000 pairs, {MINILM}": lambda: gpu.scoring(MINILM, 10_000, one_query=False),
    },
    "scaling": {
        "all of scoring but the model": scoring_pairs,
        "all of training but the model": training_pairs,
        "dense search and mining": mining_passages,
        "dense search by a graph": graph_search,
        f"cores, {MINILM}": cores,
    },
}
_DEFAULT = ("scoring", "training")


def main() -> None:
    """Measure, print, write."""
    chosen = sys.argv[1:] or list(_DEFAULT)
    about = machine()
    name = re.sub(r"[^a-z0-9]+", "-", str(about["gpu"] or about["processor"]).lower()).strip("-")
    path = ROOT / "benchmarks" / "results" / f"{platform.machine()}-{os.cpu_count()}cpu-{name}.json"
    path.parent.mkdir(exist_ok=True)
    results = json.loads(path.read_text()) if path.is_file() else {}
    results["machine"] = about
    for part in chosen:
        for title, measure in PARTS[part].items():
            results[title] = measure()
            show(title, results[title])
            path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(f"\nwritten to {path.relative_to(ROOT)}")


def show(title: str, result: dict[str, Any]) -> None:
    """Print one measurement as a table."""
    about = ", ".join(f"{key} {value}" for key, value in result.items() if key != "rows")
    print(f"\n{title} ({about})")
    for name, row in result["rows"].items():
        figures = "  ".join(f"{key} {value:.3g}" for key, value in row.items() if isinstance(value, int | float))
        print(f"  {name:42} {figures}", flush=True)


if __name__ == "__main__":
    main()
