"""The folder of a language model is checked before anything of it is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.errors import SettingsError
from workers.settings import load_settings
from workers.trainer import text_encoder
from workers.trainer.text_encoder import TextModelError, check_folder, digest_of
from workers.trainer.training_settings import check_training


def model_folder(folder: Path) -> Path:
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "modules.json").write_text("[]")
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "1_Pooling" / "config.json").write_text("{}")
    return folder


def test_a_folder_with_safetensors_alone_may_be_loaded(tmp_path: Path) -> None:
    check_folder(model_folder(tmp_path / "model"))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "1_Pooling/dense.pt", "modeling_own.py", "head.PKL"])
def test_a_file_that_may_hold_code_is_refused_by_name(tmp_path: Path, name: str) -> None:
    folder = model_folder(tmp_path / "model")
    (folder / name).write_bytes(b"x")
    with pytest.raises(TextModelError, match=f"{Path(name).name} may hold code; remove it"):
        check_folder(folder)


@pytest.mark.parametrize("gone", ["modules.json", "model.safetensors"])
def test_a_folder_that_lacks_a_part_is_refused_with_a_remedy(tmp_path: Path, gone: str) -> None:
    folder = model_folder(tmp_path / "model")
    (folder / gone).unlink()
    with pytest.raises(TextModelError, match=f"no {gone}; "):
        check_folder(folder)
    with pytest.raises(TextModelError, match="no such folder; name the local folder"):
        check_folder(tmp_path / "gone")


def test_another_file_of_the_model_makes_another_digest(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    before = digest_of(folder)
    assert digest_of(folder) == before
    (folder / "1_Pooling" / "config.json").write_text("{ }")
    assert digest_of(folder) != before


def test_a_trainer_with_a_wrong_folder_ends_at_start_and_says_which_setting(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"setting content\.text_model: there is no such folder"):
        check_training(load_settings(content={"text_model": tmp_path / "gone"}))


def test_a_trainer_without_the_extra_ends_at_start_and_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_encoder, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="pip install 'recsys-stream\\[text\\]'"):
        check_training(load_settings(content={"text_model": model_folder(tmp_path / "model")}))
