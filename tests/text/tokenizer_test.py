# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest

from lumiere_jax.errors import UserError
from lumiere_jax.text.tokenizer import Tokenizer


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
