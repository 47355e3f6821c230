"""The tests of the embedded stack, with the stream worker on Apache Kafka and Redis from their public images (testcontainers)."""

from __future__ import annotations

import pytest

from tests.integration.test_embedded_publisher import (
    test_items_and_their_removal_go_to_the_items_topic,
    test_published_events_arrive_valid_in_order_and_in_the_user_s_partition,
)
from tests.integration.test_stream import (
    test_a_killed_worker_loses_nothing_and_the_other_goes_on,
    test_a_short_stream_gives_the_lists_of_the_core_alone,
    test_bad_records_become_dead_letters_and_lose_nothing_else,
    test_state_of_another_topic_is_refused_with_the_remedy,
    test_the_catalogue_and_profiles_reach_the_lists,
)

pytestmark = [pytest.mark.containers]

__all__ = [
    "test_a_killed_worker_loses_nothing_and_the_other_goes_on",
    "test_a_short_stream_gives_the_lists_of_the_core_alone",
    "test_bad_records_become_dead_letters_and_lose_nothing_else",
    "test_items_and_their_removal_go_to_the_items_topic",
    "test_published_events_arrive_valid_in_order_and_in_the_user_s_partition",
    "test_state_of_another_topic_is_refused_with_the_remedy",
    "test_the_catalogue_and_profiles_reach_the_lists",
]
