"""What reranking buys in a RAG system, and what it costs: on a real Redis."""
