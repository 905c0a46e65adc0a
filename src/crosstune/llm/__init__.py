"""A language model behind an OpenAI-compatible endpoint: answers with citations, questions for passages."""
