"""Connection arguments of the three Kafka clients.

The arguments come from one `KafkaSettings`, so that Faust, aiokafka and kafka-python always connect in the same way. Nothing here imports a
client before it is asked for its arguments: what users embed (`workers.client`) must start fast.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Coroutine
from typing import Any

from workers.kafka.probe import probe
from workers.runtime.redaction import MaskedStr
from workers.runtime.tls import tls_context
from workers.settings import READ_COMMITTED, KafkaSettings, Settings

CLIENT_ID = "recsys"


def ssl_context(kafka: KafkaSettings) -> ssl.SSLContext | None:
    """Return the TLS context of the settings; None without TLS. Raises SettingsError naming the certificate setting that is wrong."""
    return tls_context("kafka", kafka) if kafka.security_protocol.endswith("SSL") else None


def check_reachable(kafka: KafkaSettings) -> None:
    """Return when a bootstrap server takes these settings.

    Raises: Transient when none answers, SettingsError naming the setting that is wrong.
    Asked before a kafka-python client is made: its constructors retry for the whole bootstrap timeout, leave sockets open when they fail,
    and do not say what is wrong.
    """
    probe(kafka)


async def uninterrupted(step: Coroutine[Any, Any, None]) -> None:
    """Start or stop an aiokafka client to the end, even when the caller is cancelled; then pass the cancellation on.

    Cancelled halfway, aiokafka 0.14 leaves connections open: a second `stop` does not continue the first, and a connection that still waits
    for metadata has no owner. Both end within the request timeout.
    """
    task = asyncio.ensure_future(step)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise


def _common(kafka: KafkaSettings) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "bootstrap_servers": [server.strip() for server in kafka.bootstrap_servers.split(",") if server.strip()],
        "client_id": CLIENT_ID,
        "security_protocol": kafka.security_protocol,
        "request_timeout_ms": kafka.request_timeout_ms,
    }
    context = ssl_context(kafka)
    if context is not None:
        arguments["ssl_context"] = context
    if kafka.security_protocol.startswith("SASL"):
        assert kafka.sasl_password is not None  # the settings' own validator
        arguments["sasl_mechanism"] = kafka.sasl_mechanism
        arguments["sasl_plain_username"] = kafka.sasl_username
        arguments["sasl_plain_password"] = MaskedStr(kafka.sasl_password.get_secret_value())
    return arguments


def aiokafka_arguments(settings: Settings) -> dict[str, Any]:
    """Return the arguments that both `AIOKafkaConsumer` and `AIOKafkaProducer` take: where to connect and how."""
    return _common(settings.kafka)


def aiokafka_consumer_arguments(settings: Settings) -> dict[str, Any]:
    """Return `aiokafka_arguments` for consumers of committed records, with the group timeouts; six heartbeats a session.

    From then on aiokafka reads within the bounds of `workers.kafka.bounded_reading`.
    """
    from workers.kafka.bounded_reading import install

    install(settings)
    session_ms = settings.kafka.session_timeout_ms
    return {
        **_common(settings.kafka),
        "isolation_level": READ_COMMITTED,
        "session_timeout_ms": session_ms,
        "heartbeat_interval_ms": max(session_ms // 6, 100),
        "rebalance_timeout_ms": max(session_ms * 3, 30_000),
        "fetch_max_wait_ms": settings.kafka.fetch_max_wait_ms,
    }


def aiokafka_producer_arguments(settings: Settings) -> dict[str, Any]:
    """Return `aiokafka_arguments` with acks from all replicas, and idempotence where the broker has it (`kafka.idempotence`)."""
    return {**_common(settings.kafka), "acks": "all", "enable_idempotence": settings.kafka.idempotence}


def kafka_python_arguments(settings: Settings) -> dict[str, Any]:
    """Return the arguments that kafka-python's admin client, consumer and producer all take. Bootstrap ends after the request timeout.

    From then on kafka-python reads and writes within the bounds of `workers.kafka.bounded_kafka_python`.
    """
    from workers.kafka.bounded_kafka_python import install

    install(settings.kafka)
    return {**_common(settings.kafka), "bootstrap_timeout_ms": settings.kafka.request_timeout_ms}


def kafka_python_consumer_arguments(settings: Settings) -> dict[str, Any]:
    """Return `kafka_python_arguments` for consumers of committed records without a group."""
    return {**kafka_python_arguments(settings), "isolation_level": READ_COMMITTED, "group_id": None, "enable_auto_commit": False}


def faust_arguments(settings: Settings) -> dict[str, Any]:
    """Return the keyword arguments of `faust.App` for brokers, credentials and timeouts.

    From then on its consumers read within the bounds of `workers.kafka.bounded_reading`.
    """
    from workers.kafka.bounded_reading import install

    kafka = settings.kafka
    install(settings)
    servers = ";".join(f"aiokafka://{server.strip()}" for server in kafka.bootstrap_servers.split(",") if server.strip())
    session_s = kafka.session_timeout_ms / 1000
    arguments: dict[str, Any] = {
        "broker": servers,
        "broker_client_id": CLIENT_ID,
        "broker_session_timeout": session_s,
        "broker_heartbeat_interval": max(session_s / 6, 0.1),
        # Faust refuses a request timeout below the session timeout
        "broker_request_timeout": max(kafka.request_timeout_ms / 1000, session_s + 1),
        "producer_request_timeout": kafka.request_timeout_ms / 1000,
        "topic_replication_factor": settings.topics.replication_factor,
    }
    credentials = _faust_credentials(kafka)
    if credentials is not None:
        arguments["broker_credentials"] = credentials
    return arguments


def _faust_credentials(kafka: KafkaSettings) -> Any:
    if kafka.security_protocol == "PLAINTEXT":
        return None
    from faust.auth import SASLCredentials, SSLCredentials

    context = ssl_context(kafka)
    if kafka.security_protocol == "SSL":
        return SSLCredentials(context=context)
    assert kafka.sasl_password is not None
    return SASLCredentials(
        username=kafka.sasl_username,
        password=MaskedStr(kafka.sasl_password.get_secret_value()),
        ssl_context=context,
        mechanism=kafka.sasl_mechanism,
    )
