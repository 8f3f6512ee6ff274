"""Batch jobs that compose extractors, stores and relevance over whole catalogues."""
