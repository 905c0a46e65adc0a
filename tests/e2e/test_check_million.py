"""A million rows stream through `check` in bounded memory."""

import csv
import json
import random
import resource
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

N_ROWS = 1_000_000
PEAK_MIB = 700


def test_a_million_rows_in_bounded_memory(tmp_path):
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(3, 9))) for _ in range(20_000)]
    path = tmp_path / "million.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Question", "Answer"])
        previous: list[str] = []
        for number in range(N_ROWS):
            # Every hundredth row repeats the one before it.
            if number % 100 != 99:
                previous = [" ".join(draw.choices(words, k=14)), " ".join(draw.choices(words, k=42))]
            writer.writerow(previous)
    result = subprocess.run(
        [sys.executable, "-m", "crosstune", "check", str(path), "--json", "--quiet"],
        capture_output=True,
        text=True,
        check=True,
    )
    audit = json.loads(result.stdout)["audit"]
    peak_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"peak {peak_mib:.0f} MiB")
    assert audit["rows_read"] == N_ROWS
    assert audit["counts"]["exact-duplicate"] == N_ROWS // 100
    assert audit["rows_used"] == N_ROWS - N_ROWS // 100
    assert peak_mib < PEAK_MIB
