"""Take out of data and text what may be a secret: keys, tokens, values of headers and of queries.

What is not known to be harmless is taken out; names stay, so that a reader sees what was there.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

GONE = "[redacted]"
Json = dict[str, Any]

_SECRET_WORDS = (
    "apikey", "authorization", "bearer", "cookie", "credential", "inlinebytes", "passphrase",
    "passwd", "password", "privatekey", "secret", "sessionticket", "signature", "snippet", "token",
)  # fmt: skip
_HARMLESS = {
    "automountserviceaccounttoken", "clientsecretref", "imagepullsecrets", "maxtokens",
    "sdssecretconfig", "secretname", "secrets", "serviceaccounttoken",
    "tlscertificatesdssecretconfigs", "tokens", "tokensperfill", "validationcontextsdssecretconfig",
}  # fmt: skip
"""Names that sound like secrets and hold names or numbers; what is in them is looked at as well."""
_KEY_NAMES = ("key", "name", "headername", "type", "invertmatch", "treatmissingheaderasempty")
_PAIRS = (
    "add", "set", "env", "headermatches", "headers", "queryparams", "queryparameters",
    "requestheaderstoadd", "responseheaderstoadd",
)  # fmt: skip
"""Names of lists of headers and the like, whose items have a name and something that counts."""
_COMPARED = {
    "value", "string_match", "stringMatch", "exact_match", "safe_regex_match", "prefix_match",
    "suffix_match", "contains_match", "range_match", "raw_value",
}  # fmt: skip
_DROPPED = ("managedFields", "kubectl.kubernetes.io/last-applied-configuration")

_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
)
_JWT = re.compile(r"\beyJ[\w-]{5,}\.[\w-]+(?:\.[\w-]*)?")
_HEADER = re.compile(
    r"(?im)\b((?:proxy-)?authorization|(?:set-)?cookie|x-api-key|[\w-]*(?:token|secret|password))"
    r"(\\?[\"']?\s*[:=]\s*\\?[\"']?)(?!\s)(?:(?:bearer|basic|digest)\s+)?[^\s,;\"'\\]+(?:;[^\"'\n]*)?"
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}")
_QUERY = re.compile(r"((?:https?://|/)[^\s\"'?]*)\?[^\s\"'<>]+")
_USER_INFO = re.compile(r"(https?://)[^/\s\"'@]+@")
_CERTIFICATE = re.compile(r"(-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----)", re.DOTALL)
_LONG_SECRET = re.compile(
    r"(?<!sha256:)\b(?:[A-Fa-f0-9]{64,}|[A-Za-z0-9+/]{80,}={0,2})(?![A-Za-z0-9+/=])"
)
"""Long random text; digests of images are shown with their algorithm, and stay."""


def redact_text(text: str) -> str:
    """Return *text* without secrets."""
    text = _PRIVATE_KEY.sub(GONE, text)
    text = _USER_INFO.sub(rf"\1{GONE}@", text)
    text = _HEADER.sub(rf"\1\2{GONE}", text)
    text = _BEARER.sub(rf"\1 {GONE}", text)
    text = _JWT.sub(GONE, text)
    text = _QUERY.sub(rf"\1?{GONE}", text)
    return _without_long_secrets(text)


def redact(value: Any) -> Any:
    """Return JSON data without secrets; objects of kind Secret become their names."""
    match value:
        case dict():
            if value.get("kind") == "Secret":
                return {"kind": "Secret", "metadata": _name_only(value)}
            kept = {key: one for key, one in value.items() if key not in _DROPPED}
            if _is_pair(kept):
                return _pair(kept)
            return {key: _member(key, one) for key, one in kept.items()}
        case list():
            return [redact(one) for one in value]
        case str():
            return redact_text(value)
        case _:
            return value


def redact_bytes(content: bytes) -> bytes:
    """Return JSON, lines of JSON, or text without secrets."""
    try:
        data = msgspec.json.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        text = _PRIVATE_KEY.sub(GONE, content.decode(errors="replace"))
        return "".join(map(_line, text.splitlines(keepends=True))).encode()
    return as_json(redact(data))


def as_json(value: Any) -> bytes:
    """Return readable JSON; equal values give equal bytes."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def _line(line: str) -> str:
    if line.startswith("{"):
        try:
            data = msgspec.json.decode(line)
        except msgspec.MsgspecError:
            return redact_text(line)
        return msgspec.json.encode(redact(data)).decode() + "\n"
    return redact_text(line)


def _member(key: str, value: Any) -> Any:
    plain = key.lower().replace("_", "").replace("-", "").replace(".", "")
    if plain in _PAIRS and isinstance(value, list):
        return [_pair(one) for one in value]
    if plain in _PAIRS and isinstance(value, dict):
        return dict.fromkeys(value, GONE)
    if plain not in _HARMLESS and any(word in plain for word in _SECRET_WORDS):
        return _hollow(value)
    return redact(value)


def _is_pair(value: Json) -> bool:
    """Return whether this is a header or the like: it has a name and what is compared or set."""
    return bool({"name", "key"} & value.keys() and _COMPARED & value.keys())


def _pair(item: Any) -> Any:
    """Return a header or the like without what it is compared with or set to."""
    if isinstance(item, str):
        name, colon, _ = item.partition(":")
        return f"{name}: {GONE}" if colon else name
    if not isinstance(item, dict):
        return redact(item)
    return {key: _pair_member(key, one) for key, one in item.items()}


def _pair_member(key: str, value: Any) -> Any:
    plain = key.lower().replace("_", "")
    if plain in _KEY_NAMES and not isinstance(value, dict | list):
        return value
    if plain == "header" and isinstance(value, dict):
        return _pair(value)
    if plain == "valuefrom":
        return redact(value)
    return _hollow(value)


def _hollow(value: Any) -> Any:
    """Return the shape of *value*, every text in it taken out."""
    match value:
        case dict():
            return {key: _hollow(one) for key, one in value.items()}
        case list():
            return [_hollow(one) for one in value]
        case str() if value:
            return GONE
        case _:
            return value


def _without_long_secrets(text: str) -> str:
    """Take out long random text, but not certificates, which anybody may read."""
    pieces = _CERTIFICATE.split(text)
    pieces[::2] = [_LONG_SECRET.sub(GONE, one) for one in pieces[::2]]
    return "".join(pieces)


def _name_only(value: Json) -> Json:
    metadata = value.get("metadata") or {}
    return {key: metadata[key] for key in ("name", "namespace") if key in metadata}
