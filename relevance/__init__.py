"""Judging relevance: construct a path, follow it, decide by a rulebook; measure and explain it."""
