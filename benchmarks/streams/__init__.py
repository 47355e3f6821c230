"""How well lists predict the next item on logs of real behaviour, beside simple baselines: `python -m benchmarks.streams --help`."""
