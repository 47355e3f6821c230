"""The Docker engine and Compose through their command lines: the tests run what a user would type."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BUILD_TIMEOUT_S = 600.0  # the first build downloads torch
COMMAND_TIMEOUT_S = 120.0


def run(*command: str, env: Mapping[str, str] | None = None, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
    """Run a command and return its standard output. Raises: AssertionError with the end of its standard error when it fails."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith("RECSYS_")}
    done = subprocess.run(command, cwd=ROOT, env={**outside, **(env or {})}, capture_output=True, text=True, timeout=timeout_s)
    assert done.returncode == 0, f"{' '.join(command)}: exit code {done.returncode}: {done.stderr[-2_000:]}"
    return done.stdout


def why_no_engine() -> str | None:
    """Return why the tests cannot run here; None if they can."""
    for command, what in ((("docker", "info"), "no Docker engine answers"), (("docker", "compose", "version"), "no Compose v2 plugin")):
        try:
            done = subprocess.run(command, capture_output=True, timeout=30)
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{what} ({type(error).__name__})"
        if done.returncode:
            return what
    return None


class Compose:
    """The project's compose file under a project name and a host port of its own."""

    def __init__(self, project: str, env: Mapping[str, str]) -> None:
        self.project, self._env = project, dict(env)

    def __call__(self, *arguments: str, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        return run("docker", "compose", "-p", self.project, *arguments, env=self._env, timeout_s=timeout_s)

    def containers(self, service: str | None = None) -> list[dict[str, Any]]:
        """Return `docker inspect` of a service's containers, or of all; includes stopped ones."""
        ids = self("ps", "--all", "--quiet", *([] if service is None else [service])).split()
        return list(json.loads(run("docker", "inspect", *ids))) if ids else []

    def running(self, service: str) -> list[dict[str, Any]]:
        return [container for container in self.containers(service) if container["State"]["Running"]]

    def logs(self) -> str:
        """Return the end of every service's log; of the verbose broker only the last lines."""
        others = ("redis", "provision", "stream", "trainer")
        return self("logs", "--no-color", "--tail", "150", *others) + self("logs", "--no-color", "--tail", "20", "kafka")
