"""Findings of doctor and the settings that are in force, as pages show them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from workers.operations.finding import Finding
from workers.runtime.redaction import redact
from workers.runtime.shown_settings import masked
from workers.settings import Settings


class SystemPages:
    """Examines the installation; one examination at a time, for whoever asks."""

    def __init__(self, settings: Settings, examine: Callable[[Settings], list[Finding]] | None = None) -> None:
        self._settings, self._examine = settings, examine
        self._examining = asyncio.Lock()

    async def findings(self) -> list[Finding]:
        """Return what doctor finds, without secrets. It takes seconds."""
        async with self._examining:
            found = await asyncio.to_thread(self._look)
        return [Finding(one.name, one.state, redact(one.text), redact(one.remedy)) for one in found]

    def _look(self) -> list[Finding]:
        if self._examine is None:
            from workers.operations.doctor import examine

            return examine(self._settings)
        return self._examine(self._settings)

    def settings(self) -> Mapping[str, Mapping[str, Any]]:
        """Return every setting that is in force, with secrets masked."""
        return {section: {name: redact(str(value)) for name, value in fields.items()} for section, fields in masked(self._settings).items()}
