"""The page of the system: findings of doctor, the settings that are in force, the size of the state."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response

from workers.web.dashboard.parts import DashboardParts
from workers.web.dashboard.requests import reading


def add_system(app: FastAPI, parts: DashboardParts) -> None:
    """Add the route."""

    @app.get("/system")
    async def system(request: Request) -> Response:
        reading(request, "admin")
        findings = await parts.system.findings() if "doctor" in request.query_params else None
        state = await parts.state.current()
        servers = await state.store.server_identity()
        sizes = {
            "redis_used": sum(server.used_memory_bytes for server in servers),
            "redis_most": sum(server.maxmemory_bytes for server in servers),
            "items": len(state.numbering.names),
            "lists": len(parts.lists),
            "list_bytes": parts.lists.n_bytes,
        }
        return parts.pages.render(request, "system.html", here="system", findings=findings, settings=parts.system.settings(), sizes=sizes)
