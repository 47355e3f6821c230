"""A folder's lock excludes other holders, ends with its process, and says what is wrong in one line."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from workers import storage
from workers.errors import Transient
from workers.storage import NotOurFile, Storage

HOLD = """
import sys, time
from workers.storage import Storage
with Storage(sys.argv[1]).locked("ials"):
    print(1, flush=True)
    time.sleep(60)
"""


def test_a_lock_excludes_another_process_until_that_process_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "LOCK_TIMEOUT_S", 0.1)
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None and holder.stdout.readline() == b"1\n"
            refused = pytest.raises(Transient, match=r"cannot lock ials: another process has held it for 0\.1 s")
            with refused, Storage(str(tmp_path)).locked("ials"):
                pass
        finally:
            holder.kill()
    with Storage(str(tmp_path)).locked("ials"):
        pass


def test_threads_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            with Storage(str(tmp_path)).locked("ials"):
                inside += 1
                most = max(most, inside)
                time.sleep(0.001)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1 and inside == 0


def test_a_folder_in_the_place_of_the_lock_is_named(tmp_path: Path) -> None:
    (tmp_path / "ials" / ".lock").mkdir(parents=True)
    with pytest.raises(NotOurFile, match="cannot lock ials: Is a directory; remove"), Storage(str(tmp_path)).locked("ials"):
        pass
