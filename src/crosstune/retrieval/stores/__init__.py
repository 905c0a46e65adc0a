"""Indexes of passages: in a folder, or in Redis; one contract (`protocols.Store`)."""
