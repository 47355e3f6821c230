"""A model store that others can write to: whatever lies there is refused in one line, soon, and the version before goes on serving (S5)."""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save as save_tensors

from recsys.errors import ModelError
from recsys.models.base import Model
from recsys.models.checks import check_model
from recsys.models.ials.model import IALSConfig, IALSModel
from recsys.models.popular.model import PopularConfig, PopularModel
from schemas import EventType, ModelAction, encode
from tests.builders import opened_pipeline, small_settings
from tests.memory_store import MemoryStore
from tests.unit.workers.models.test_model_store import save, small_model
from tests.unit.workers.stream.test_followers import followed
from workers.cli.app import run
from workers.errors import Fatal, Transient
from workers.models.manifest import StoreError
from workers.models.store import ModelStore
from workers.settings import load_settings
from workers.storage import NotOurFile, Storage
from workers.stream.model_sync import ModelFollower
from workers.stream.stored_models import StoredModels
from workers.trainer.event_columns import events_table
from workers.trainer.event_log import EventLog

VERSION = "ials-000002"
VECTORS = small_model().item_vectors
ESC = "\x1b[31m"


def folder_of(tmp_path: Path) -> Path:
    return tmp_path / "models/ials" / VERSION


def forge(tmp_path: Path, *, tensors: Any = None, items: Any = None, **manifest: Any) -> None:
    """Change files of a version and give the manifest the hashes that fit: somebody who writes to the store can do that."""
    folder = folder_of(tmp_path)
    if tensors is not None:
        content = tensors if isinstance(tensors, bytes) else save_tensors(tensors)
        (folder / "model.safetensors").write_bytes(content)
    if items is not None:
        (folder / "items.json").write_bytes(items if isinstance(items, bytes) else json.dumps(items).encode())
    described = json.loads((folder / "manifest.json").read_text())
    for name in ("model.safetensors", "items.json"):
        content = (folder / name).read_bytes()
        described["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "n_bytes": len(content)}
    if isinstance(tensors, dict):
        described["tensors"] = {n: {"shape": a.shape, "dtype": str(a.dtype)} for n, a in tensors.items()}
    (folder / "manifest.json").write_text(json.dumps(described | manifest))


def with_cell(value: float, dtype: Any = np.float32) -> dict[str, Any]:
    vectors = VECTORS.astype(dtype)
    vectors[3, 1] = value
    return {"item_vectors": vectors}


def claim(tmp_path: Path, n_bytes: int) -> None:
    """Let the manifest and a file without content claim so many bytes."""
    with (folder_of(tmp_path) / "model.safetensors").open("r+b") as file:
        file.truncate(n_bytes)
    described = json.loads((folder_of(tmp_path) / "manifest.json").read_text())
    described["files"]["model.safetensors"]["n_bytes"] = n_bytes
    described["tensors"]["item_vectors"]["shape"] = [n_bytes // 16, 4]
    (folder_of(tmp_path) / "manifest.json").write_text(json.dumps(described))


def special(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Put something that is no file in the place of a file."""

    def apply(tmp_path: Path) -> None:
        path = folder_of(tmp_path) / name
        path.unlink()
        make(path)

    return apply


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(20 * 1024**3)


IDS = small_model().item_ids
CONFIG = IALSConfig(factors=4).__class__(factors=4)
OPTIONS = json.loads(json.dumps({f: getattr(CONFIG, f) for f in CONFIG.__dataclass_fields__}))
DEEP = b"[" * 200_000 + b"]" * 200_000
HOSTILE: dict[str, Callable[[Path], object]] = {
    "all NaN": lambda at: forge(at, tensors={"item_vectors": np.full_like(VECTORS, np.nan)}),
    "one NaN": lambda at: forge(at, tensors=with_cell(np.nan)),
    "one infinity": lambda at: forge(at, tensors=with_cell(np.inf)),
    "a number whose square overflows": lambda at: forge(at, tensors=with_cell(3e38)),
    "a double beyond float": lambda at: forge(at, tensors=with_cell(1e300, np.float64)),
    "all zero": lambda at: forge(at, tensors={"item_vectors": np.zeros_like(VECTORS)}),
    "another dtype": lambda at: forge(at, tensors={"item_vectors": VECTORS.astype(np.float16)}),
    "booleans": lambda at: forge(at, tensors={"item_vectors": VECTORS > 0}),
    "no dimension": lambda at: forge(at, tensors={"item_vectors": VECTORS[:, :0]}, config=OPTIONS | {"factors": 0}),
    "another shape": lambda at: forge(at, tensors={"item_vectors": VECTORS[:, :3]}),
    "another tensor": lambda at: forge(at, tensors={"vectors": VECTORS}),
    "a header of 100 GB": lambda at: forge(at, tensors=struct.pack("<Q", 100 * 1024**3) + b"{}"),
    "a file larger than its tensors": lambda at: forge(at, tensors=save_tensors({"item_vectors": VECTORS}) + bytes(2 * 1024**2)),
    "3 GB of numbers": lambda at: forge(at, tensors=None) or claim(at, 3 * 1024**3),
    "a header that lies": lambda at: forge(
        at, tensors=(h := b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}') and struct.pack("<Q", len(h)) + h
    ),
    "a negative history": lambda at: forge(at, config=OPTIONS | {"history_length": -3}),
    "a huge history": lambda at: forge(at, config=OPTIONS | {"history_length": 10**9}),
    "a huge dimension": lambda at: forge(at, config=OPTIONS | {"factors": 10**9}),
    "text for a number": lambda at: forge(at, config=OPTIONS | {"regularisation": ESC}),
    "a truth value for a number": lambda at: forge(at, config=OPTIONS | {"epochs": True}),
    "a list for a number": lambda at: forge(at, config=OPTIONS | {"factors": [4]}),
    "no option": lambda at: forge(at, config={}),
    "an id with ESC": lambda at: forge(at, items=[ESC, *IDS[1:]]),
    "an id with a lone surrogate": lambda at: forge(at, items=b'["\\ud800", ' + json.dumps(IDS[1:]).encode()[1:]),
    "an id that is no UTF-8": lambda at: forge(at, items=b'["\xff", ' + json.dumps(IDS[1:]).encode()[1:]),
    "an empty id": lambda at: forge(at, items=["", *IDS[1:]]),
    "a long id": lambda at: forge(at, items=["x" * 129, *IDS[1:]]),
    "an id that is a number": lambda at: forge(at, items=[7, *IDS[1:]]),
    "two items of one id": lambda at: forge(at, items=[IDS[1], *IDS[1:]]),
    "no items": lambda at: forge(at, items=[], n_items=0),
    "an id too few": lambda at: forge(at, items=IDS[1:]),
    "deep items": lambda at: forge(at, items=DEEP),
    "a deep manifest": lambda at: (folder_of(at) / "manifest.json").write_bytes(DEEP),
    "a deep option": lambda at: (folder_of(at) / "manifest.json").write_bytes(
        (folder_of(at) / "manifest.json").read_bytes().replace(b'"config": {', b'"config": {"x": ' + DEEP + b",", 1)
    ),
    "a manifest that is no object": lambda at: (folder_of(at) / "manifest.json").write_bytes(b"7"),
    "a manifest that is no UTF-8": lambda at: (folder_of(at) / "manifest.json").write_bytes(b"\xff\xfe"),
    "a negative count": lambda at: forge(at, n_items=-1),
    "a time of long ago": lambda at: forge(at, trained_ts_ms=-(2**63)),
    "the largest time": lambda at: forge(at, trained_ts_ms=2**63 - 1),
    "a decision with ESC": lambda at: forge(at, decision=ESC),
    "a name of a metric with ESC": lambda at: forge(at, metrics={"challenger": {ESC: 1.0}}),
    "a manifest of 17 MB": lambda at: forge(at, decision="x" * 17_000_000),
    **{
        f"{name}: {what}": special(name, make)
        for name in ("manifest.json", "model.safetensors", "items.json")
        for what, make in {
            "a link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
            "a link to itself": lambda path: path.symlink_to(path),
            "a pipe": os.mkfifo,
            "a folder": Path.mkdir,
            "20 GB of nothing": sparse,
        }.items()
    },
}


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """Two versions, of which the first one serves."""
    made = ModelStore(str(tmp_path / "models"))
    made.promote("ials", save(made).version)
    assert save(made).version == VERSION
    return made


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_version_is_refused_in_one_line_that_shows_nothing_of_it(store: ModelStore, tmp_path: Path, name: str) -> None:
    HOSTILE[name](tmp_path)
    with pytest.raises(StoreError) as refused:
        store.load("ials", VERSION)
    said = str(refused.value)
    assert VERSION in said and said.isprintable() and len(said) < 500 and re.search(r"unexpected \w+Error", said) is None


@pytest.mark.parametrize("name", ["all NaN", "a negative history", "an id with a lone surrogate", "a deep manifest", "items.json: a pipe"])
async def test_a_worker_refuses_a_hostile_version_and_the_one_before_goes_on_serving(
    store: ModelStore, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = load_settings(trainer={"model_url": str(tmp_path / "models")})
    pipeline, models = await opened_pipeline(MemoryStore(), small_settings()), StoredModels(settings)
    follower = ModelFollower(pipeline.state, models.load, models.serving, first_wait_s=0.0)
    first = store.announcement("ials", "ials-000001", ModelAction.PROMOTED, champion=None, reason="")
    second = store.announcement("ials", VERSION, ModelAction.PROMOTED, champion=None, reason="")
    await pipeline.state.store.set_serving("ials", encode(first), 1)
    assert await followed(follower) == ["ials/ials-000001"]
    store.promote("ials", VERSION)
    HOSTILE[name](tmp_path)
    await pipeline.state.store.set_serving("ials", encode(second), 2)
    assert await followed(follower) == [] and await followed(follower) == []
    assert pipeline.state.engine.models["ials"].version == "ials-000001"
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1 and "what served before goes on serving" in errors[0] and errors[0].isprintable()
    restarted = ModelFollower((await opened_pipeline(pipeline.state.store, small_settings())).state, models.load, models.serving)  # type: ignore[arg-type]
    assert await followed(restarted) == [] and restarted.missing() == [], "a restarted worker makes lists without it"


def entry(action: str, version: str) -> bytes:
    return json.dumps({"history": [{"action": action, "version": version, "reason": "", "at_ts_ms": 1_700_000_000_000}]}).encode()


CHAMPIONS = {
    "empty": b"",
    "cut off": b"{",
    "a list": b"[]",
    "deep": DEEP,
    "a number": b'{"history": 7}',
    "NaN": b'{"history": [NaN]}',
    "a rollback to nothing": entry("rolled_back", "ials-000001"),
    "another kind": entry("promoted", "sasrec-000001"),
    "another action": entry("removed", "ials-000001"),
}


@pytest.mark.parametrize("content", CHAMPIONS.values(), ids=list(CHAMPIONS))
def test_a_champion_file_that_cannot_be_right_is_named(store: ModelStore, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "models/ials/champion.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"ials: champion\.json"):
        store.champion("ials")
    with pytest.raises(Transient):  # it is restored one day; until then nothing changes
        StoredModels(load_settings(trainer={"model_url": str(tmp_path / "models")})).serving("ials")


def test_models_list_shows_what_is_wrong_and_everything_else(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RECSYS_TRAINER__MODEL_URL", str(tmp_path / "models"))
    HOSTILE["manifest.json: a pipe"](tmp_path)
    (tmp_path / "models/popular").mkdir()
    os.mkfifo(tmp_path / "models/popular/champion.json")
    assert run(["models", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {(row["version"], row["serving"], row["problem"] is None) for row in rows} == {
        ("ials-000001", True, True),
        (VERSION, False, False),
        ("popular", False, False),
    }
    assert run(["models", "list"]) == 0
    capsys.readouterr()
    for command in ("show", "promote"):
        assert run(["models", command, VERSION]) == 1
        said = capsys.readouterr().err
        assert "no regular file" in said and "Traceback" not in said
    assert run(["models", "show", "../../etc-000001"]) in (1, 2)


def test_version_numbers_that_are_used_up_are_named(store: ModelStore, tmp_path: Path) -> None:
    (tmp_path / "models/ials/ials-999999999999").mkdir()
    with pytest.raises(StoreError, match="no version number is left"):
        save(store)


def test_a_kind_can_be_retired_and_brought_back(store: ModelStore) -> None:
    assert store.retire("ials", reason=f"odd {ESC}lists") == "ials-000001"
    assert store.champion("ials") is None and store.is_retired("ials") and store.history("ials")[-1].reason.isprintable()
    with pytest.raises(StoreError, match="nothing to retire"):
        store.retire("ials")
    assert store.rollback("ials") == "ials-000001" and not store.is_retired("ials")
    store.retire("ials")
    store.promote("ials", VERSION)
    assert store.champion("ials") == VERSION
    assert store.rollback("ials") == "ials-000001", "a rollback never leads to nothing"
    with pytest.raises(StoreError, match="no version served before"):
        store.rollback("ials")


# -- models that are built, not loaded ---------------------------------------------------------------------------------------------------


class Odd(PopularModel):
    """A model whose encoding is not finite, though its tensors are."""

    def encode(self, histories: Any) -> Any:
        return super().encode(histories) * np.float32(np.inf)


@pytest.mark.parametrize(
    ("model", "what"),
    [
        (PopularModel(PopularConfig(), [], np.zeros((0, 1), np.float32)), "no items"),
        (PopularModel(PopularConfig(), ["a", "a"], np.ones((2, 1), np.float32)), "one id"),
        (PopularModel(PopularConfig(), ["a"], np.zeros((1, 1), np.float32)), "zero"),
        (PopularModel(PopularConfig(), ["a"], np.full((1, 1), 1e7, np.float32)), "beyond"),
        (Odd(PopularConfig(), ["a"], np.ones((1, 1), np.float32)), "not finite of a history"),
    ],
)
def test_a_model_that_cannot_serve_is_neither_stored_nor_used(store: ModelStore, model: Model, what: str) -> None:
    with pytest.raises(ModelError, match=what):
        check_model(model)
    with pytest.raises(StoreError, match=what):
        save(store, model)
    assert store.versions("popular") == []


@pytest.mark.parametrize("n_items", [1, 2, 63, 65, 1_000])
def test_a_sound_model_of_any_size_passes(n_items: int) -> None:
    check_model(small_model(n_items=n_items))
    check_model(IALSModel(IALSConfig(factors=1, history_length=1), ["a"], np.ones((1, 1), np.float32)))


# -- files ---------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(20)
def test_only_regular_files_within_their_bound_are_read(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    (tmp_path / "zero").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "large").write_bytes(b"x" * 11)
    (tmp_path / "linked").symlink_to(tmp_path / "large")
    for name in ("zero", "pipe", "folder", "large", "linked"):
        with pytest.raises(NotOurFile):
            storage.read(name, 10)
    assert storage.read("linked", 11) == b"x" * 11, "a link to a regular file is one"
    storage.remove("linked")
    assert (tmp_path / "large").exists(), "removing a link leaves what it points to"


def segment(tmp_path: Path, first: int, last: int, **changes: Any) -> Path:
    n = last - first + 1
    columns: dict[str, Any] = {
        "source_offsets": list(range(first, last + 1)), "user_ids": ["u"] * n, "item_ids": ["i"] * n,
        "types": [EventType.LIKE.code] * n, "values": [float("nan")] * n, "event_ts_ms": [1_700_000_000_000] * n,  # type: ignore[attr-defined]
        "event_hashes": list(range(first, last + 1)),
    } | changes  # fmt: skip
    written = EventLog(str(tmp_path), "a" * 32, segment_events=1).append(0, first, last, events_table(**columns))
    return tmp_path / written.name


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "what",
    [
        "a link to /dev/zero",
        "a pipe",
        "a folder",
        "20 GB of nothing",
        "more rows than its name covers",
        "an unknown type",
        "a time of 1970",
        "a null",
    ],
)
def test_a_segment_that_is_none_is_left_out_and_set_aside(tmp_path: Path, what: str) -> None:
    segment(tmp_path, 0, 9)
    path = segment(tmp_path, 10, 19)
    after = segment(tmp_path, 20, 29)
    if what == "more rows than its name covers":
        path.rename(path.with_name(f"{10:020d}-{14:020d}.parquet"))
    elif what in ("an unknown type", "a time of 1970", "a null"):
        changes = {
            "an unknown type": {"types": [77] * 10},
            "a time of 1970": {"event_ts_ms": [5] * 10},
            "a null": {"user_ids": [None] * 10},
        }
        path.unlink()
        other = segment(tmp_path / "other", 10, 19, **changes[what])  # type: ignore[arg-type]
        other.rename(path)
    else:
        path.unlink()
        {
            "a link to /dev/zero": lambda: path.symlink_to("/dev/zero"),
            "a pipe": lambda: os.mkfifo(path),
            "a folder": path.mkdir,
            "20 GB of nothing": lambda: sparse(path),
        }[what]()
    log = EventLog(str(tmp_path), "a" * 32, segment_events=1)
    assert len(log.read()) == 10, "what lies before it"
    assert [s.first for s in log.verify()] == [10]
    assert log.next_offsets() == {0: 10} and after.exists()
    segment(tmp_path, 10, 19)
    assert len(log.read()) == 30, "read from Kafka again, all is there"


@pytest.mark.timeout(20)
def test_an_event_log_whose_topic_file_is_a_pipe_is_refused_in_one_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "topic.json")
    with pytest.raises(Fatal, match=r"topic\.json is not readable"):
        EventLog(str(tmp_path))
