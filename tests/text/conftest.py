# SPDX-License-Identifier: Apache-2.0
import pathlib

import numpy as np
import pytest
import tokenizers

from tests import scripts

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures"


@pytest.fixture(scope="session")
def maker():
  """The script that made bert.npz."""
  return scripts.load("tests/fixtures/make_bert_fixtures.py")


@pytest.fixture(scope="session")
def t5_maker():
  """The script that made t5.npz and the folder t5."""
  return scripts.load("tests/fixtures/make_t5_fixtures.py")


@pytest.fixture(scope="session")
def reference(maker):
  """What transformers computed, by name."""
  return dict(np.load(maker.PATH))


@pytest.fixture(scope="session")
def t5_reference(t5_maker):
  """The same of T5."""
  return dict(np.load(t5_maker.PATH))


@pytest.fixture
def tokenizer_file(tmp_path):
  """A tokenizer.json of a few words that wants 6 tokens, padded to 9."""
  words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "dog", "cat", "spin", "##s"]
  vocab = {word: index for index, word in enumerate(words)}
  tokenizer = tokenizers.Tokenizer(
    tokenizers.models.WordPiece(vocab, unk_token="[UNK]")
  )
  tokenizer.normalizer = tokenizers.normalizers.BertNormalizer()
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
  tokenizer.post_processor = tokenizers.processors.BertProcessing(
    ("[SEP]", 3), ("[CLS]", 2)
  )
  tokenizer.enable_truncation(6)
  tokenizer.enable_padding(length=9)
  path = tmp_path / "tokenizer.json"
  tokenizer.save(str(path))
  return path
