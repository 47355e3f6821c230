"""Shows the metrics of a stream worker that found records deleted before it had applied them: `python -m tests.alerts.exporter PORT`."""

from __future__ import annotations

import sys

from prometheus_client import start_http_server

from workers.local.embedded import HOST
from workers.runtime.metrics import StreamMetrics
from workers.runtime.status import WorkerStatus
from workers.settings import AlarmSettings

if __name__ == "__main__":
    status = WorkerStatus()
    status.clear("start")
    metrics = StreamMetrics(AlarmSettings(), status)
    metrics.add_expired(7)
    start_http_server(int(sys.argv[1]), HOST, metrics.registry)[1].join()
