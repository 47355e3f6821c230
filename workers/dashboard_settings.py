"""Settings of the dashboard."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from workers.section import Section


class DashboardSettings(Section):
    host: str = "127.0.0.1"
    """Address that the dashboard is bound to. One beyond this machine needs `gateway.keys`."""
    port: Annotated[int, Field(ge=1, le=65_535)] = 8080
    """Port of the dashboard."""
    workers: Annotated[tuple[Annotated[str, Field(pattern=r"^https?://[^/\s]+$")], ...], Field(max_length=256)] = ()
    """Addresses of workers whose `/metrics` the overview reads, such as ["http://127.0.0.1:9101"] (`metrics.port`). A
    name with several addresses is asked at each of them."""
    image_attribute: Annotated[str, Field(min_length=1, max_length=64)] = "image_url"
    """Categorical attribute of items that holds the URL of a picture."""
    images: tuple[Literal["https", "data"], ...] = ("data",)
    """Kinds of picture URLs that cards show. With `https` browsers fetch pictures from the servers that the catalogue names."""
