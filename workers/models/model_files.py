"""Files of stored versions: packing a model, and reading one with every hash checked before its file is parsed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from recsys.catalogue.item_vectors import ItemVectors
from recsys.errors import CoreError
from recsys.lists.learned.ranker import LearnedRanker
from recsys.lists.recipe import Recipe
from recsys.models.base import Model
from recsys.models.checks import check_model, check_tensors
from recsys.models.content_map import OPTION, ContentMap, MappedModel, parts_of, split_tensors
from recsys.models.registry import load_model
from schemas.fields import Id
from workers.errors import Transient, WorkerError, describe, one_line
from workers.models.manifest import MAX_ITEMS, Manifest, StoredFile, StoreError, TensorShape, first_problem
from workers.models.manifest_files import ManifestFiles
from workers.storage import NotOurFile

MAX_TENSOR_BYTES = 2 * 1024**3
"""Eight million items at 64 factors. A worker holds a model twice while it is loaded, so a larger one would end it for want of memory."""
MAX_ITEMS_BYTES = 256 * 1024**2
HEADER_BYTES = 1024**2
"""Bytes that a file of tensors may have besides its numbers."""
_ITEM_IDS = TypeAdapter(Annotated[list[Id], Field(max_length=MAX_ITEMS)])


Servable = Model | MappedModel | Recipe | ItemVectors | LearnedRanker
"""What a version holds: a model, whose scores are a source of lists, with or without its map from content; the recipe that lists are made
by; vectors of items' texts; or a ranker, which ranks again what the recipe ranks first."""
NO_MODELS = (Recipe, ItemVectors, LearnedRanker)
LIST_MAKERS = {one.kind: one for one in (Recipe, LearnedRanker)}
"""Kinds that are trained on replayed lists and know no items."""


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A loaded version. `manifest_sha256` is the hash that an announcement names."""

    manifest: Manifest
    manifest_sha256: str
    content: Servable

    @property
    def model(self) -> Model:
        """Return the model of this version. Raises StoreError if it is a recipe, a ranker, or vectors of texts."""
        if isinstance(self.content, NO_MODELS):
            raise StoreError(f"{self.manifest.version}: it is no model but of the kind {self.content.kind}")
        return parts_of(self.content)[0]

    @property
    def served(self) -> Model | MappedModel:
        """Return the model of this version with its map from content, if it has one. Raises StoreError as `model` does."""
        return self.content if isinstance(self.content, MappedModel) else self.model

    @property
    def recipe(self) -> Recipe:
        """Return the recipe of this version. Raises StoreError if it is a model."""
        if not isinstance(self.content, Recipe):
            raise StoreError(f"{self.manifest.version}: it is a model and no recipe")
        return self.content

    @property
    def ranker(self) -> LearnedRanker:
        """Return the ranker of this version. Raises StoreError if it is none."""
        if not isinstance(self.content, LearnedRanker):
            raise StoreError(f"{self.manifest.version}: it is no ranker")
        return self.content


@dataclass(frozen=True, slots=True)
class PackedModel:
    """A checked model, recipe or ranker as the content of its files; only models know items."""

    kind: str
    n_items: int
    config: dict[str, Any]
    tensors: dict[str, TensorShape]
    safetensors: bytes
    items: bytes


def pack(model: Servable) -> PackedModel:
    """Check and pack a model, a recipe or a ranker. Raises StoreError when it could not be loaded again."""
    item_ids = [] if isinstance(model, Recipe | LearnedRanker) else model.item_ids
    try:
        if not isinstance(model, NO_MODELS):  # these check themselves when they are made
            check_model(parts_of(model)[0])
    except CoreError as error:
        raise StoreError(f"{error}; if training diverged, lower its learning rate") from None
    tensors = {name: np.ascontiguousarray(array) for name, array in model.tensors().items()}
    content, items = save_tensors(tensors), json.dumps(item_ids, ensure_ascii=False).encode()
    if len(content) > MAX_TENSOR_BYTES or len(items) > MAX_ITEMS_BYTES or len(item_ids) > MAX_ITEMS:
        raise StoreError(f"{model.kind}: {len(content):,} bytes for {len(item_ids):,} items are more than a model may have")
    return PackedModel(model.kind, len(item_ids), dict(model.config), _shapes(tensors), content, items)


class ModelFiles(ManifestFiles):
    """Files of the versions of every kind."""

    def write(self, version: str, packed: PackedModel) -> dict[Literal["model.safetensors", "items.json"], StoredFile]:
        """Write a version's files except for the manifest; return how the manifest describes them."""
        folder = f"{packed.kind}/{version}"
        return {
            "model.safetensors": self._write_file(f"{folder}/model.safetensors", packed.safetensors),
            "items.json": self._write_file(f"{folder}/items.json", packed.items),
        }

    def _write_file(self, name: str, content: bytes) -> StoredFile:
        return StoredFile(sha256=self._storage.write(name, content), n_bytes=len(content))

    def load(self, kind: str, version: str, manifest_sha256: str | None) -> StoredModel:
        """Load and check a version. Every hash is checked before its file is parsed.

        Raises: StoreError if anything is missing, damaged, too large, or not what the manifest (or `manifest_sha256` of an announcement)
        says.
        """
        try:
            return self._load_checked(kind, version, manifest_sha256)
        except MemoryError:
            raise Transient(f"{version}: there is not enough memory to load it; give the process more") from None
        except (WorkerError, OSError):
            raise
        except KeyError as error:
            raise StoreError(f"{version}: kind or tensor {error!s:.80} is unknown to this version of the program; upgrade it") from None
        except (CoreError, TypeError, ValueError) as error:
            raise StoreError(f"{version}: {one_line(error)}; restore it or promote another version") from None
        except Exception as error:  # files that others may write to: any failure to read them refuses the version
            raise StoreError(f"{version}: unexpected {describe(error)}; restore it or promote another version") from error

    def _load_checked(self, kind: str, version: str, manifest_sha256: str | None) -> StoredModel:
        manifest, found_sha256 = self.read_manifest(kind, version)
        if manifest_sha256 is not None and manifest_sha256 != found_sha256:
            raise StoreError(f"{version}: manifest.json is not the one that was announced; restore it or promote another version")
        claimed = sum(prod(tensor.shape) * np.dtype(tensor.dtype).itemsize for tensor in manifest.tensors.values())
        if claimed > MAX_TENSOR_BYTES:
            raise StoreError(f"{version}: the manifest claims {claimed:.3g} bytes of numbers, more than a model may have")
        if (file := manifest.files.get("model.safetensors")) is not None and file.n_bytes > claimed + HEADER_BYTES:
            raise StoreError(f"{version}: model.safetensors has {file.n_bytes:.3g} bytes, more than its tensors need")
        item_ids = self._item_ids(manifest)
        tensors = self._tensors(manifest)
        if kind in LIST_MAKERS:
            check_tensors(tensors)
            return StoredModel(manifest, found_sha256, LIST_MAKERS[kind].from_tensors(manifest.config, tensors))
        if kind == ItemVectors.kind:
            return StoredModel(manifest, found_sha256, ItemVectors.from_tensors(manifest.config, item_ids, tensors))
        own, of_map = split_tensors(tensors)
        model = load_model(kind, manifest.config, item_ids, own)
        if OPTION not in manifest.config:
            return StoredModel(manifest, found_sha256, model)
        content_map = ContentMap.from_tensors(manifest.config[OPTION], of_map)
        return StoredModel(manifest, found_sha256, MappedModel(model, content_map))

    def _file(self, manifest: Manifest, name: Literal["model.safetensors", "items.json"], max_bytes: int) -> bytes:
        stored = manifest.files.get(name)
        if stored is None:
            raise StoreError(f"{manifest.version}: the manifest does not name {name}")
        try:
            content = self._storage.read(f"{manifest.kind}/{manifest.version}/{name}", min(max_bytes, stored.n_bytes))
        except FileNotFoundError:
            raise StoreError(f"{manifest.version}: {name} is missing; restore it or promote another version") from None
        except NotOurFile as error:
            raise StoreError(f"{manifest.version}: {error}") from None
        if hashlib.sha256(content).hexdigest() != stored.sha256:
            raise StoreError(
                f"{manifest.version}: {name} has another SHA-256 than the manifest says; restore it or promote another version"
            )
        return content

    def _item_ids(self, manifest: Manifest) -> list[str]:
        content = self._file(manifest, "items.json", MAX_ITEMS_BYTES)
        try:
            item_ids = _ITEM_IDS.validate_json(content)
        except ValidationError as error:
            raise StoreError(f"{manifest.version}: items.json, {first_problem(error)}; restore it or promote another version") from None
        if len(item_ids) != manifest.n_items:
            raise StoreError(f"{manifest.version}: items.json is not a list of {manifest.n_items} ids")
        return item_ids

    def _tensors(self, manifest: Manifest) -> dict[str, NDArray[Any]]:
        content = self._file(manifest, "model.safetensors", MAX_TENSOR_BYTES)
        try:
            tensors: dict[str, NDArray[Any]] = load_tensors(content)
            found = _shapes(tensors)
        except MemoryError:
            raise
        except Exception as error:  # SafetensorError, and numpy's errors for types that it does not have
            text = f"{manifest.version}: model.safetensors is not a safetensors file of the types that models use"
            raise StoreError(f"{text} ({type(error).__name__})") from None
        if found != manifest.tensors:
            raise StoreError(f"{manifest.version}: model.safetensors holds other tensors than the manifest says")
        return tensors


def _shapes(tensors: Mapping[str, NDArray[Any]]) -> dict[str, TensorShape]:
    return {name: TensorShape.model_validate({"shape": array.shape, "dtype": str(array.dtype)}) for name, array in tensors.items()}
