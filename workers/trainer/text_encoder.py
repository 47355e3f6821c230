"""The language model that turns texts of items into vectors: a sentence encoder in a local folder (extra `text`).

The folder has the layout of sentence-transformers: `modules.json`, the configuration and tokenizer of each module, and weights as
safetensors. Nothing is downloaded, nothing is unpickled, and no code of the folder runs.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.errors import Fatal

F32 = NDArray[np.float32]

UNSAFE = frozenset((".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".h5", ".msgpack", ".py", ".so"))
"""Endings of files that a loader might unpickle or run."""
_CHUNK_BYTES = 1 << 20


class TextModelError(Fatal):
    """The language model cannot be used; the message says why and what to do."""


def check_folder(folder: Path) -> None:
    """Check that a folder may be loaded. Raises: TextModelError naming the fault and the remedy."""
    if not folder.is_dir():
        raise TextModelError("content.text_model: there is no such folder; name the local folder of a sentence-transformers model")
    if not (folder / "modules.json").is_file():
        raise TextModelError("content.text_model: the folder has no modules.json; name the folder of a sentence-transformers model")
    unsafe = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix.lower() in UNSAFE)
    if unsafe:
        raise TextModelError(f"content.text_model: {unsafe[0]:.80} may hold code; remove it, and keep the weights as safetensors")
    if not (folder / "model.safetensors").is_file() and not list(folder.glob("*/model.safetensors")):
        raise TextModelError("content.text_model: the folder has no model.safetensors; save the model with safe serialization")


def check_usable(folder: Path) -> None:
    """Check that a folder may be loaded, and that there is a library to load it. Raises: TextModelError."""
    check_folder(folder)
    if find_spec("sentence_transformers") is None:
        raise TextModelError("content.text_model needs the extra `text`: pip install 'recsys-stream[text]'")


def digest_of(folder: Path) -> str:
    """Return the SHA-256 of all files of a folder, names included: what a vector depends on besides its text."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()


class TextEncoder:
    """A loaded sentence encoder. `digest` identifies its files, `width` is the number of dimensions D."""

    def __init__(self, folder: Path) -> None:
        """Load the model of a folder. Raises: TextModelError."""
        check_usable(folder)
        os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        self.digest = digest_of(folder)
        self._model = _load(folder)
        self.width = int(self._model.get_embedding_dimension())

    def encode(self, texts: Sequence[str]) -> F32:
        """Return the unit vectors of texts, (n, D). A text longer than the model reads is cut."""
        if not texts:
            return np.zeros((0, self.width), np.float32)
        found = self._model.encode(
            list(texts), batch_size=len(texts), convert_to_numpy=True, normalize_embeddings=True, show_progress_bar=False
        )
        vectors: F32 = np.ascontiguousarray(found, np.float32)
        return vectors


def _load(folder: Path) -> Any:
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        return SentenceTransformer(
            str(folder), device="cpu", trust_remote_code=False, local_files_only=True, model_kwargs={"use_safetensors": True}
        )
    except Exception as error:  # whatever a library makes of the files of a folder
        raise TextModelError(f"content.text_model: the model cannot be loaded ({type(error).__name__}); check the folder's files") from None
