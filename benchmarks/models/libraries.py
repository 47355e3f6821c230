"""Other libraries on the same split. This file runs by itself, in a Python that has the library, and imports nothing of this project.

`python libraries.py LIBRARY TRAIN.npz SCORES.npy SEED`: TRAIN holds `indptr` (U+1,), `items` (n,), each user's items in order of time, and
`n_items`. SCORES gets the scores of all items for all users, (U, I) float32. The last line of the output is JSON: version, model,
train_cpu_s, peak_mb. Each library trains with its own defaults, unless `model` says another value; one thread.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy import sparse

Run = tuple[np.ndarray, float, str]
"""Scores (U, I), processor seconds of training, and what was trained."""

os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")


def run_implicit(matrix: sparse.csr_matrix, seed: int) -> Run:
    from implicit.als import AlternatingLeastSquares

    model = AlternatingLeastSquares(factors=64, random_state=seed, num_threads=1)
    began = time.process_time()
    model.fit(matrix, show_progress=False)
    return np.asarray(model.user_factors) @ np.asarray(model.item_factors).T, time.process_time() - began, "ALS, 64 factors"


def run_lightfm(matrix: sparse.csr_matrix, seed: int) -> Run:
    from lightfm import LightFM

    model = LightFM(no_components=64, loss="warp", random_state=seed)
    began = time.process_time()
    model.fit(matrix.tocoo(), epochs=30, num_threads=1)
    took = time.process_time() - began
    biases, vectors = model.get_item_representations()
    return model.get_user_representations()[1] @ vectors.T + biases, took, "WARP, 64 components, 30 epochs"


def run_surprise(matrix: sparse.csr_matrix, seed: int) -> Run:
    import pandas
    from surprise import SVD, Dataset, Reader

    chance = np.random.default_rng(seed)
    users, items = matrix.nonzero()
    others = chance.integers(0, matrix.shape[1], len(items))
    frame = pandas.DataFrame(
        {"user": np.concatenate((users, users)), "item": np.concatenate((items, others)), "rating": np.repeat([1.0, 0.0], len(items))}
    ).drop_duplicates(["user", "item"])
    train = Dataset.load_from_df(frame, Reader(rating_scale=(0, 1))).build_full_trainset()
    model = SVD(random_state=seed)
    began = time.process_time()
    model.fit(train)
    took = time.process_time() - began
    scores = np.full(matrix.shape, -np.inf, np.float32)
    rows, columns = [train.to_raw_uid(at) for at in range(train.n_users)], [train.to_raw_iid(at) for at in range(train.n_items)]
    scores[np.ix_(rows, columns)] = model.bu[:, None] + model.bi + model.pu @ model.qi.T
    return scores, took, "SVD of ratings: 1, and 0 of as many random items"


def run_lenskit(matrix: sparse.csr_matrix, seed: int) -> Run:
    import pandas
    from lenskit.als import ImplicitMFScorer
    from lenskit.data import from_interactions_df
    from lenskit.training import TrainingOptions

    users, items = matrix.nonzero()
    data = from_interactions_df(pandas.DataFrame({"user_id": users, "item_id": items}))
    model = ImplicitMFScorer(embedding_size=64)
    began = time.process_time()
    model.train(data, TrainingOptions(rng=seed))
    took = time.process_time() - began
    scores = np.full(matrix.shape, -np.inf, np.float32)
    vectors = np.asarray(model.user_embeddings) @ np.asarray(model.item_embeddings).T
    scores[np.ix_(np.asarray(data.users.ids()), np.asarray(data.items.ids()))] = vectors
    return scores, took, "implicit MF, 64 factors"


def run_rectools(matrix: sparse.csr_matrix, seed: int) -> Run:
    import pandas
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.models import EASEModel

    users, items = matrix.nonzero()
    when = pandas.Timestamp("2000-01-01")
    frame = pandas.DataFrame({Columns.User: users, Columns.Item: items, Columns.Weight: 1.0, Columns.Datetime: when})
    data, model = Dataset.construct(frame), EASEModel()
    began = time.process_time()
    model.fit(data)
    took = time.process_time() - began
    scores = np.full(matrix.shape, -np.inf, np.float32)
    for first in range(0, matrix.shape[0], 500):
        some = np.arange(first, min(first + 500, matrix.shape[0]))
        found = model.recommend(some, dataset=data, k=matrix.shape[1], filter_viewed=False)
        scores[found[Columns.User], found[Columns.Item]] = found[Columns.Score]
    return scores, took, "EASE"


def run_recbole(matrix: sparse.csr_matrix, seed: int) -> Run:
    import pandas
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, init_seed
    from recbole.utils.case_study import full_sort_scores

    users, items = matrix.nonzero()
    frame = pandas.DataFrame({"user_id:token": users, "item_id:token": items})
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("split").mkdir()
        last = frame.drop_duplicates("user_id:token", keep="last")  # the library wants something to judge; nothing is judged here
        for part, rows in (("train", frame), ("valid", last), ("test", last)):
            rows.to_csv(f"split/split.{part}.inter", sep="\t", index=False)
        options = {
            "data_path": folder,
            "benchmark_filename": ["train", "valid", "test"],
            "load_col": {"inter": ["user_id", "item_id"]},
            "seed": seed,
            "state": "ERROR",
            "eval_args": {"mode": "full", "order": "RO", "group_by": "user"},
            "repeatable": True,
        }
        sys.argv = sys.argv[:1]
        config = Config(model="EASE", dataset="split", config_dict=options)
        init_seed(seed, True)
        data = create_dataset(config)
        train, _, test = data_preparation(config, data)
        began = time.process_time()
        model = get_model("EASE")(config, train.dataset)
        took = time.process_time() - began
        rows = data.token2id("user_id", [str(user) for user in range(matrix.shape[0])])
        columns = [int(token) for token in data.id2token("item_id", np.arange(1, data.item_num))]
        scores = np.full(matrix.shape, -np.inf, np.float32)
        for first in range(0, len(rows), 500):
            found = np.asarray(full_sort_scores(np.asarray(rows[first : first + 500]), model, test))
            scores[first : first + 500, columns] = found[:, 1:]
    return scores, took, "EASE"


PACKAGES = {
    "implicit": "implicit",
    "LightFM": "lightfm-next",
    "Surprise": "scikit-surprise",
    "LensKit": "lenskit",
    "RecTools": "rectools",
    "RecBole": "recbole",
}
"""Libraries ▸ the package that installs each. LightFM itself does not build on current Pythons; lightfm-next is its fork."""
RUNS = {
    "implicit": run_implicit,
    "LightFM": run_lightfm,
    "Surprise": run_surprise,
    "LensKit": run_lenskit,
    "RecTools": run_rectools,
    "RecBole": run_recbole,
}


def main() -> None:
    name, train, out, seed = sys.argv[1], np.load(sys.argv[2]), Path(sys.argv[3]).resolve(), int(sys.argv[4])
    indptr, items, n_items = train["indptr"], train["items"], int(train["n_items"])
    matrix = sparse.csr_matrix((np.ones(len(items), np.float32), items, indptr), shape=(len(indptr) - 1, n_items))
    scores, train_s, model = RUNS[name](matrix, seed)
    np.save(out, np.asarray(scores, np.float32))
    peak_mb = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)
    version = importlib.metadata.version(PACKAGES[name])
    print(json.dumps({"version": version, "model": model, "train_cpu_s": round(train_s, 3), "peak_mb": peak_mb}))


if __name__ == "__main__":
    main()
