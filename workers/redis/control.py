"""Records of the control topic in Redis."""

from __future__ import annotations

from workers.redis.opened_store import OpenedStore


class Control(OpenedStore):
    """Methods of `StateStore` for what the control topic says."""

    async def set_control(self, key: str, record: bytes, order: int) -> bool:
        keys = [self.keys.control, self.keys.control_orders]
        answer = await self._link.run([self._call("set_serving", keys, key, record, order)])
        return bool(answer[0] == 1)

    async def control(self) -> dict[str, bytes]:
        answer = await self._link.one(self.keys.control, "HGETALL", self.keys.control)
        return {key.decode(): record for key, record in answer.items()}
