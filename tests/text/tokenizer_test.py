# SPDX-License-Identifier: Apache-2.0
import json
import shutil
import sys

import numpy as np
import pytest

from lumiere_jax.errors import UserError
from lumiere_jax.text.tokenizer import (
  SentencePieceTokenizer,
  Tokenizer,
  load_tokenizer,
)


@pytest.fixture(params=["tokenizer.json", "spiece.model"])
def t5_folder(request, t5_maker, tmp_path):
  """A folder with one of the files that T5's tokenizers are kept in."""
  if request.param == "spiece.model":
    pytest.importorskip("sentencepiece")
  shutil.copy(t5_maker.FOLDER / request.param, tmp_path)
  return tmp_path


def test_rows_are_padded_and_cut_to_one_length(tokenizer_file):
  ids, mask = Tokenizer(tokenizer_file, max_tokens=7)(
    ["A dog spins", "", "a a a a a a cat", "ghost"]
  )
  assert ids.tolist() == [
    [2, 4, 5, 7, 8, 3, 0],
    [2, 3, 0, 0, 0, 0, 0],
    [2, 4, 4, 4, 4, 4, 3],  # [SEP] stays
    [2, 1, 3, 0, 0, 0, 0],
  ]
  assert ids.dtype == np.int32
  assert mask.dtype == np.bool_
  assert mask.sum(1).tolist() == [6, 2, 7, 3]
  np.testing.assert_array_equal(mask, ids != 0)


def test_knows_which_captions_are_cut(tokenizer_file):
  tokenizer = Tokenizer(tokenizer_file, max_tokens=7)
  assert not tokenizer.is_cut("a a a a a")
  assert tokenizer.is_cut("a a a a a a")


def test_no_captions_give_no_rows(tokenizer_file):
  ids, mask = Tokenizer(tokenizer_file, max_tokens=7)([])
  assert ids.shape == mask.shape == (0, 7)


def test_missing_file_is_one_line(tmp_path):
  with pytest.raises(UserError, match=r"cannot read tokenizer .*none\.json"):
    Tokenizer(tmp_path / "none.json", max_tokens=7)


def test_missing_padding_token_is_named(tokenizer_file):
  broken = json.loads(tokenizer_file.read_text())
  broken["model"]["vocab"]["[NOPE]"] = broken["model"]["vocab"].pop("[PAD]")
  broken["padding"] = None
  tokenizer_file.write_text(json.dumps(broken))
  with pytest.raises(UserError, match=r"has no token '\[PAD\]'"):
    Tokenizer(tokenizer_file, max_tokens=7)


def test_real_tokens_are_those_of_transformers(minilm, maker, reference):
  tokenizer = Tokenizer(minilm / "tokenizer.json", max_tokens=maker.MAX_TOKENS)
  ids, mask = tokenizer(maker.CAPTIONS)
  np.testing.assert_array_equal(ids, reference["minilm_ids"])
  np.testing.assert_array_equal(mask, reference["minilm_mask"])


def _check_rows(folder, maker, rows):
  ids, mask = load_tokenizer(folder, maker.MAX_TOKENS)(maker.CAPTIONS)
  np.testing.assert_array_equal(ids, rows["ids"])
  np.testing.assert_array_equal(mask, rows["mask"])
  assert (ids.dtype, mask.dtype) == (np.int32, np.bool_)


def test_t5_tokens_are_those_of_transformers(t5_folder, t5_maker, t5_reference):
  rows = {name: t5_reference[f"captions_{name}"] for name in ("ids", "mask")}
  _check_rows(t5_folder, t5_maker, rows)


@pytest.mark.filterwarnings("ignore")  # transformers' own
@pytest.mark.parametrize("stored", [True, False])
def test_t5_tokens_are_those_of_transformers_live(stored, t5_maker, tmp_path):
  pytest.importorskip("sentencepiece")
  pytest.importorskip("transformers")
  if stored:
    shutil.copy(t5_maker.FOLDER / "spiece.model", tmp_path)
  else:  # with all of T5's normalization, which is too big to store
    path = tmp_path / "spiece.model"
    t5_maker.train_pieces(path, t5_maker.T5_NORMALIZATION)
  tokenizer = t5_maker.tokenizer_reference(tmp_path)
  rows = t5_maker.rows(tokenizer, t5_maker.CAPTIONS)
  _check_rows(tmp_path, t5_maker, rows)
  tokenizer.save_pretrained(tmp_path)
  assert isinstance(load_tokenizer(tmp_path, 5), Tokenizer)
  _check_rows(tmp_path, t5_maker, rows)


def test_t5_rows_end_in_the_end_of_the_sentence(t5_folder, t5_maker):
  tokenizer = load_tokenizer(t5_folder, max_tokens=t5_maker.MAX_TOKENS)
  captions = ["", " a" * 3, t5_maker.FULL, t5_maker.FULL + " a", " a" * 400]
  ids, mask = tokenizer(captions)
  lengths = mask.sum(1)
  assert lengths.tolist() == [1, 4, 20, 20, 20]
  assert ids[range(5), lengths - 1].tolist() == [1] * 5
  assert (ids == 1).sum(1).tolist() == [1] * 5
  assert not ids[~mask].any()
  cut = [tokenizer.is_cut(caption) for caption in captions]
  assert cut == [False, False, False, True, True]
  assert tokenizer.max_tokens == t5_maker.MAX_TOKENS
  assert tokenizer([])[0].shape == (0, t5_maker.MAX_TOKENS)


def test_tokenizer_json_is_preferred(t5_maker, tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "sentencepiece", None)  # nor missed
  assert isinstance(load_tokenizer(t5_maker.FOLDER, 7), Tokenizer)


def test_folder_without_a_tokenizer_is_refused(tmp_path):
  message = r"no tokenizer\.json and no spiece\.model in "
  with pytest.raises(UserError, match=message):
    load_tokenizer(tmp_path, 7)


def test_missing_sentencepiece_is_named(t5_maker, monkeypatch):
  monkeypatch.setitem(sys.modules, "sentencepiece", None)
  with pytest.raises(UserError, match=r"run: pip install sentencepiece$"):
    SentencePieceTokenizer(t5_maker.FOLDER / "spiece.model", max_tokens=7)


def test_unreadable_pieces_are_one_line(tmp_path):
  pytest.importorskip("sentencepiece")
  (tmp_path / "spiece.model").write_text("version https://git-lfs")
  for name in ("spiece.model", "none.model"):
    with pytest.raises(UserError, match=f"cannot read tokenizer .*{name}"):
      SentencePieceTokenizer(tmp_path / name, max_tokens=7)


@pytest.mark.parametrize("token", ["pad", "eos"])
def test_pieces_without_a_special_token_are_refused(token, t5_maker, tmp_path):
  pytest.importorskip("sentencepiece")
  path = tmp_path / "spiece.model"
  t5_maker.train_pieces(path, {f"{token}_id": -1})
  name = {"pad": "<pad>", "eos": "</s>"}[token]
  with pytest.raises(UserError, match=f"has no token '{name}'"):
    SentencePieceTokenizer(path, max_tokens=7)
