"""Settings: environment (`RECSYS_KAFKA__BOOTSTRAP_SERVERS=…`), then a TOML file (`RECSYS_CONFIG`, else `./recsys.toml`), then defaults.

A wrong value is refused at start with one line that names it (`load_settings` raises `SettingsError`); secrets never appear in a repr.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from workers.content_settings import ContentSettings
from workers.dashboard_settings import DashboardSettings
from workers.errors import SettingsError
from workers.gateway_settings import GatewaySettings
from workers.list_settings import ListSettings as ListSettings
from workers.related_settings import RelatedSettings as RelatedSettings
from workers.section import Positive, Section
from workers.tuning_settings import TuningSettings
from workers.watch_settings import AlarmSettings as AlarmSettings
from workers.watch_settings import HealthSettings as HealthSettings
from workers.watch_settings import LogSettings as LogSettings
from workers.watch_settings import MetricsSettings as MetricsSettings
from workers.watch_settings import TracingSettings as TracingSettings

READ_COMMITTED = "read_committed"
"""Isolation level of every consumer: records of aborted transactions are not read."""


class KafkaSettings(Section):
    bootstrap_servers: str = "127.0.0.1:9092"
    """Brokers to connect to first: host:port, separated by commas."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """Encryption and login; the SASL protocols need `sasl_username` and `sasl_password`."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-256"
    """Login mechanism of the SASL protocols."""
    sasl_username: str | None = None
    """User name for SASL."""
    sasl_password: SecretStr | None = None
    """Password for SASL."""
    ssl_cafile: Path | None = None
    """CA certificates (PEM) to verify brokers with; the system's own if not set."""
    ssl_certfile: Path | None = None
    """This client's certificate (PEM), for brokers that require one."""
    ssl_keyfile: Path | None = None
    """Its private key (PEM), if `ssl_certfile` does not hold it."""
    ssl_key_password: SecretStr | None = None
    """Pass phrase of an encrypted private key."""
    session_timeout_ms: Positive = 10_000
    """A worker that sends no heartbeat for this long loses its partitions."""
    request_timeout_ms: Positive = 30_000
    """A request without an answer fails after this."""
    fetch_max_wait_ms: Positive = 100
    """How long a broker holds an empty fetch. It bounds freshness on brokers that answer late (the embedded broker waits half of it)."""
    max_batch_bytes: Annotated[int, Field(ge=1_048_576, le=1_073_741_824)] = 33_554_432
    """Largest size of one batch of records after decompression. A larger batch becomes a dead letter: 1 MB may expand to a gigabyte.
    Set the same value for all workers: it decides which events count."""
    damaged_batches: Literal["stop", "dead_letter"] = "stop"
    """A batch of events whose checksum stays wrong: `stop` stops the worker; `dead_letter` writes a dead letter and loses its events."""
    idempotence: bool = True
    """Use idempotent producers. Switch off only for a broker that lacks them for aiokafka, as the embedded broker does."""

    @model_validator(mode="after")
    def _sasl_is_complete(self) -> KafkaSettings:
        if self.security_protocol.startswith("SASL") and (self.sasl_username is None or self.sasl_password is None):
            raise ValueError("security_protocol needs sasl_username and sasl_password: set both or choose PLAINTEXT or SSL")
        return self

    @model_validator(mode="after")
    def _security_is_used(self) -> KafkaSettings:
        """Refuse certificates and users that the protocol would ignore: they were set to be used."""
        given = [name for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_key_password") if getattr(self, name) is not None]
        if given and not self.security_protocol.endswith("SSL"):
            protocol = self.security_protocol
            raise ValueError(f"{given[0]} is set and security_protocol is {protocol}: choose SSL or SASL_SSL, or unset {given[0]}")
        return self

    @property
    def ca_file(self) -> Path | None:
        return self.ssl_cafile

    @property
    def ca_setting(self) -> str:
        return "ssl_cafile"


class TopicSettings(Section):
    events: str = "recsys.events"
    """Topic of events."""
    items: str = "recsys.items"
    """Topic of the catalogue."""
    users: str = "recsys.users"
    """Topic of user profiles."""
    recommendations: str = "recsys.recommendations"
    """Topic of lists."""
    models: str = "recsys.models"
    """Topic of model announcements."""
    control: str = "recsys.control"
    """Topic of rules that change while workers run (`lists.rules_topic`)."""
    dead_letters: str = "recsys.dlq"
    """Topic of refused records."""
    similar: str = "recsys.similar"
    """Topic of similar items of each item (`related.similar`)."""
    bought_together: str = "recsys.bought-together"
    """Topic of the items that are bought together with each item (`related.bought_together`)."""
    trending: str = "recsys.trending"
    """Topic of the items that rise in each category (`related.trending`)."""
    partitions: Annotated[int, Field(gt=0, le=4096)] = 8
    """Partitions of events, users and recommendations; fixed for the life of the state."""
    replication_factor: Annotated[int, Field(gt=0, le=16)] = 1
    """Replicas of each topic that `recsys topics create` makes."""
    wrong_partition: Literal["dead_letter", "accept"] = "dead_letter"
    """An event or a profile that lies in another partition than murmur2, Kafka's own partitioner, gives its key. `dead_letter` refuses
    it. `accept` is for producers that all use another partitioner (`recsys lists get` looks where murmur2 says)."""


class RedisSettings(Section):
    url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    """redis:// or rediss:// URL; it may contain a user and a password."""
    cluster: bool = False
    """The URL is a node of a Redis Cluster."""
    seeds: str = ""
    """More nodes of a cluster (host:port, separated by commas), to read its layout from when the node of `url` does not answer."""
    username: str | None = None
    """User name, if the URL has none."""
    password: SecretStr | None = None
    """Password, if the URL has none."""
    ssl_ca_certs: Path | None = None
    """CA certificates (PEM) to verify the server with, for a rediss:// URL; the system's own if not set."""
    ssl_certfile: Path | None = None
    """This client's certificate (PEM), for servers that require one (`tls-auth-clients yes`)."""
    ssl_keyfile: Path | None = None
    """Its private key (PEM), if `ssl_certfile` does not hold it."""
    ssl_key_password: SecretStr | None = None
    """Pass phrase of an encrypted private key."""
    namespace: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,32}$")] = "rs"
    """Prefix of all keys."""
    timeout_s: Annotated[float, Field(gt=0)] = 10.0
    """A command without an answer fails after this."""

    @model_validator(mode="after")
    def _certificates_are_used(self) -> RedisSettings:
        """Refuse certificates that an unencrypted connection would ignore: they were set to be used."""
        given = [name for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_key_password") if getattr(self, name) is not None]
        if given and not self.uses_tls:
            raise ValueError(f"{given[0]} is set and url has no TLS: write rediss:// in redis.url, or unset {given[0]}")
        return self

    @property
    def uses_tls(self) -> bool:
        return self.url.get_secret_value().lower().startswith("rediss://")

    @property
    def ca_file(self) -> Path | None:
        return self.ssl_ca_certs

    @property
    def ca_setting(self) -> str:
        return "ssl_ca_certs"


class WeightSettings(Section):
    """Weight of one event by type. A weight of 0 changes no state. A weight below 0 is a dislike: it hides the item and makes no pairs."""

    impression: Annotated[float, Field(ge=-4, le=4)] = 0.0
    view: Annotated[float, Field(ge=-4, le=4)] = 0.5
    play: Annotated[float, Field(ge=-4, le=4)] = 1.0
    click: Annotated[float, Field(ge=-4, le=4)] = 0.5
    like: Annotated[float, Field(ge=-4, le=4)] = 1.0
    add_to_cart: Annotated[float, Field(ge=-4, le=4)] = 1.0
    purchase: Annotated[float, Field(ge=-4, le=4)] = 1.5
    share: Annotated[float, Field(ge=-4, le=4)] = 1.0
    dislike: Annotated[float, Field(ge=-4, le=4)] = -1.0
    hide: Annotated[float, Field(ge=-4, le=4)] = -1.0
    rating_neutral: float = 2.5
    """A rating of this value has weight 0."""
    rating_best: float = 5.0
    """A rating of this value has weight 1; weights between are linear."""

    @model_validator(mode="after")
    def _rating_scale(self) -> WeightSettings:
        if self.rating_best <= self.rating_neutral:
            raise ValueError("rating_best must be above rating_neutral")
        return self


Off = Annotated[str, Field(pattern=r"^(no|forever|[1-9]\d{0,4}(\.\d{1,2})?[smhdw])$")]
EventName = Literal["impression", "view", "play", "click", "like", "rating", "add_to_cart", "purchase", "share", "dislike", "hide"]


class TouchSettings(Section):
    """Times for which an item stays off a user's lists after that user's last touch of it, by event type: `no`, `forever`, or one such as
    `30m`, `12h`, `3d` or `2w`. The type is that of the strongest event since the last change of mind."""

    impression: Off = "no"
    view: Off = "no"
    play: Off = "forever"
    click: Off = "no"
    like: Off = "forever"
    rating: Off = "forever"
    add_to_cart: Off = "1d"
    """The cart shows it anyway; after a day a list may remind of it."""
    purchase: Off = "30d"
    share: Off = "forever"
    dislike: Off = "forever"
    """Also for a rating below the neutral value, and for every other event that weighs less than 0."""
    hide: Off = "forever"
    by_category: dict[str, dict[EventName, Off]] = {}
    """Other times for items of a category, such as {"groceries": {"purchase": "3d"}}. Of several categories the shortest time counts."""


class StateSettings(Section):
    item_groups: Annotated[int, Field(gt=0, le=1024)] = 8
    """Hash tags that items are spread over; fixed for the life of the state."""
    history_length: Annotated[int, Field(ge=20, le=1000)] = 100
    """Items of a user that are kept with their times, weight and event type: those touched last, one entry per item."""
    seen_length: Annotated[int, Field(ge=0, le=20_000)] = 1_000
    """Older items of a user that are kept by number only, so that they are not recommended again: those that left the history and whose
    event type takes items off lists (`touch`), the last ones."""
    shown_items: Annotated[int, Field(ge=0, le=1_000)] = 0
    """Items of a user of which the state counts how often they were shown (events of type `impression`) since the user last chose them:
    the last ones. Fixed for the life of the state. 0: impressions are not counted."""
    session_s: Annotated[int, Field(ge=0, le=86_400)] = 1_800
    """A user who touches an item again within this time is still in the same session: the event adds no pairs. A late event also pairs
    with the items that follow it within this time."""
    pairings_per_epoch: Annotated[int, Field(ge=1, le=254)] = 1
    """In how many sessions of one epoch a user's touches of one item add pairs."""
    touches_per_epoch: Annotated[int, Field(ge=1, le=254)] = 1
    """In how many sessions of one epoch a user's touches of one item add to its popularity of all time. The popularity of a half-life
    counts a user and an item once in each half-life, and at most once a day."""
    partner_touches: Annotated[int, Field(ge=1, le=255)] = 20
    """An item that a user touched more often pairs no more with items that the user touches after it."""
    user_budget: Annotated[int, Field(ge=100, le=60_000)] = 1_000
    """How many events of one user may add to pairs and popularity at once; a tenth of it comes back each day of event time. Events
    beyond it still change the user's own history."""
    half_life_days: Annotated[float, Field(gt=0)] = 180.0
    """Half-life of co-occurrence; also the length of one event-time epoch."""
    live_epochs: Annotated[int, Field(ge=1, le=32)] = 32
    """Number of epochs, the newest in which an item has co-occurrence, that are kept and read. It bounds an item's memory. Time alone
    removes nothing."""
    max_neighbours: Annotated[int, Field(ge=16)] = 4_096
    """Compaction keeps this many neighbours of an item, the heaviest."""
    similarity: Literal["directed", "cosine", "llr"] = "directed"
    """How co-occurrence counts become scores."""
    sweep_s: Annotated[float, Field(gt=0)] = 600.0
    """How often a worker checks whether event time has advanced by an hour. If so, it deletes expired rows of items."""
    duplicate_chunk: Annotated[int, Field(ge=1_024, le=1_048_576)] = 32_768
    """An event id counts once within at least this many offsets of a partition (two chunks are kept)."""


class StreamSettings(Section):
    group_id: str = "recsys-stream"
    """Consumer group of the stream workers."""
    batch_max_events: Positive = 4_000
    """Events in one batch; a worker that is behind and makes no lists takes up to four times as many."""
    batch_wait_ms: Annotated[int, Field(ge=0, le=10_000)] = 20
    """How long a poll waits for the first record."""
    publish_lists: bool = True
    """Off: keep the state only, for a backfill."""
    future_skew_s: Annotated[int, Field(ge=0)] = 300
    """An event whose time is further than this after its Kafka record's timestamp becomes a dead letter. The check uses no wall clock."""
    max_record_bytes: Positive = 65_536
    """Largest event record that is decoded; a larger one becomes a dead letter."""
    user_cache: Positive = 50_000
    """Users whose decoded rows a worker keeps in memory."""
    staleness_ms: Positive = 1_000
    """How old another worker's co-occurrence and popularity may be in this worker's cache. For epochs before the newest two it is
    thirty times this."""
    catch_up_events: Positive = 100_000
    """Further behind than this, a worker defers lists and keeps the state up to date. It makes the deferred lists when less than a
    tenth of this is left."""
    stop_timeout_s: Annotated[float, Field(gt=0)] = 15.0
    """After SIGTERM the current batch has this long to be finished and committed. An unfinished batch is applied by the next owner of
    its partitions."""
    dead_letter_payload: bool = False
    """Put the raw record into its dead letter (it may contain personal data)."""
    web_port: Annotated[int, Field(ge=0, le=65_535)] = 0
    """Faust's web port on 127.0.0.1; 0 switches the web server off."""
    torch_threads: Positive = 1
    """Threads of torch and of numpy's matrix products."""
    list_threads: Annotated[int, Field(ge=1, le=64)] = 2
    """Threads that make the lists of a large batch in parallel; set 1 where each core has a worker of its own."""


class TrainerSettings(TuningSettings):
    app_id: str = "recsys-trainer"
    """Faust application id of the trainers: consumer group and leader election."""
    log_url: str = ".recsys/log"
    """Folder or fsspec URL (`s3://…` with the extra `s3`) of the columnar event log."""
    model_url: str = ".recsys/models"
    """Folder or fsspec URL (`s3://…` with the extra `s3`) of the model store."""
    kinds: tuple[str, ...] = ("ials", "sasrec", "recipe")
    """Kinds of models to train; `recipe` is what lists are made by, and is trained after them. A learned `ranker`, off unless it is named
    here, ranks again what the recipe ranks first, and is trained last (docs/ranker.md)."""
    every_s: Annotated[float, Field(gt=0)] = 900.0
    """Train after this time, or after `every_events`, whichever comes first."""
    every_events: Positive = 200_000
    """Train after this many new events, or after `every_s`, whichever comes first."""
    min_events: Positive = 1_000
    """Do not train on fewer events."""
    holdout: Annotated[float, Field(gt=0, lt=0.5)] = 0.1
    """Share of the newest events that judge challenger and champion; at most half of those that arrived after the champion's training."""
    tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """A challenger is promoted if it is better beyond chance than the champion's score less this share; 0: than the champion."""
    min_targets: Positive = 200
    """With fewer targets of users with a history in the evaluation slice, the challenger is refused."""
    segment_events: Positive = 50_000
    """Events in one segment of the event log."""
    flush_s: Annotated[float, Field(gt=0)] = 5.0
    """How often new events are written to the event log."""
    torch_threads: Positive = 1
    """Threads of torch in each training process."""
    processes: Annotated[int, Field(ge=1, le=64)] = 1
    """Processes of this machine that train one model together, where its kind can (`sasrec`); each has `torch_threads`."""
    factors: Annotated[int, Field(ge=4, le=1024)] = 64
    """Dimensions of a model's vectors."""
    seed: int = 0
    """Seed of training."""
    max_seconds: Annotated[float, Field(gt=0)] = 3600.0
    """A training stops after this and keeps what it has learnt. Its process is killed after twice this time and a minute."""
    checkpoint_s: Annotated[float, Field(ge=0)] = 60.0
    """Seconds between two checkpoints of a training by epochs, from which the next round goes on if this one is stopped; 0: none."""
    options: dict[str, dict[str, int | float | str]] = {}
    """Training options of a kind that override its defaults, such as {"sasrec": {"max_epochs": 20}}."""
    keep_versions: Annotated[int, Field(ge=2)] = 10
    """Finished versions of each kind to keep, besides those that rollback can reach."""


class Settings(BaseSettings):
    """All settings; sections are named as in the environment variables."""

    model_config = SettingsConfigDict(env_prefix="RECSYS_", env_nested_delimiter="__", extra="forbid", frozen=True, validate_default=True)

    kafka: KafkaSettings = KafkaSettings()
    topics: TopicSettings = TopicSettings()
    redis: RedisSettings = RedisSettings()
    weights: WeightSettings = WeightSettings()
    touch: TouchSettings = TouchSettings()
    state: StateSettings = StateSettings()
    stream: StreamSettings = StreamSettings()
    lists: ListSettings = ListSettings()
    related: RelatedSettings = RelatedSettings()
    trainer: TrainerSettings = TrainerSettings()
    content: ContentSettings = ContentSettings()
    gateway: GatewaySettings = GatewaySettings()
    dashboard: DashboardSettings = DashboardSettings()
    health: HealthSettings = HealthSettings()
    metrics: MetricsSettings = MetricsSettings()
    alarms: AlarmSettings = AlarmSettings()
    logs: LogSettings = LogSettings()
    tracing: TracingSettings = TracingSettings()

    @model_validator(mode="after")
    def _impressions_are_counted(self) -> Settings:
        """Refuse a frequency cap that could never rest an item: it was set to change lists."""
        if self.lists.frequency_cap.times and not self.state.shown_items:
            raise ValueError(
                "lists.frequency_cap.times is set and state.shown_items is 0: set state.shown_items to the items whose impressions are "
                "counted, such as 100, or lists.frequency_cap.times to 0"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        path = Path(os.environ.get("RECSYS_CONFIG", "recsys.toml"))
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=path)


def load_settings(**overrides: Any) -> Settings:
    """Settings from environment and TOML. Raises SettingsError with one line naming the first wrong setting."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "settings"
        raise SettingsError(f"setting {where}: {first['msg'].removeprefix('Value error, ')}") from None
    except ValueError as error:  # an unreadable TOML file
        raise SettingsError(f"settings file: {error}") from None
