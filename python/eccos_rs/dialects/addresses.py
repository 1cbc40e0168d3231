"""Where an endpoint of each kind is asked, in which dialect, and in which header it is told its key."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

__all__ = ["KEY_HEADERS", "TIERS", "TRANSLATED", "VERSION_HEADERS", "request_path", "request_url"]

TRANSLATED = {"openai": "chat", "azure": "chat", "anthropic": "messages", "gemini": "gemini"}
"""The dialect that an endpoint of a kind is asked in when a request comes in none of its own."""
KEY_HEADERS = {"anthropic": "x-api-key", "azure": "api-key", "gemini": "x-goog-api-key"}
"""The header of the key, where it is not ``Authorization: Bearer``."""
VERSION_HEADERS = {"anthropic": {"anthropic-version": "2023-06-01"}}
"""What a kind wants to be told beside its key."""
TIERS = ("flex", "priority")
"""Lanes that a request must ask for; the standard one is what it gets unasked."""

_PATHS = {
    "chat": "chat/completions",
    "responses": "responses",
    "completions": "completions",
    "embeddings": "embeddings",
    "messages": "messages",
    "models": "models",
}


def request_path(kind: str, base: str, model: str, dialect: str, *, streaming: bool = False) -> str:
    """Return the path of a request behind that of the base address.

    Parameters
    ----------
    kind : {"openai", "anthropic", "azure", "gemini"}
    base : str
        The path of the base address, without a slash at its end.
    model : str
        The name sent upstream, which some kinds have in the path.
    dialect : {"chat", "responses", "completions", "embeddings", "messages", "models", "gemini"}
    streaming : bool
        Gemini has another method for a stream.
    """
    if kind == "gemini" and dialect == "gemini":
        return f"models/{model}:{'streamGenerateContent' if streaming else 'generateContent'}"
    path = _PATHS[dialect]
    if kind == "anthropic" and not base.endswith("/v1"):
        return f"v1/{path}"
    if kind == "azure" and "/deployments/" not in base and not base.endswith("/v1"):
        return f"openai/deployments/{model}/{path}"
    return path


def request_url(kind: str, base_url: str, model: str, dialect: str, *, streaming: bool = False) -> str:
    """Return the whole address of a request; the query of the base address stays behind its path."""
    parts = urlsplit(base_url)
    base = parts.path.rstrip("/")
    query = parse_qsl(parts.query, keep_blank_values=True)
    if kind == "gemini" and dialect == "gemini" and streaming:
        query.append(("alt", "sse"))
    path = f"{base}/{request_path(kind, base, model, dialect, streaming=streaming)}"
    return urlunsplit((parts.scheme, parts.netloc, path, urlencode(query), ""))
