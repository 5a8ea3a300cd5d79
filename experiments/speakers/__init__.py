"""Embeddings that know a voice."""
