"""Measures what Antiphon costs beside nginx forwarding the same bytes.

Knows the server only by its command and its HTTP surface.
"""
