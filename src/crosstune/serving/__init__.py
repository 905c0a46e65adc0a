"""A tuned model behind HTTP, in the dialects that clients speak."""

from __future__ import annotations

from crosstune.serving.app import create_app
from crosstune.serving.metrics import Metrics
from crosstune.serving.server import listen, serve, url_of
from crosstune.serving.settings import ServingSettings
from crosstune.serving.worker import Worker

__all__ = ["Metrics", "ServingSettings", "Worker", "create_app", "listen", "serve", "url_of"]
