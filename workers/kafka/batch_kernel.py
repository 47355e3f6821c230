"""The records of a batch, byte by byte, compiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.jit import compiled


@compiled
def most_headers(records: NDArray[np.uint8], n_enough: int) -> int:
    """Return the number of headers of the record of a batch that has most, looking only at records that may have `n_enough`.

    `records` are the unpacked bytes of a batch of Kafka's format 2. −1 where they are no records: the parser will say more.
    """
    at, end, most = np.int64(0), np.int64(len(records)), np.int64(0)
    while at < end:
        length, shift = np.int64(0), 0
        while True:  # zigzag varints, seven bits a byte
            if at >= end or shift > 28:
                return -1
            byte = np.int64(records[at])
            at += 1
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        length = (length >> 1) ^ -(length & 1)
        if length < 0 or length > end - at:
            return -1
        following = at + length
        if length >= 2 * n_enough:
            at += 1  # attributes
            for field in range(5):  # time, offset, key, value, headers
                number, shift = np.int64(0), 0
                while True:
                    if at >= following or shift > 63:
                        return -1
                    byte = np.int64(records[at])
                    at += 1
                    number |= (byte & 127) << shift
                    shift += 7
                    if byte < 128:
                        break
                number = (number >> 1) ^ -(number & 1)
                if field == 2 or field == 3:
                    at += max(number, np.int64(0))
                    if at > following:
                        return -1
                if field == 4 and number > most:
                    most = number
        at = following
    return int(most)
