"""Reads the `options.json` of a published ELMo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from elmo_runtime.errors import ConfigError

MAX_OPTIONS_BYTES = 1 << 20


def read_options(path: Path) -> dict[str, Any]:
    """The content of an `options.json`. Raises ConfigError."""
    if not path.is_file():
        raise ConfigError(
            f"{path} does not exist", hint="models are published with their options.json"
        )
    if path.stat().st_size > MAX_OPTIONS_BYTES:
        raise ConfigError(f"{path} is {path.stat().st_size} bytes, at most {MAX_OPTIONS_BYTES}")
    try:
        return parse_options(path.read_bytes(), str(path))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error


def parse_options(content: bytes, name: str) -> dict[str, Any]:
    """The JSON object in the bytes of a file of this name. Raises ConfigError."""
    try:
        options = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{name} is not JSON: {error}") from error
    if not isinstance(options, dict):
        raise ConfigError(f"{name} contains {type(options).__name__}, must be an object")
    return options
