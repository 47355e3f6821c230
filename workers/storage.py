"""Files under one fsspec URL: whole-file writes that are either there or not, and names that cannot leave the folder.

A local file is written under another name and renamed. An object store has no renaming; it shows an object when all of it has arrived.
So on both a reader sees the old file or the new one, and what consists of several files (a version of a model, a checkpoint) is finished
by the one that is written last.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from filelock import FileLock, Timeout

from workers.errors import Fatal, Transient, WorkerError

_PART = re.compile(r"[A-Za-z0-9_+=-][A-Za-z0-9_.+=-]{0,127}")
_TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.tmp")
STALE_S = 3_600.0
"""No process writes one file for longer: a temporary file of this age was left by a process that was killed."""
_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}
_WITHOUT_FOLDERS = frozenset(_PACKAGES)
"""Object stores: what looks like a folder is a part of a name."""
LOCK_TIMEOUT_S = 10.0
LOCK_POLL_S = 0.02
_NEVER = (errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO)
"""Errors that no wait ends: something else lies where a file or a folder should be."""


class NotOurFile(Fatal):
    """A name leads to what cannot be a file of this project: a device, a pipe or a folder, or it is too large. It was not read."""


class Storage:
    """A folder behind an fsspec URL (a local path, `s3://…`, `memory://…`). Names are relative, parts joined by `/`."""

    def __init__(self, url: str) -> None:
        import fsspec  # a quarter of a second, which commands without files need not wait for

        self.url = url.rstrip("/")
        check_url(self.url)
        protocol = _protocol(self.url)
        # a listing that is kept does not show what other processes have written since
        fresh = {} if protocol in ("", "file", "local") else {"use_listings_cache": False}
        try:
            self._files, self._root = fsspec.core.url_to_fs(self.url, **fresh)
        except Exception as error:  # whatever its package raises for a URL without a bucket, without rights, …
            raise Fatal(f"storage URL {shown(self.url)}: {type(error).__name__}; correct it") from None
        self._local = "file" in (self._files.protocol if isinstance(self._files.protocol, tuple) else (self._files.protocol,))
        self._has_folders = protocol not in _WITHOUT_FOLDERS

    def url_of(self, name: str) -> str:
        """Return the URL of one file, for people and announcements, without a password."""
        self._path(name)
        return f"{shown(self.url)}/{name}"

    def write(self, name: str, content: bytes) -> str:
        """Write a whole file so that readers see the old one or the new one.

        Return its SHA-256. Raises Transient when the disk is full or not reachable.
        """
        path = self._path(name)
        with self._io(f"write {name}"):
            if self._local:
                replace_file(path, content)
            else:  # an object store shows an object when it is complete
                if self._has_folders:  # else fsspec would make a bucket
                    self._files.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
                self._files.pipe_file(path, content)
        return hashlib.sha256(content).hexdigest()

    def read(self, name: str, max_bytes: int) -> bytes:
        """Read a whole file. Raises FileNotFoundError, Transient, and NotOurFile for one larger than `max_bytes` or no regular file."""
        path = self._path(name)
        with self._io(f"read {name}"):
            if self._local:
                return _read_regular(name, path, max_bytes)
            described = self._files.info(path)
            if described.get("type", "file") != "file":
                raise NotOurFile(f"{name}: it is a {described['type']}, not a file; remove it")
            size = described.get("size")
            if size is not None and size > max_bytes:
                raise _too_large(name, size, max_bytes)
            if size == 0:
                return b""  # S3 refuses a range of an empty object
            content = self._files.cat_file(path, end=max_bytes + 1)  # a size may be unknown, or wrong
        assert isinstance(content, bytes)
        if len(content) > max_bytes:
            raise _too_large(name, len(content), max_bytes)
        return content

    def claim(self, name: str) -> bool:
        """Make a folder that no process has made yet; return False if it exists.

        On an object store a small file `claim` takes the folder's place; where the store ignores exclusive creation, two at the same
        instant may both get True.
        """
        path = self._path(name)
        with self._io(f"make {name}"):
            if self._local:
                os.makedirs(os.path.dirname(path), exist_ok=True)
            try:
                if self._local:
                    os.mkdir(path)
                else:
                    self._files.pipe_file(f"{path}/claim", b"", mode="create")
            except FileExistsError:
                return False
        return True

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Exclude other processes that lock the same folder; a process that ends releases its lock. No lock on an object store.

        Raises Transient when another process holds it for ten seconds.
        """
        path = self._path(name)
        if not self._local:
            yield
            return
        with self._io(f"lock {name}"):
            os.makedirs(path, exist_ok=True)
            lock = FileLock(os.path.join(path, ".lock"))
            try:
                lock.acquire(LOCK_TIMEOUT_S, LOCK_POLL_S)
            except Timeout:
                raise Transient(f"cannot lock {name}: another process has held it for {LOCK_TIMEOUT_S:g} s") from None
        try:
            yield
        finally:
            lock.release()

    def sweep(self, name: str = "") -> None:
        """Remove temporary files that killed processes left in a folder."""
        if not self._local:
            return
        folder = self._path(name) if name else self._root
        with self._io(f"sweep {name or 'the folder'}"), suppress(FileNotFoundError):
            for entry in os.scandir(folder):
                if _TEMPORARY.fullmatch(entry.name) and time.time() - entry.stat().st_mtime > STALE_S:
                    with suppress(FileNotFoundError):
                        os.unlink(entry.path)

    def set_aside(self, name: str, aside: str) -> None:
        """Move a file that cannot be used; where it is no file that can be kept, put an empty file aside instead."""
        path, target = self._path(name), self._path(aside)
        with self._io(f"set {name} aside"):
            if self._local and os.path.isfile(path) and not os.path.islink(path):
                os.makedirs(os.path.dirname(target), exist_ok=True)
                os.replace(path, target)
                return
        if self._local:
            self.write(aside, b"")
        else:
            with self._io(f"set {name} aside"):
                self._files.copy(path, target)
        self.remove(name)

    def exists(self, name: str) -> bool:
        with self._io(f"look for {name}"):
            return bool(self._files.exists(self._path(name)))

    def remove(self, name: str) -> None:
        """Remove a file or folder, if it exists."""
        path = self._path(name)
        with self._io(f"remove {name}"), suppress(FileNotFoundError):
            if self._local and (os.path.islink(path) or not os.path.isdir(path)):
                os.unlink(path)  # a link, never what it points to
            else:
                self._files.rm(path, recursive=True)

    def names(self, name: str = "") -> list[str]:
        """Return the names in a folder, sorted and without the folder; empty if there is no such folder."""
        path = self._path(name) if name else self._root
        with self._io(f"list {name or 'the folder'}"):
            self._files.invalidate_cache(path)
            try:
                found = self._files.ls(path, detail=False)
            except (FileNotFoundError, NotADirectoryError):
                return []
        return sorted({entry.rstrip("/").rsplit("/", 1)[-1] for entry in found if entry.rstrip("/") != path.rstrip("/")})

    @contextmanager
    def _io(self, what: str) -> Iterator[None]:
        """Turn what a storage raises into the errors of this project."""
        with _failures(what):
            try:
                yield
            except (OSError, WorkerError):
                raise
            except Exception as error:  # of a library behind fsspec, such as one that finds no credentials; its text may hold some
                if self._local:
                    raise
                raise Transient(f"cannot {what}: {type(error).__name__}; check the URL, the network and the credentials") from error

    def _path(self, name: str) -> str:
        if not all(_PART.fullmatch(part) for part in name.split("/")):
            raise Fatal("storage name: a part holds other characters than letters, digits and _ . + = -; choose another kind or version")
        return f"{self._root}/{name}"


