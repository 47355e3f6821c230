"""The Bayesian sampler, which needs the extra `search`."""

from __future__ import annotations

import math

from recsys.evaluation.sampler import N_RANDOM, Bayesian, Options, Random, sampler_of
from recsys.models.space import LogUniform, OneOf

SPACE = {"strength": LogUniform(0.001, 1_000.0), "depth": OneOf((1, 2, 3)), "shape": OneOf(("flat", "round", None))}


def score(options: Options) -> float:
    """Best at strength 1, depth 2 and a round shape."""
    strength, depth = options["strength"], options["depth"]
    assert isinstance(strength, float) and isinstance(depth, int)
    return -abs(math.log10(strength)) - abs(depth - 2) - (options["shape"] != "round")


def drawn(sampler: Bayesian | Random, n: int) -> list[Options]:
    found = []
    for at in range(n):
        found.append(sampler.ask())
        sampler.tell(found[-1], None if at == 3 else score(found[-1]))
    return found


def test_random_configurations_come_first_and_then_better_ones() -> None:
    chosen, blind = list[Options](), list[Options]()
    for seed in (0, 1, 4):
        found, at_random = drawn(Bayesian(SPACE, seed), 40), drawn(Random(SPACE, seed), 40)
        assert found[:N_RANDOM] == at_random[:N_RANDOM]
        chosen, blind = chosen + found[-20:], blind + at_random[-20:]
    assert sum(map(score, chosen)) / 60 > sum(map(score, blind)) / 60 + 0.5
    assert all(0.001 <= options["strength"] <= 1_000 for options in chosen if isinstance(options["strength"], float))


def test_the_same_seed_and_outcomes_give_the_same_configurations() -> None:
    assert drawn(Bayesian(SPACE, 1), 15) == drawn(Bayesian(SPACE, 1), 15)
    assert isinstance(sampler_of(SPACE, 0), Bayesian)
