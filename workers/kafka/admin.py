"""kafka-python's admin client, its errors as ours, and the rights that the broker says this principal lacks.

`workers.kafka.rights` has the table of rights; here the broker is asked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from workers.errors import Transient, WorkerError
from workers.kafka.clients import blocking_admin
from workers.kafka.connection import check_reachable
from workers.kafka.rights import Right, denial, denial_without_right, lacking
from workers.settings import Settings


@contextmanager
def kafka_errors(settings: Settings, *needs: Right) -> Iterator[None]:
    """Turn kafka-python's errors into ours.

    Transient when no broker answers or a right is missing (`needs`, the rights that are asked for, make the line say which); SettingsError
    when a setting of the connection is wrong.
    """
    from kafka import errors

    servers = settings.kafka.bootstrap_servers
    try:
        yield
    except errors.SaslAuthenticationFailedError as error:
        check_reachable(settings.kafka)  # says which of user, password and mechanism
        raise Transient(f"Kafka at {servers} refused the credentials ({type(error).__name__}) and takes them now: try again") from None
    except errors.AuthorizationError as error:
        raise Transient(explain_denial(error, settings, needs)) from None
    except (errors.KafkaConnectionError, errors.KafkaTimeoutError, OSError) as error:
        check_reachable(settings.kafka)  # a clearer line, if it is the connection
        raise Transient(f"no Kafka broker answers at {servers}: start one or set kafka.bootstrap_servers") from error
    except errors.KafkaError as error:
        raise Transient(f"Kafka at {servers} answers with {type(error).__name__}: look into the broker's log") from error


@contextmanager
def admin_client(settings: Settings, *needs: Right) -> Iterator[Any]:
    """Open a connected kafka-python admin client, with errors as in `kafka_errors`."""
    with kafka_errors(settings, *needs):
        check_reachable(settings.kafka)
        client = blocking_admin(settings)
        try:
            yield client
        finally:
            client.close()


def missing_rights(settings: Settings, needed: Sequence[Right]) -> list[Right]:
    """Return the rights that the broker says this principal lacks.

    Rights on a topic that does not exist, and those that the broker says nothing about, count as granted. Raises: Transient, SettingsError.
    """
    with admin_client(settings) as admin:
        return lacking(admin, needed)


def explain_denial(error: BaseException, settings: Settings, needs: Sequence[Right]) -> str:
    """Return an authorization error as one line. The broker is asked which of the rights that were needed is lacking."""
    with contextlib.suppress(WorkerError):
        if needs and (found := missing_rights(settings, needs)):
            return denial(settings.kafka, found)
    return denial_without_right(error, settings)
