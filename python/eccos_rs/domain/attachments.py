"""Input tokens of what is not text: tool definitions, response schemas, images."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import re
import struct
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

__all__ = ["IMAGE_PARTS", "definition_tokens", "image_tokens", "text_tokens"]

IMAGE_PARTS = ("image", "image_url", "input_image")
"""Types of content parts that are images: of Messages, Chat Completions and Responses."""

_WORD = re.compile(r"[^\W\d_]{1,8}|\d{1,3}|[^\w\s]{1,3}|_")
"""What byte-pair vocabularies make one token of, about: eight letters, three digits, three signs."""

_REMEMBERED = 512

# OpenAI's tiles: the image is scaled to 2,048, its short side to 768, and cut into squares of 512.
_LOW_DETAIL, _TILE_BASE, _TILE = 85, 85, 170
_UNKNOWN_TILES = 4  # 1,024 by 1,024
# Anthropic: width times height over 750, at most about 1,568.
_PIXELS_PER_TOKEN, _MOST_ANTHROPIC = 750, 1568

_known: OrderedDict[bytes, int] = OrderedDict()


def text_tokens(text: str) -> int:
    """Estimate the tokens of a text without a tokenizer; JSON and English are met within about a fifth."""
    return sum(1 for _ in _WORD.finditer(text))


def definition_tokens(*definitions: Any) -> int:
    """Estimate the input tokens of tool definitions and response schemas.

    Parameters
    ----------
    *definitions
        JSON values; None counts nothing. Agents send the same ones with every turn: they are counted once.
    """
    given = [each for each in definitions if each]
    if not given:
        return 0
    text = json.dumps(given, ensure_ascii=False, separators=(",", ":"), default=str)
    key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    tokens = _known.get(key)
    if tokens is None:
        tokens = _known[key] = text_tokens(text)
        while len(_known) > _REMEMBERED:
            _known.pop(next(iter(_known)), None)
    return tokens


def image_tokens(part: Any) -> int:
    """Estimate the input tokens of an image part.

    Parameters
    ----------
    part : mapping
        ``image_url`` (Chat Completions) and ``input_image`` (Responses) are counted by OpenAI's tiles: 85
        with low detail, else 85 and 170 for each square of 512 pixels (four where the size is not known).
        ``image`` (Messages) is counted by Anthropic's formula: width x height / 750, at most 1,568.
    """
    if not isinstance(part, Mapping):
        return 0
    if part.get("type") == "image":
        source = part.get("source")
        data = source.get("data") if isinstance(source, Mapping) else None
        size = _size(data) if isinstance(data, str) else None
        if size is None:
            return _MOST_ANTHROPIC
        return max(1, min(_MOST_ANTHROPIC, math.ceil(size[0] * size[1] / _PIXELS_PER_TOKEN)))
    url: Any = part.get("image_url")
    detail: Any = part.get("detail")
    if isinstance(url, Mapping):
        url, detail = url.get("url"), url.get("detail")
    if detail == "low":
        return _LOW_DETAIL
    size = None
    if isinstance(url, str) and url.startswith("data:"):
        size = _size(url[url.find(",") + 1 :])
    return _TILE_BASE + _TILE * (_UNKNOWN_TILES if size is None else _tiles(*size))


def _tiles(width: int, height: int) -> int:
    scale = min(1.0, 2048 / max(width, height))
    scale *= min(1.0, 768 / (min(width, height) * scale))
    return math.ceil(width * scale / 512) * math.ceil(height * scale / 512)


def _size(data: str) -> tuple[int, int] | None:
    """Return width and height of a base64 PNG, GIF or JPEG, as far as its first 64 kilobytes say."""
    try:
        head = base64.b64decode(data[:87_380] if len(data) > 87_380 else data + "=" * (-len(data) % 4))
    except (binascii.Error, ValueError):
        return None
    size: tuple[int, int] | None = None
    if head[:8] == b"\x89PNG\r\n\x1a\n" and len(head) >= 24:
        size = struct.unpack(">II", head[16:24])
    elif head[:4] == b"GIF8" and len(head) >= 10:
        size = struct.unpack("<HH", head[6:10])
    elif head[:2] == b"\xff\xd8":
        size = _jpeg_size(head)
    return size if size is not None and min(size) > 0 else None


def _jpeg_size(head: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 < len(head) and head[at] == 0xFF:
        marker, length = head[at + 1], int.from_bytes(head[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a start of frame
            height, width = struct.unpack(">HH", head[at + 5 : at + 9])
            return width, height
        at += 2 + length
    return None
