"""Antiphon: the OpenAI Responses API for any model, self-hosted."""

__version__ = "0.1.0"
