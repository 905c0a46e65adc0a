"""Run by scoring.py in another environment: pairs in on a line of JSON, logits and seconds out."""

import json
import os
import sys
import time

folder, backend, max_length = sys.argv[1], sys.argv[2], int(sys.argv[3])
out = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what the libraries print must not get into the answers

import torch  # noqa: E402
from sentence_transformers import CrossEncoder  # noqa: E402

model = CrossEncoder(
    folder, max_length=max_length, device="cpu", activation_fn=torch.nn.Identity(), backend=backend,
    model_kwargs={"export": True} | ({"file_name": None} if backend == "onnx" else {}),
)  # fmt: skip
for line in sys.stdin:
    pairs = [tuple(pair) for pair in json.loads(line)]
    start = time.perf_counter()
    logits = model.predict(pairs, show_progress_bar=False)
    seconds = time.perf_counter() - start
    out.write(json.dumps({"logits": [float(logit) for logit in logits], "seconds": seconds}) + "\n")
    out.flush()
