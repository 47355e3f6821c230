"""Keeps secrets out of logs, tracebacks and error messages, whatever library writes them and in whatever encoding.

Two layers. `MaskedStr` is what the Kafka clients get as a password: a string whose repr is a mask, for clients that log their settings.
`hide_secrets` makes every log record of the process pass through a `Redactor` when it is created, before any handler sees it.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

from pydantic import BaseModel, SecretStr

MASK = "********"
_IN_ENVIRONMENT = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "FSSPEC_S3_SECRET", "FSSPEC_S3_TOKEN", "AZURE_STORAGE_ACCOUNT_KEY")
"""Where storage packages take credentials from, which are no settings."""
SHORT = 4
"""A secret below this many characters is masked only where it stands alone: `a` is part of most words."""


class MaskedStr(str):
    """A string that shows a mask in a repr, and so in a printed dict of options. Its value is that of any other string."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(MASK)


class Redactor:
    """Replaces known secrets in texts by a mask."""

    def __init__(self, secrets: Iterable[str]) -> None:
        spelled = {form for secret in secrets if secret for form in _spellings(secret)}
        parts = [re.escape(form) if len(form) >= SHORT else rf"(?<![^\W_]){re.escape(form)}(?![^\W_])" for form in _longest_first(spelled)]
        self._pattern = re.compile("|".join(parts)) if parts else None

    def __call__(self, text: str) -> str:
        """Return the text without the secrets."""
        return text if self._pattern is None else self._pattern.sub(MASK, text)


def _longest_first(forms: Iterable[str]) -> list[str]:
    return sorted(forms, key=lambda form: (-len(form), form))


def _spellings(secret: str) -> Iterator[str]:
    """Yield a secret as it may stand in a log: as it is, in a URL, in JSON, in a repr of text and of bytes, in base64 and in hex."""
    octets = secret.encode("utf-8", "surrogatepass")
    yield secret
    yield from {quote(secret, safe=""), quote(secret), quote_plus(secret), quote(secret, safe="").lower()}
    yield from {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    yield from {repr(secret)[1:-1], repr(octets)[2:-1]}
    if len(secret) >= SHORT:
        yield base64.b64encode(octets).decode()
        yield base64.urlsafe_b64encode(octets).decode()
        yield octets.hex()


def secrets_of(settings: BaseModel) -> set[str]:
    """Collect the secrets of settings: every SecretStr, and what URLs carry as a password."""
    found: set[str] = set()
    for name, value in _leaves(settings):
        is_secret = isinstance(value, SecretStr)
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if isinstance(text, str) and (name.endswith("url") or "://" in text):
            found |= _url_secrets(text)
        elif is_secret and isinstance(text, str):
            found.add(text)
    return found


def _leaves(model: BaseModel) -> Iterator[tuple[str, Any]]:
    for name in type(model).model_fields:
        value = getattr(model, name)
        for one in value if isinstance(value, tuple | list) else (value,):
            if isinstance(one, BaseModel):
                yield from _leaves(one)
            else:
                yield name, one


def _url_secrets(url: str) -> set[str]:
    try:
        parts = urlsplit(url)
        password = parts.password
    except ValueError:
        return {url}
    found = {password, unquote(password)} if password else set()
    for name, value in parse_qsl(parts.query):
        if any(word in name.lower() for word in ("password", "secret", "token", "key")):
            found |= {value, quote(value, safe="")}
    return found


_installed: Redactor | None = None


def redact(text: str) -> str:
    """Return a text without the secrets that `hide_secrets` knows."""
    return text if _installed is None else _installed(text)


def hide_secrets(settings: BaseModel) -> None:
    """From now on no log record, traceback or uncaught exception of this process shows a secret of these settings. May be repeated."""
    global _installed
    _installed = Redactor(secrets_of(settings) | {os.environ[name] for name in _IN_ENVIRONMENT if os.environ.get(name)})
    if logging.getLogRecordFactory() is not _record_without_secrets:
        _Factory.plain = logging.getLogRecordFactory()
        logging.setLogRecordFactory(_record_without_secrets)
        sys.excepthook = _print_without_secrets


class _Factory:
    plain: Any = logging.LogRecord


def _record_without_secrets(*arguments: Any, **options: Any) -> logging.LogRecord:
    record: logging.LogRecord = _Factory.plain(*arguments, **options)
    try:
        message = record.getMessage()
    except Exception:  # wrong arguments: logging itself reports them, without this record's text
        record.msg, record.args = "a log message whose arguments do not fit its format", None
        message = record.msg
    shown = redact(message)
    if shown != message:
        record.msg, record.args = shown, None
    if record.exc_info and record.exc_info[1] is not None:
        text = "".join(traceback.format_exception(record.exc_info[1])).rstrip("\n")
        if (hidden := redact(text)) != text:
            record.exc_text = hidden
    if record.stack_info:
        record.stack_info = redact(record.stack_info)
    return record


def _print_without_secrets(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.stderr.write(redact("".join(traceback.format_exception(kind, error, trace))))
