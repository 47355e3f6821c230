"""Read the first rows of a file as they would be published, and send nothing."""

from __future__ import annotations

from itertools import islice

from workers.client.checks import DryRun
from workers.producer.files import Reading, open_rows
from workers.producer.mapping import RowMapping
from workers.producer.publish import Run, publish_rows
from workers.producer.report import PublishReport


def publish_some(path: str, reading: Reading, mapping: RowMapping, future_skew_s: int, n_rows: int) -> PublishReport:
    """Return what would become of the first `n_rows` rows. Raises SettingsError as `open_rows`."""
    with open_rows(path, reading, mapping) as rows, DryRun(future_skew_s) as publisher:
        return publish_rows(islice(rows, n_rows), mapping, publisher, Run(dry=True))
