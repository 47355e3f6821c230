"""The partition of a key is the one that Kafka's own clients choose."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workers.kafka.partitioner import partition_for
from workers.kafka.placement import partitions_of


def test_known_hashes_of_the_java_client() -> None:
    # from org.apache.kafka.common.utils.UtilsTest.testMurmur2
    known = {
        b"21": -973932308,
        b"foobar": -790332482,
        b"a-little-bit-long-string": -985981536,
        b"a-little-bit-longer-string": -1486304829,
        b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
        b"abc": 479470107,
    }
    wanted = [hashed & 0x7FFFFFFF for hashed in known.values()]
    assert [partition_for(key, 1 << 31) for key in known] == wanted
    assert partitions_of(list(known), 1 << 31).tolist() == wanted


@given(st.lists(st.binary(max_size=70), max_size=40), st.integers(1, 4096))
def test_many_keys_at_once_equal_one_by_one(keys: list[bytes], n_partitions: int) -> None:
    assert partitions_of(keys, n_partitions).tolist() == [partition_for(key, n_partitions) for key in keys]
    assert all(0 <= p < n_partitions for p in partitions_of(keys, n_partitions))
