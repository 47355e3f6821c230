"""Works around a defect of aiokafka 0.14: a consumer whose heartbeat was denied once never works again.

Its coordinator runs heartbeats and the reading of commits as tasks. One that ended with an error is found ended again and again: the same
error is raised for every poll, also when the right is back, since only a new join starts these tasks and nothing asks for one.
"""

from __future__ import annotations

from typing import Any


def rejoin_if_ended(coordinator: Any) -> bool:
    """Ask a coordinator for a new join of its group when one of its tasks ended with an error; whether that was so.

    `None`, and a coordinator without a group, are left alone. Call it in the event loop of the consumer.
    """
    for name in ("_heartbeat_task", "_commit_refresh_task"):
        task = getattr(coordinator, name, None)
        if task is not None and task.done() and not task.cancelled() and task.exception() is not None:
            coordinator.request_rejoin()
            return True
    return False
