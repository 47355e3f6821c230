"""The catalogue and the models that serve reach the engine between two batches, and what cannot be loaded leaves the old one in place."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from recsys.models.base import Model
from recsys.models.popular.model import PopularConfig, PopularModel
from schemas import Item, ModelAnnouncement, encode
from schemas.announcements import ModelAction, ModelReference
from schemas.examples import ANNOUNCEMENT
from tests.builders import opened_pipeline, small_settings
from tests.memory_store import MemoryStore
from workers.errors import Fatal, Transient
from workers.lists.item_content import content_of
from workers.runtime.metrics import StreamMetrics
from workers.state.port import ItemRecord
from workers.stream.catalogue_sync import CatalogueFollower
from workers.stream.model_sync import MODELS_WAIT_S, ModelFollower
from workers.stream.pipeline import Pipeline

SETTINGS = small_settings()


async def stored(store: MemoryStore, *items: Item | str, source_offset: int = 0) -> None:
    """Items, or the ids of removed ones."""
    ids = [item if isinstance(item, str) else item.item_id for item in items]
    contents = [None if isinstance(item, str) else encode(item) for item in items]
    numbers = await store.item_numbers(ids)
    await store.upsert_items([ItemRecord(n, 0, source_offset, content) for n, content in zip(numbers, contents, strict=True)])


async def test_the_catalogue_follows_the_store_and_takes_each_change_once() -> None:
    store = MemoryStore()
    pipeline = await opened_pipeline(store, SETTINGS)
    follower = CatalogueFollower(pipeline.state)
    assert await follower.follow() == 0
    await stored(store, Item(item_id="a", categories=("x",)), Item(item_id="b", available=False))
    assert await follower.follow() == 2 and await follower.follow() == 0
    assert pipeline.state.numbering.names == ["a", "b"] and pipeline.state.engine.n_items == 2
    assert pipeline.state.engine.catalogue.recommendable(0).tolist() == [True, False]
    await stored(store, "a", Item(item_id="b"), source_offset=1)
    assert await follower.follow() == 2
    assert pipeline.state.engine.catalogue.recommendable(0).tolist() == [False, True]


async def test_a_store_that_lost_its_catalogue_is_read_from_the_start() -> None:
    pipeline = await opened_pipeline(MemoryStore(), SETTINGS)
    follower = CatalogueFollower(pipeline.state)
    follower._version = 9
    await stored(pipeline.state.store, Item(item_id="a", available=False))  # type: ignore[arg-type]
    assert await follower.follow() == 1
    assert not pipeline.state.engine.catalogue.recommendable(0)[0]


async def test_an_item_that_cannot_be_read_stays_as_it_was_and_the_others_are_learnt(caplog: pytest.LogCaptureFixture) -> None:
    pipeline = await opened_pipeline(MemoryStore(), SETTINGS)
    follower = CatalogueFollower(pipeline.state)
    await stored(pipeline.state.store, Item(item_id="a", available=False), Item(item_id="b", available=False))  # type: ignore[arg-type]
    await follower.follow()
    await pipeline.state.store.upsert_items([ItemRecord(0, 0, 10, b'{"item_id":7}')])
    await stored(pipeline.state.store, Item(item_id="b"), Item(item_id="c"), source_offset=1)  # type: ignore[arg-type]
    await follower.follow()
    assert pipeline.state.engine.catalogue.recommendable(0)[:3].tolist() == [False, True, True]
    assert ["cannot be read" in record.getMessage() for record in caplog.records] == [True]


async def test_embeddings_that_take_no_part_are_said(caplog: pytest.LogCaptureFixture) -> None:
    pipeline = await opened_pipeline(MemoryStore(), SETTINGS)
    follower = CatalogueFollower(pipeline.state)
    await stored(pipeline.state.store, *(Item(item_id=f"i{n}", embeddings={f"e{n}": (1.0,) * 1_000}) for n in range(6)))  # type: ignore[arg-type]
    await follower.follow()
    await follower.follow()
    assert [record.getMessage().split(" take")[0] for record in caplog.records] == ["2 embeddings"]


def test_the_engine_learns_an_item_s_times_in_seconds() -> None:
    content = content_of(
        Item(
            item_id="a",
            categories=("x", "y"),
            categorical_attributes={"studio": "s"},
            embeddings={"text": (1.0, 2.0)},
            published_ts_ms=-1_500,
            expires_ts_ms=2_500,
        )
    )
    assert (content.published_s, content.expires_s) == (-2, 2)
    assert (tuple(content.categories), dict(content.attributes)) == (("x", "y"), {"studio": "s"})
    assert tuple(content.embeddings["text"]) == (1.0, 2.0) and content.available


# -- models ----------------------------------------------------------------------------------------------------------------------------


class Source:
    """Models by version; a version that is an error is raised. `gate` holds loading back."""

    def __init__(self, **versions: Model | Exception) -> None:
        self.versions, self.asked = versions, list[str]()
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, announcement: ModelAnnouncement) -> Model:
        assert announcement.serving is not None
        self.asked.append(announcement.serving.version)
        assert self.gate.wait(10)
        found = self.versions[announcement.serving.version]
        if isinstance(found, Exception):
            raise found
        return found


def model(*item_ids: str) -> PopularModel:
    return PopularModel(PopularConfig(), list(item_ids), np.arange(1, len(item_ids) + 1, dtype=np.float32)[:, None])


async def announce(pipeline: Pipeline, version: str, order: int, **changes: object) -> None:
    announcement = ANNOUNCEMENT.model_copy(update={"kind": "popular", "version": version, "champion": None, **changes})
    await pipeline.state.store.set_serving("popular", encode(announcement), order)


async def followed(follower: ModelFollower) -> list[str]:
    """Follow until nothing is loading."""
    swapped = await follower.follow()
    while follower._loading:
        await asyncio.wait([task for _, task in follower._loading.values()])
        swapped += await follower.follow()
    return swapped


async def ready(**versions: Model | Exception) -> tuple[Pipeline, ModelFollower, Source]:
    pipeline, source = await opened_pipeline(MemoryStore(), SETTINGS), Source(**versions)
    return pipeline, ModelFollower(pipeline.state, source, first_wait_s=0.0), source


async def test_a_model_without_a_weight_is_named_with_the_setting(caplog: pytest.LogCaptureFixture) -> None:
    """Its kind is trained elsewhere: the check of `trainer.kinds` at start does not see it."""
    pipeline, follower, _ = await ready(v1=model("a", "b"))
    assert "popular" not in pipeline.state.engine.config.source_weights
    await announce(pipeline, "v1", 1)
    assert await followed(follower) == ["popular/v1"]
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1 and "popular" in warnings[0] and "lists.weights" in warnings[0]


async def test_an_announced_model_is_loaded_once_and_swapped_in() -> None:
    pipeline, follower, source = await ready(v1=model("a", "b"), v2=model("b", "c"))
    await pipeline.state.store.item_numbers(["z", "b"])
    assert await followed(follower) == []
    await announce(pipeline, "v1", 1)
    assert await followed(follower) == ["popular/v1"] and await followed(follower) == []
    assert pipeline.state.numbering.names == ["z", "b", "a"], "items of the model that nobody has met get numbers"
    assert pipeline.state.engine.models["popular"].vectors[:3].tolist() == [[0.0], [2.0], [1.0]]
    await announce(pipeline, "v2", 2)
    assert await followed(follower) == ["popular/v2"]
    assert pipeline.state.engine.models["popular"].vectors[:4].tolist() == [[0.0], [1.0], [0.0], [2.0]]
    assert source.asked == ["v1", "v2"]


async def test_the_old_model_serves_while_the_new_one_loads() -> None:
    pipeline, follower, source = await ready(v1=model("a"), v2=model("a"))
    await announce(pipeline, "v1", 1)
    await followed(follower)
    source.gate.clear()
    await announce(pipeline, "v2", 2)
    assert await follower.follow() == [] and await follower.follow() == []
    assert pipeline.state.engine.models["popular"].version == "v1"
    source.gate.set()
    assert await followed(follower) == ["popular/v2"]


async def test_a_model_that_cannot_be_loaded_leaves_the_old_one_and_is_not_tried_again() -> None:
    pipeline, follower, source = await ready(v1=model("a"), v2=Fatal("the manifest has another hash"))
    await announce(pipeline, "v1", 1)
    await followed(follower)
    await announce(pipeline, "v2", 2)
    assert await followed(follower) == [] and await followed(follower) == []
    assert pipeline.state.engine.models["popular"].version == "v1" and source.asked == ["v1", "v2"]


async def test_a_refused_version_is_tried_again_when_it_is_announced_anew() -> None:
    pipeline, follower, source = await ready(v1=Fatal("a tensor is missing"))
    await announce(pipeline, "v1", 1)
    assert await followed(follower) == []
    source.versions["v1"] = model("a")
    assert await followed(follower) == []
    await announce(pipeline, "v1", 2, reason="restored")
    assert await followed(follower) == ["popular/v1"]


async def test_a_retired_kind_serves_no_longer_not_even_what_was_being_loaded() -> None:
    pipeline, follower, source = await ready(v1=model("a"), v2=model("a"), v3=model("a"))
    await announce(pipeline, "v1", 1)
    await followed(follower)
    source.gate.clear()
    await announce(pipeline, "v2", 2)
    await follower.follow()
    await pipeline.state.store.set_serving("popular", b"", 3)
    await follower.follow()
    assert "popular" not in pipeline.state.engine.models
    source.gate.set()
    assert await followed(follower) == [] and "popular" not in pipeline.state.engine.models
    await announce(pipeline, "v3", 4)
    assert await followed(follower) == ["popular/v3"]


async def test_a_store_that_is_away_is_asked_again() -> None:
    pipeline, follower, source = await ready(v1=Transient("away"))
    await announce(pipeline, "v1", 1)
    assert await follower.follow() == []
    await asyncio.wait([task for _, task in follower._loading.values()])
    source.versions["v1"] = model("a")
    assert await followed(follower) == []
    assert await followed(follower) == ["popular/v1"]


async def test_a_refused_challenger_leaves_the_champion_serving() -> None:
    pipeline, follower, source = await ready(v1=model("a"))
    champion = ModelReference(version="v1", manifest_url="memory://v1", manifest_sha256="0" * 64)
    await announce(pipeline, "v2", 1, action=ModelAction.REFUSED, champion=champion)
    assert await followed(follower) == ["popular/v1"] and source.asked == ["v1"]
    pipeline, follower, source = await ready()
    await announce(pipeline, "v2", 1, action=ModelAction.REFUSED)
    assert await followed(follower) == [] and source.asked == []


async def test_a_rollback_brings_the_version_before_back() -> None:
    pipeline, follower, _ = await ready(v1=model("a"), v2=model("a"))
    promoted, rolled_back = ModelAction.PROMOTED, ModelAction.ROLLED_BACK
    for order, (version, action) in enumerate([("v1", promoted), ("v2", promoted), ("v1", rolled_back)]):
        await announce(pipeline, version, order, action=action)
        assert await followed(follower) == [f"popular/{version}"]
    await announce(pipeline, "v2", 1)
    assert await followed(follower) == [], "an older announcement that comes late changes nothing"


async def test_lists_wait_for_an_announced_model_until_it_serves() -> None:
    pipeline, follower, source = await ready(v1=model("a"), v2=model("a"))
    source.gate.clear()
    await announce(pipeline, "v1", 1)
    await follower.follow()
    assert follower.missing() == ["popular"]
    source.gate.set()
    await followed(follower)
    assert follower.missing() == []
    source.gate.clear()
    await announce(pipeline, "v2", 2)
    await follower.follow()
    assert follower.missing() == [], "the one before serves on"
    source.gate.set()
    await followed(follower)


async def test_lists_do_not_wait_for_a_model_that_is_refused_or_retired_or_stays_away_too_long() -> None:
    now_s = 0.0
    pipeline, source = await opened_pipeline(MemoryStore(), SETTINGS), Source(v1=Fatal("damaged"), v2=Transient("the store is away"))
    follower = ModelFollower(pipeline.state, source, clock=lambda: now_s)
    await announce(pipeline, "v1", 1)
    await followed(follower)
    assert follower.missing() == [], "refused"
    await announce(pipeline, "v2", 2)
    await followed(follower)
    assert follower.missing() == ["popular"]
    now_s = MODELS_WAIT_S
    await follower.follow()
    assert follower.missing() == [], "given up, and still tried"
    await pipeline.state.store.set_serving("popular", b"", 3)
    await followed(follower)
    assert follower.missing() == []


async def test_closing_waits_for_no_model() -> None:
    pipeline, follower, source = await ready(v1=model("a"))
    source.gate.clear()
    await announce(pipeline, "v1", 1)
    await follower.follow()
    follower.close()
    assert not follower._loading
    source.gate.set()


# -- what the model store says (S6) --------------------------------------------------------------------------------------------------------


class Truth:
    """What the model store lets serve: a version, None for nothing, or an error."""

    def __init__(self, version: str | Exception | None) -> None:
        self.version = version

    def __call__(self, kind: str) -> ModelAnnouncement | None:
        if isinstance(self.version, Exception):
            raise self.version
        changes = {"kind": kind, "version": self.version, "champion": None}
        return None if self.version is None else ANNOUNCEMENT.model_copy(update=changes)


async def confirmed(truth: Truth, **versions: Model | Exception) -> tuple[Pipeline, ModelFollower]:
    pipeline = await opened_pipeline(MemoryStore(), SETTINGS)
    follower = ModelFollower(pipeline.state, Source(**versions), truth, first_wait_s=0.0)
    follower.metrics = StreamMetrics(SETTINGS.alarms)
    return pipeline, follower


def serving(pipeline: Pipeline) -> str | None:
    held = pipeline.state.engine.models.get("popular")
    return None if held is None else held.version


def unconfirmed(follower: ModelFollower) -> float:
    assert follower.metrics is not None
    return follower.metrics.registry.get_sample_value("recsys_models_total", {"outcome": "unconfirmed"}) or 0.0


async def test_a_tombstone_that_the_store_contradicts_retires_nothing_not_even_after_a_restart(caplog: pytest.LogCaptureFixture) -> None:
    truth = Truth("v1")
    pipeline, follower = await confirmed(truth, v1=model("a"))
    await announce(pipeline, "v1", 1)
    assert await followed(follower) == ["popular/v1"]
    await pipeline.state.store.set_serving("popular", b"", 2)
    assert await followed(follower) == [] and serving(pipeline) == "v1" and unconfirmed(follower) == 1
    assert [r.levelname for r in caplog.records if "says that the kind is retired" in r.getMessage()] == ["WARNING"]
    restarted = ModelFollower(pipeline.state, Source(v1=model("a")), truth, first_wait_s=0.0)
    pipeline.state.engine.models.clear()
    assert await followed(restarted) == ["popular/v1"] and restarted.missing() == []
    await announce(pipeline, "v1", 3)  # the trainer has restored it
    n_before = unconfirmed(follower)
    assert await followed(follower) == [] and serving(pipeline) == "v1" and unconfirmed(follower) == n_before


async def test_a_kind_that_the_store_has_retired_serves_no_longer() -> None:
    truth = Truth("v1")
    pipeline, follower = await confirmed(truth, v1=model("a"))
    await announce(pipeline, "v1", 1)
    await followed(follower)
    truth.version = None
    await pipeline.state.store.set_serving("popular", b"", 2)
    await followed(follower)
    assert serving(pipeline) is None and unconfirmed(follower) == 0


async def test_a_store_that_cannot_be_asked_retires_nothing() -> None:
    truth = Truth("v1")
    pipeline, follower = await confirmed(truth, v1=model("a"))
    await announce(pipeline, "v1", 1)
    await followed(follower)
    truth.version = Transient("the disk is away")
    await pipeline.state.store.set_serving("popular", b"", 2)
    await followed(follower)
    assert serving(pipeline) == "v1"
    truth.version = None
    await followed(follower)
    assert serving(pipeline) is None


async def test_a_version_that_the_store_does_not_let_serve_is_not_loaded() -> None:
    truth = Truth("v1")
    pipeline, follower = await confirmed(truth, v1=model("a"), v2=model("a"), evil=model("a"))
    await announce(pipeline, "evil", 1)
    assert await followed(follower) == ["popular/v1"], "the store's is"
    await announce(pipeline, "evil", 2, manifest_sha256="f" * 64)
    assert await followed(follower) == [] and serving(pipeline) == "v1" and unconfirmed(follower) >= 2
    truth.version = None
    await announce(pipeline, "evil", 3)
    assert await followed(follower) == [] and serving(pipeline) == "v1" and follower.missing() == []
    truth.version = "v2"
    await announce(pipeline, "v2", 4)
    assert await followed(follower) == ["popular/v2"]


async def test_an_announcement_that_cannot_be_read_is_refused_and_the_other_kinds_are_followed() -> None:
    pipeline, follower, _ = await ready(v1=model("a"))
    await pipeline.state.store.set_serving("ials", b"{", 1)
    await announce(pipeline, "v1", 1)
    assert await followed(follower) == ["popular/v1"] and await followed(follower) == [] and follower.missing() == []


async def test_a_defect_that_loading_meets_is_tried_again_and_ends_nothing() -> None:
    pipeline, follower, source = await ready(v1=RuntimeError("a defect"))
    await announce(pipeline, "v1", 1)
    assert await followed(follower) == []
    source.versions["v1"] = model("a")
    assert await followed(follower) == ["popular/v1"]


async def test_a_capped_attribute_that_no_item_has_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    caps = [{"by": "attribute.brand", "most": 1}, {"by": "attribute.br\x85and", "most": 1}, {"by": "category", "most": 2}]
    store, settings = MemoryStore(), small_settings(lists={"size": 2, "caps": caps})
    pipeline = await opened_pipeline(store, settings)
    follower = CatalogueFollower(pipeline.state)
    await stored(store, Item(item_id="a"))
    await follower.follow()
    assert not caplog.records, "too few items to say"
    items = [Item(item_id=f"i{n}", categories=("c",), categorical_attributes={"brand": f"b{n}"}) for n in range(3)]
    for offset in (1, 2):
        await stored(store, *items, source_offset=offset)
        await follower.follow()
    assert [record.getMessage() for record in caplog.records] == [
        "no item has a value of attribute.br\\x85and, which lists.caps or lists.calibration reads: check the name"
    ]
    assert pipeline.state.engine.catalogue.labels["attribute.brand"].bound == 3
