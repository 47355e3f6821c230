"""The demo's data are checked by content, whichever source they came from, and nothing else is taken out of an archive."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from workers.demo import movielens
from workers.demo.movielens import Movie, Ratings, fetch_ml100k, load_ml100k
from workers.errors import Fatal, Transient

INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n2\t1\t4\t30\n1\t2\t5\t10\n1\t1\t3\t30\n"


def archive(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set of three ratings in the place of the real one, and no network."""
    small_ratings = movielens._parse_ratings(INTER.partition("\n")[2])
    monkeypatch.setattr(movielens, "RATINGS_SHA256", movielens._sha256(movielens._lines(small_ratings).encode()))

    def away() -> None:
        raise OSError("no network")

    def wheel() -> tuple[Ratings, list[Movie], str, str]:
        movies = [Movie(1, "The Usual Suspects", 1995, ("Crime", "Thriller")), Movie(2, "X", None, ())]
        return small_ratings, movies, movielens.LICENCE, "0" * 64

    monkeypatch.setattr(movielens, "_from_official_site", away)
    monkeypatch.setattr(movielens, "_from_wheel", wheel)


@pytest.mark.usefixtures("small")
def test_what_was_fetched_is_loaded_in_time_order_and_the_licence_is_shown(tmp_path: Path) -> None:
    said: list[str] = []
    folder = fetch_ml100k(tmp_path, say=said.append)
    ratings, movies = load_ml100k(folder)
    assert (ratings.user.tolist(), ratings.item.tolist(), ratings.ts_s.tolist()) == ([1, 1, 2], [2, 1, 1], [10, 30, 30])
    assert ratings.rating.dtype == np.float32 and movies[0] == Movie(1, "The Usual Suspects", 1995, ("Crime", "Thriller"))
    assert any("Harper" in text for text in said)
    again: list[str] = []
    assert fetch_ml100k(tmp_path, say=again.append) == folder and any("Harper" in text for text in again)


@pytest.mark.usefixtures("small")
def test_changed_ratings_are_refused(tmp_path: Path) -> None:
    folder = fetch_ml100k(tmp_path)
    file = folder / "ratings.tsv"
    file.write_text(file.read_text().replace("\t5\t", "\t4\t"))
    with pytest.raises(Fatal, match="sha256"):
        load_ml100k(folder)
    file.write_text("<html>")
    with pytest.raises(Fatal, match="remove the folder"):
        load_ml100k(folder)


def test_without_any_source_the_reasons_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise OSError("no network")

    monkeypatch.setattr(movielens, "_from_official_site", away)
    monkeypatch.setattr(movielens, "_from_wheel", away)
    with pytest.raises(Transient, match=r"official site: OSError; the recbole") as refused:
        fetch_ml100k(tmp_path)
    assert "\n" not in str(refused.value) and not (tmp_path / "ml-100k").exists()


def test_only_wanted_members_within_their_caps_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    content = archive({"a/u.data": b"1", "../../evil": b"x"})
    assert movielens._members(content, {"ratings": "a/u.data"}) == {"ratings": b"1"}
    with pytest.raises(KeyError):
        movielens._members(content, {"ratings": "b"})
    monkeypatch.setattr(movielens, "MAX_MEMBER_BYTES", 10)
    with pytest.raises(Transient, match="larger"):
        movielens._members(archive({"a": b"0" * 11}), {"ratings": "a"})


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Toy Story (1995)", ("Toy Story", 1995)),
        ("Usual Suspects, The (1995)", ("The Usual Suspects", 1995)),
        ("Shanghai Triad (Yao a yao) (1995)", ("Shanghai Triad (Yao a yao)", 1995)),
        ("unknown", ("unknown", None)),
    ],
)
def test_titles_read_as_people_write_them(raw: str, expected: tuple[str, int | None]) -> None:
    assert movielens._split_year(raw) == expected
