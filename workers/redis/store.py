"""The state store on Redis ≥ 7, Valkey, or a cluster of either. Atomic steps are functions (`workers/redis/*.lua`)."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from workers.redis.catalogue import Catalogue
from workers.redis.commands import Command
from workers.redis.control import Control
from workers.redis.item_groups import ItemGroups
from workers.redis.keys import Keys, generation_namespace, generation_of, layouts_pattern
from workers.redis.opened_store import SCAN_COUNT
from workers.redis.related import Related
from workers.redis.users import Users
from workers.redis.users_topic import UsersTopic
from workers.runtime.counts import Traffic
from workers.state.layout import compare_layouts, layout_text, parse_generation, refuse_active, stored_layout
from workers.state.port import Layout, ServerIdentity


class RedisStore(ItemGroups, Users, UsersTopic, Catalogue, Related, Control):
    """`StateStore` on Redis; see there for what each method promises. A pinned one opens that generation, whichever is active."""

    async def open(self, layout: Layout, generation: int | None = None) -> None:
        self._link.servers.forget()
        loaded = await self._link.libraries()
        if any(self._link.library.name not in names for names in loaded):
            await self._link.load()
        chosen = await self.wanted_generation() if generation is None else generation
        self._generation, self.keys = chosen, Keys(generation_namespace(self._namespace, chosen))
        key = self.keys.layout
        wanted = layout_text(layout)
        await self._link.one(key, "SET", key, wanted, "NX")
        compare_layouts(await self._link.one(key, "GET", key), layout)
        await self._link.one(self.keys.state_id, "SET", self.keys.state_id, secrets.token_hex(8), "NX")
        self._layout = layout

    async def open_read_only(self) -> Layout:
        self._link.servers.forget()
        self._generation = await self.wanted_generation()
        self.keys = Keys(generation_namespace(self._namespace, self._generation))
        self._layout = stored_layout(await self._link.one(self.keys.layout, "GET", self.keys.layout), self._namespace)
        return self._layout

    @property
    def generation(self) -> int:
        return self._generation

    @property
    def traffic(self) -> Traffic:
        return self._link.traffic

    async def active_generation(self) -> int:
        key = self._pointers.generation
        return parse_generation(await self._link.one(key, "GET", key))

    async def generations(self) -> list[int]:
        found = set[int]()
        async for page in self._link.scan_primaries(layouts_pattern(self._namespace), SCAN_COUNT):
            found.update(number for key in page if (number := generation_of(self._namespace, key.decode())) is not None)
        return sorted(found)

    async def wanted_generation(self) -> int:
        return await self.active_generation() if self._pinned is None else self._pinned

    async def switch_generation(self, expected: int, to: int) -> bool:
        answer = await self._link.run([self._call("switch_generation", [self._pointers.generation], expected, to)])
        return bool(answer[0] == 1)

    async def drop_generation(self, generation: int) -> int:
        refuse_active(generation, await self.active_generation())
        spared = {key.encode() for key in self._pointers}  # generation 0 shares its namespace with them
        n_keys = 0
        async for page in self._link.scan_primaries(Keys(generation_namespace(self._namespace, generation)).pattern, SCAN_COUNT):
            by_tag: dict[bytes, list[bytes]] = {}
            for key in page:
                if key not in spared:
                    by_tag.setdefault(key[: key.index(b"}") + 1], []).append(key)
            n_keys += sum(await self._link.run([Command(tag.decode(), ("UNLINK", *keys)) for tag, keys in by_tag.items()]))
        return n_keys

    async def claim_rebuild(self, owner: str, hold_s: float) -> bool:
        answer = await self._link.run([self._call("claim_rebuild", [self._pointers.rebuild], owner, round(hold_s * 1000))])
        return bool(answer[0] == 1)

    async def state_id(self) -> str:
        return (await self._link.one(self.keys.state_id, "GET", self.keys.state_id) or b"").decode()

    async def set_serving(self, kind: str, announcement: bytes, order: int) -> bool:
        answer = await self._link.run([self._call("set_serving", [self.keys.models, self.keys.model_orders], kind, announcement, order)])
        return bool(answer[0] == 1)

    async def serving(self) -> dict[str, bytes]:
        answer = await self._link.one(self.keys.models, "HGETALL", self.keys.models)
        return {kind.decode(): announcement for kind, announcement in answer.items()}

    async def ping(self) -> None:
        await self._link.on_primaries("PING")

    async def server_identity(self) -> list[ServerIdentity]:
        infos = await self._link.on_primaries("INFO")
        return [_identity(info, libraries) for info, libraries in zip(infos, await self._link.libraries(), strict=True)]

    async def close(self) -> None:
        await self._link.close()


def _identity(info: Mapping[str, Any], libraries: tuple[str, ...]) -> ServerIdentity:
    valkey = "valkey_version" in info
    return ServerIdentity(
        run_id=str(info["run_id"]),
        replication_id=str(info["master_replid"]),
        role=str(info["role"]),
        server="valkey" if valkey else "redis",
        version=str(info["valkey_version"] if valkey else info["redis_version"]),
        used_memory_bytes=int(info["used_memory"]),
        maxmemory_bytes=int(info["maxmemory"]),
        maxmemory_policy=str(info["maxmemory_policy"]),
        libraries=libraries,
    )
