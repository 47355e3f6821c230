"""Certificates of one test run: an authority, servers, a client with an encrypted key, and certificates that must be refused."""

from __future__ import annotations

from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, load_pem_private_key

KEY_PASSWORD = "key:pass/word 7%"
HOST_NAME = "localhost"


class Certificates:
    """Paths of the certificates and keys under `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.authority, other = trustme.CA(), trustme.CA(organization_name="another authority")
        self.ca = self._write("ca.pem", self.authority.cert_pem.bytes())
        self.other_ca = self._write("other-ca.pem", other.cert_pem.bytes())
        server = self.authority.issue_cert(HOST_NAME)
        self.server_certificate = self._write("server.pem", b"".join(blob.bytes() for blob in server.cert_chain_pems))
        self.server_key = self._write("server.key", server.private_key_pem.bytes())
        self.key_store = self._write("server-store.pem", self._pkcs8(server.private_key_pem.bytes()) + self.server_certificate.read_bytes())
        client = self.authority.issue_cert("client@example.invalid", common_name="stream")
        self.client_certificate = self._write("client.pem", b"".join(blob.bytes() for blob in client.cert_chain_pems))
        self.client_key = self._write("client.key", client.private_key_pem.bytes())
        self.encrypted_key = self._write("client-encrypted.key", self._pkcs8(client.private_key_pem.bytes(), KEY_PASSWORD))

    def _write(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path

    @staticmethod
    def _pkcs8(key: bytes, password: str | None = None) -> bytes:
        """Return a PEM key as PKCS#8, the form that Kafka's key store and OpenSSL's encrypted keys take."""
        from cryptography.hazmat.primitives.serialization import NoEncryption

        encryption = NoEncryption() if password is None else BestAvailableEncryption(password.encode())
        return load_pem_private_key(key, None).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
