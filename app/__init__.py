"""Slipstream: language models over HTTP, with a vLLM engine in the same process."""

__version__ = "0.1.0"
