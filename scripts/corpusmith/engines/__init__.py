"""Engines answer requests. One protocol; the engine of a model is chosen in config."""
