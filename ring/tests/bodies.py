"""The recorded shapes of contract 7-9 and 13, as files with made-up ids."""

from pathlib import Path
from typing import Any

import orjson

FOLDER = Path(__file__).parent / "documents"


def load(name: str) -> Any:
    return orjson.loads((FOLDER / name).read_bytes())


def load_bytes(name: str) -> bytes:
    return (FOLDER / name).read_bytes()