def _read_regular(name: str, path: str, max_bytes: int) -> bytes:
    """Read a local file if it is a regular one: reading a pipe would block, and a device may have no end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise NotOurFile(f"{name}: it is no regular file; remove it")
        if found.st_size > max_bytes:
            raise _too_large(name, found.st_size, max_bytes)
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:  # it has grown since, or its size was wrong
        raise _too_large(name, len(content), max_bytes)
    return content


def _too_large(name: str, n_bytes: int, max_bytes: int) -> NotOurFile:
    return NotOurFile(f"{name}: {n_bytes} bytes are more than the {max_bytes} allowed; it is not a file of this project")


def replace_file(path: str, content: bytes) -> None:
    """Write a whole local file, its folder too, so that readers see the old one or the new one."""
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f".{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def check_url(url: str) -> None:
    """Raise Fatal, which names the remedy, for a URL whose kind fsspec does not know, or whose package is not installed."""
    import fsspec

    protocol = _protocol(url)
    try:
        fsspec.get_filesystem_class(protocol or "file")
    except ImportError:
        package = _PACKAGES.get(protocol, "see the list of fsspec")
        remedy = "the extra `s3`: pip install 'recsys-stream[s3]'" if package == "s3fs" else f"a package: {package}"
        raise Fatal(f"storage URL {protocol}://…: it needs {remedy}") from None
    except ValueError:
        known = "a local path, memory://, s3://, gs://, abfs:// or another kind of URL that fsspec knows"
        raise Fatal(f"storage URL {protocol}://…: there is no such kind; use {known}") from None


def shown(url: str) -> str:
    """Return a URL for people: without a password, and without what follows a question mark."""
    head, separator, rest = url.partition("://")
    if not separator:
        return url
    host, slash, path = rest.partition("?")[0].partition("/")
    user, at, bare = host.rpartition("@")
    return f"{head}://{user.partition(':')[0] + at if at else ''}{bare}{slash}{path}"


def _protocol(url: str) -> str:
    return url.partition("://")[0].partition("::")[0].lower() if "://" in url else ""


@contextmanager
def _failures(what: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, WorkerError):
        raise
    except OSError as error:
        if error.errno in _NEVER:
            raise NotOurFile(f"cannot {what}: {os.strerror(error.errno or 0)}; remove what lies there") from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Transient(f"cannot {what}: the disk is full; free some space or move the URL") from error
        raise Transient(f"cannot {what}: {type(error).__name__} ({errno.errorcode.get(error.errno or 0, 'no code')})") from error
