"""One round of training from the event log, started by torchrun on one machine or several.

`torchrun --nnodes 2 --nproc-per-node 1 --rdzv-backend c10d --rdzv-endpoint HOST:29400 -m workers.trainer.one_round`

The first process reads the log and the model store; the others need neither. Trainers that run announce what the round decided.
"""

from __future__ import annotations

import os
import sys

from workers.errors import Transient, WorkerError
from workers.runtime.threads import limit_threads
from workers.settings import load_settings
from workers.trainer.progress import report
from workers.trainer.ranks import group
from workers.trainer.training_job import TrainingJob
from workers.trainer.training_round import run_job
from workers.trainer.training_settings import check_training


def main() -> int:
    """Exit codes: 0 done, 1 a kind failed or a process was lost, 2 settings that cannot be used."""
    try:
        number, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    except (KeyError, ValueError):
        report("ERROR start it with torchrun, which sets RANK and WORLD_SIZE: torchrun --nproc-per-node 2 -m workers.trainer.one_round")
        return 2
    try:
        settings = load_settings()
        check_training(settings)
        limit_threads(settings.trainer.torch_threads)
        with group("env://", number, count) as ranks:
            if number:
                ranks.attend()
                return 0
            job = TrainingJob.of(settings)
            if left_out := [kind for kind in settings.trainer.kinds if kind not in job.trainer.kinds]:
                report(f"left to the trainer, which reads the catalogue and profiles from Kafka: {', '.join(left_out)}")
            results = run_job(job, ranks)
            ranks.dismiss()
    except Transient as error:
        report(f"ERROR {error}")
        return 1
    except WorkerError as error:
        report(f"ERROR {error}")
        return 2
    return int(any(result.action == "failed" for result in results))


if __name__ == "__main__":
    sys.exit(main())
