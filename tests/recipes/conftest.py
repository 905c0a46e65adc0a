"""What all recipes' tests need: embedders that measure nothing."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def fp32_embedders():
    """No timing of precisions: on a busy machine bf16 would be chosen now and then, and vectors differ a little."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("crosstune.bi_encoder.embedder.faster_precision", lambda encode: "fp32")
        yield
