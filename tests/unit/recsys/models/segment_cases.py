"""Users whose first choices depend on their profile, and their log."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.models.segments.config import SegmentsConfig
from recsys.models.segments.fit import Likes, fit
from recsys.models.segments.model import SegmentsModel
from recsys.state.profiles import Attribute, Profile, ProfileColumns

N_USERS, N_ITEMS, N_CHOICES = 600, 40, 6
IDS = [f"i{number}" for number in range(N_ITEMS)]


def people(n_users: int = N_USERS, seed: int = 0) -> list[Profile | None]:
    """Return profiles with a country of two, an age of 20 to 59, and a number that says nothing; one in ten has none."""
    random = np.random.default_rng(seed)
    return [
        Profile({"country": "no" if random.random() < 0.5 else "de"}, {"age": float(random.integers(20, 60)), "noise": random.random()}, ())
        if random.random() < 0.9
        else None
        for _ in range(n_users)
    ]


def likes_of(profiles: list[Profile | None], seed: int = 1) -> Likes:
    """Return choices of which two of three are of the ten items of the user's country, or of the ten of the user's age."""
    random = np.random.default_rng(seed)
    users, items = list[int](), list[int]()
    for user, profile in enumerate(profiles):
        group = None if profile is None else 10 * (profile.categorical["country"] == "no")
        if profile is not None and random.random() < 0.5:
            group = 20 + 10 * (profile.numeric["age"] >= 40)
        own = random.permutation(10)[:N_CHOICES] + (group or 0)
        stray = random.permutation(N_ITEMS)[:N_CHOICES]
        chosen = np.where(random.random(N_CHOICES) < 0.66, own if group is not None else stray, stray)
        for item in dict.fromkeys(chosen.tolist()):
            users.append(user)
            items.append(item)
    order = np.arange(len(users))
    return Likes(np.array(users), np.array(items), order)


def attributes_of(profiles: list[Profile | None]) -> dict[int, Attribute]:
    """Return attributes by key."""
    return {one.key: one for profile in profiles if profile is not None for one, _ in profile.attributes()}


def fitted(profiles: list[Profile | None], likes: Likes, **options: int) -> SegmentsModel:
    """Return the segments of these users."""
    return fit(likes, ProfileColumns.of(profiles), attributes_of(profiles), IDS, SegmentsConfig(**options))


def probabilities(model: SegmentsModel, profiles: ProfileColumns) -> NDArray[np.float64]:
    """Return the probability of each item of the model for users, (U, I)."""
    logits = model.encode_profiles(profiles).astype(np.float64) @ model.item_vectors.T.astype(np.float64)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: NDArray[np.float64] = shares / shares.sum(axis=1, keepdims=True)
    return found
