"""TLS contexts from certificate files, with one line for each way in which the files can be wrong."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Protocol

from pydantic import SecretStr

from workers.errors import SettingsError


class CertificateFiles(Protocol):
    """The certificate settings of one section (`kafka` or `redis`)."""

    @property
    def ca_file(self) -> Path | None: ...
    @property
    def ca_setting(self) -> str: ...
    @property
    def ssl_certfile(self) -> Path | None: ...
    @property
    def ssl_keyfile(self) -> Path | None: ...
    @property
    def ssl_key_password(self) -> SecretStr | None: ...


class _Encrypted(Exception):
    """The key file asks for a pass phrase and there is none."""


def tls_context(section: str, files: CertificateFiles) -> ssl.SSLContext:
    """Return a context that verifies the server and its host name. Raises SettingsError naming the setting whose file is wrong."""
    _check_readable(f"{section}.{files.ca_setting}", files.ca_file)
    try:
        context = ssl.create_default_context(cafile=None if files.ca_file is None else str(files.ca_file))
    except ssl.SSLError:
        raise SettingsError(f"setting {section}.{files.ca_setting}: {files.ca_file} holds no PEM certificate: name the CA's file") from None
    if files.ssl_certfile is None:
        if files.ssl_keyfile is not None:
            raise SettingsError(f"setting {section}.ssl_keyfile: it needs {section}.ssl_certfile, the certificate of that key")
        return context
    _check_readable(f"{section}.ssl_certfile", files.ssl_certfile)
    _check_readable(f"{section}.ssl_keyfile", files.ssl_keyfile)
    _load_certificate(context, section, files)
    return context


def _check_readable(setting: str, file: Path | None) -> None:
    if file is None:
        return
    try:
        with file.open("rb"):
            pass
    except OSError as error:
        raise SettingsError(
            f"setting {setting}: {file} cannot be read ({os.strerror(error.errno or 0)}): name a readable PEM file"
        ) from None


def _load_certificate(context: ssl.SSLContext, section: str, files: CertificateFiles) -> None:
    password = files.ssl_key_password
    key_setting = "ssl_keyfile" if files.ssl_keyfile is not None else "ssl_certfile"
    key_file = files.ssl_keyfile or files.ssl_certfile

    def pass_phrase() -> str:  # called for an encrypted key alone; without it OpenSSL would ask the terminal
        if password is None:
            raise _Encrypted
        return password.get_secret_value()

    try:
        context.load_cert_chain(str(files.ssl_certfile), None if files.ssl_keyfile is None else str(files.ssl_keyfile), pass_phrase)
    except _Encrypted:
        raise SettingsError(f"setting {section}.ssl_key_password: the key in {key_file} is encrypted: give its pass phrase") from None
    except ValueError:  # longer than OpenSSL takes
        raise SettingsError(f"setting {section}.ssl_key_password: too long for OpenSSL: at most 1,023 bytes") from None
    except ssl.SSLError as error:
        reason = error.reason or ""
        if reason == "KEY_VALUES_MISMATCH":
            text = f"setting {section}.{key_setting}: the key in {key_file} is not that of {files.ssl_certfile}: name the pair"
        elif password is not None and _is_encrypted(key_file):
            text = f"setting {section}.ssl_key_password: it does not decrypt the key in {key_file}: correct it"
        else:
            text = (
                f"setting {section}.ssl_certfile: {files.ssl_certfile} and {key_file} are no PEM certificate and key: "
                f"check {section}.ssl_certfile and {section}.ssl_keyfile"
            )
        raise SettingsError(text) from None


def _is_encrypted(key_file: Path | None) -> bool:
    return key_file is not None and b"ENCRYPTED" in key_file.read_bytes()
