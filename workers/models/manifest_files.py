"""The manifests of stored versions. Reading one needs no library of the models."""

from __future__ import annotations

import hashlib

from pydantic import ValidationError

from workers.models.manifest import Manifest, StoreError, first_problem
from workers.storage import NotOurFile, Storage

MAX_MANIFEST_BYTES = 16 * 1024**2


class ManifestFiles:
    """Manifests of the versions of every kind."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def write_manifest(self, manifest: Manifest) -> None:
        """Write the manifest, which finishes the version. Raises StoreError when it is too large."""
        content = manifest.model_dump_json(indent=1).encode()
        if len(content) > MAX_MANIFEST_BYTES:
            raise StoreError(f"{manifest.version}: its manifest would have {len(content):,} bytes, more than one may have")
        self._storage.write(f"{manifest.kind}/{manifest.version}/manifest.json", content)

    def read_manifest(self, kind: str, version: str) -> tuple[Manifest, str]:
        """Return a version's manifest and its SHA-256. Raises StoreError."""
        try:
            content = self._storage.read(f"{kind}/{version}/manifest.json", MAX_MANIFEST_BYTES)
        except FileNotFoundError:
            raise StoreError(f"{version}: there is no such version of {kind}; `recsys models list` shows what there is") from None
        except NotOurFile as error:
            raise StoreError(f"{version}: {error}") from None
        try:
            manifest = Manifest.model_validate_json(content)
        except ValidationError as error:
            raise StoreError(f"{version}: manifest.json, {first_problem(error)}; restore the file or promote another version") from None
        if (manifest.kind, manifest.version) != (kind, version):
            raise StoreError(f"{version}: manifest.json is of another version; restore the folder or promote another version")
        return manifest, hashlib.sha256(content).hexdigest()
