"""Syntax of HTTP that several kinds of objects are held to."""

from __future__ import annotations

TOKEN = r"[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+"  # noqa: S105 - a pattern, not a secret
"""Pattern of a method or the name of a header. Source: RFC 9110, 5.6.2."""
