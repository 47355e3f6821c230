"""The claim on rebuilding: one rebuild at a time, also when one dies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from workers.errors import Fatal, WorkerError
from workers.state.port import StateStore

log = logging.getLogger(__name__)

HOLD_S = 30.0
"""A rebuild that died is forgotten after this; a living one renews its claim three times as often."""


class Claim:
    """Says that this process alone rebuilds; call `check` before every step that would harm another rebuild."""

    def __init__(self) -> None:
        self.owner = secrets.token_hex(8)
        self.renewed_s = time.monotonic()
        self.lost = False

    def check(self) -> None:
        """Raise Fatal when another rebuild may have begun."""
        if self.lost or time.monotonic() - self.renewed_s > HOLD_S:
            raise Fatal("the claim on rebuilding could not be renewed, another rebuild may have begun: run `recsys state rebuild` again")


@asynccontextmanager
async def claimed(store: StateStore) -> AsyncIterator[Claim]:
    """Hold the claim on rebuilding, and renew it. Raises Fatal while another rebuild holds it."""
    claim = Claim()
    if not await store.claim_rebuild(claim.owner, HOLD_S):
        raise Fatal(f"another rebuild is at work, or died less than {HOLD_S:.0f} s ago: wait, then try again")
    renewing = asyncio.create_task(_renew(store, claim))
    try:
        yield claim
    finally:
        renewing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await renewing
        with contextlib.suppress(WorkerError):  # it expires by itself
            await store.claim_rebuild(claim.owner, 0)


async def _renew(store: StateStore, claim: Claim) -> None:
    while not claim.lost:
        await asyncio.sleep(HOLD_S / 3)
        asked_s = time.monotonic()
        try:
            claim.lost = not await store.claim_rebuild(claim.owner, HOLD_S)
            claim.renewed_s = asked_s
        except WorkerError as error:
            log.debug("claim not renewed: %s", error)
