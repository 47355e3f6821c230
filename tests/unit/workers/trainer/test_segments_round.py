"""A round for segments: they serve if they know better than popularity what new users choose, and the recipe learns their weight."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recsys.catalogue.item_content import ItemContent
from recsys.models.descriptions import ItemDescriptions, UserProfiles
from recsys.models.segments.model import SegmentsModel
from recsys.state.profiles import Profile, ProfileColumns
from schemas import UserProfile, encode
from tests.unit.workers.trainer.test_training_round import append, job
from workers.models.store import ModelStore
from workers.settings import load_settings
from workers.trainer.model_round import _part
from workers.trainer.profiles_file import read_profiles
from workers.trainer.settling import KindResult
from workers.trainer.topic_file import append_entries, read_entries
from workers.trainer.training_columns import TrainingColumns
from workers.trainer.training_job import TrainingJob
from workers.trainer.training_round import run_job

N_USERS, N_CHOICES, N_ITEMS = 500, 6, 60
START_MS = 1_700_000_000_000


GROUPS, NOISE = np.random.default_rng(1).integers(0, 3, (2, N_USERS))


def arrivals() -> list[tuple[str, str, int]]:
    """Users who come one after another and choose items of their group, four times of five."""
    random = np.random.default_rng(0)
    events = []
    for user in range(N_USERS):
        own = random.permutation(N_ITEMS // 3)[:N_CHOICES] * 3 + GROUPS[user]
        for step, item in enumerate(np.where(random.random(N_CHOICES) < 0.8, own, random.integers(0, N_ITEMS, N_CHOICES)).tolist()):
            events.append((f"u{user}", f"i{item}", START_MS + (user * 10 + step) * 60_000))
    return events


def write_profiles(path: Path, *, of_groups: bool = True) -> None:
    """Write a profile of each user, with the group or with none of the attributes that matter."""
    found = []
    for user in range(N_USERS):
        value = str(GROUPS[user] if of_groups else NOISE[user])
        profile = UserProfile(user_id=f"u{user}", categorical_attributes={"group": value}, numeric_attributes={"age": 20.0 + user % 40})
        found.append((f"u{user}".encode(), encode(profile)))
    path.write_bytes(b"")
    append_entries(path, found)


def round_of(folder: Path, kinds: tuple[str, ...] = ("segments",)) -> list[KindResult]:
    options = {"segments": {"min_users": 20}, "recipe": {"cases": 160, "searched": 0, "judged": 120}}
    given = job(folder, kinds=kinds, options=options, holdout=0.3, min_targets=100)
    return run_job(given.model_copy(update={"profiles": folder / "profiles"}))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[KindResult]]:
    folder = tmp_path_factory.mktemp("segments")
    events = arrivals()
    append(folder, 0, len(events), events)
    write_profiles(folder / "profiles")
    return folder, round_of(folder, ("segments", "recipe"))


def test_segments_that_know_what_new_users_choose_serve(first: tuple[Path, list[KindResult]]) -> None:
    folder, (result, _) = first
    assert (result.action, result.version) == ("promoted", "segments-000001"), result.reason
    assert "better beyond chance than popularity" in result.reason and "recent popularity" in result.reason
    stored = ModelStore(str(folder / "models")).load_stored("segments", "segments-000001")
    model = stored.model
    assert isinstance(model, SegmentsModel) and {"group=0", "group=1", "group=2"} <= {str(segment) for segment in model.segments}
    assert stored.manifest.refit is not None and stored.manifest.trained_on.n_events == N_USERS * N_CHOICES
    by_group = model.scores_of("group", "1")
    assert by_group is not None
    best = np.array([int(item[1:]) for item in model.item_ids])[np.argsort(-by_group)[:10]]
    assert (best % 3 == 1).all()


def test_the_recipe_learns_how_much_a_profile_counts(first: tuple[Path, list[KindResult]]) -> None:
    folder, (_, result) = first
    recipe = ModelStore(str(folder / "models")).load_stored("recipe", "recipe-000001").recipe
    assert {"segments", "segments@1", "segments@10"} <= set(recipe.extras), result.reason
    assert sum(sum(recipe.extras[column]) for column in ("segments", "segments@1", "segments@10")) > 2.0


def test_the_next_round_needs_new_events(first: tuple[Path, list[KindResult]]) -> None:
    (again,) = round_of(first[0])
    assert again.action == "skipped" and "no event is newer" in again.reason


def test_profiles_that_say_nothing_serve_nobody_better(tmp_path: Path) -> None:
    events = arrivals()
    append(tmp_path, 0, len(events), events)
    write_profiles(tmp_path / "profiles", of_groups=False)
    (result,) = round_of(tmp_path)
    assert result.action == "refused" and "not better beyond chance" in result.reason


def test_without_profiles_nothing_is_trained(tmp_path: Path) -> None:
    events = arrivals()[:600]
    append(tmp_path, 0, len(events), events)
    (tmp_path / "profiles").write_bytes(b"")
    append_entries(tmp_path / "profiles", [(b"u1", encode(UserProfile(user_id="u1")))])
    (result,) = round_of(tmp_path)
    assert (result.action, result.version) == ("skipped", None) and "no user of the log has a profile with attributes" in result.reason
    assert ModelStore(str(tmp_path / "models")).kinds() == []
    assert "segments" not in TrainingJob.of(load_settings(trainer={"kinds": ["ials", "segments"]}), {}).trainer.kinds
    kept = TrainingJob.of(load_settings(trainer={"kinds": ["ials", "segments"]}), {}, None, tmp_path / "profiles")
    assert kept.trainer.kinds == ("ials", "segments")


def test_the_newest_profile_of_each_user_counts_and_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "profiles"
    path.write_bytes(b"")
    old, new = (UserProfile(user_id="u0", categorical_attributes={"group": value}) for value in ("0", "2"))
    append_entries(path, [(b"u0", encode(old)), (b"u1", encode(UserProfile(user_id="u1", numeric_attributes={"age": 3.0})))])
    append_entries(path, [(b"u0", encode(new)), (b"u1", b""), (b"u2", b'{"user_id": 7}'), (b"else", encode(new))])
    assert [key for key, _ in read_entries(path)] == [b"u0", b"u1", b"u0", b"u1", b"u2", b"else"]
    found = read_profiles(path, ["u1", "u0", "u2"])
    assert found.known.tolist() == [False, True, False]
    assert found.attributes[int(found.columns.keys[1, 0])] == ("categorical", "group", "2")
    assert isinstance(found.columns, ProfileColumns) and found.columns.keys.shape == (3, 1)




def test_the_gate_of_a_kind_that_reads_both_has_descriptions_and_profiles() -> None:
    users, items = np.array([3, 1, 1, 3], np.int32), np.array([0, 1, 0, 1], np.int32)
    nothing = np.zeros(4, np.int32)
    profiles = UserProfiles(ProfileColumns.of([None, Profile({"group": "1"}, {}, ()), None, None]), {})
    columns = TrainingColumns(
        users, items, np.ones(4, np.float32), np.arange(4), ["a", "b"], nothing, nothing.astype(np.int64), np.full(4, 7, np.int8),
        ItemDescriptions.of({0: ItemContent(["c"])}, ["a", "b"]), profiles,
    )  # fmt: skip
    part = _part(columns, np.array([False, False, True, True]))
    assert part.descriptions is columns.descriptions and part.types is not None and part.types.tolist() == [7] * 4
    assert part.user_profiles is not None and (part.user_profiles.keys[:, 0] != 0).tolist() == [True, False], "users 1 and 3 of the log"
