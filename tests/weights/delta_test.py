# SPDX-License-Identifier: Apache-2.0
"""Weights told as a difference come back, to the rounding of float16."""

import numpy as np
import pytest

from lumiere_jax import export_weights, trees
from lumiere_jax.errors import UserError
from lumiere_jax.weights import folder
from lumiere_jax.weights.delta import compress, expand

RNG = np.random.default_rng(0)
BASE = {
  "a/kernel": RNG.normal(size=(3, 3, 8, 16)).astype(np.float32),
  "a/bias": RNG.normal(size=16).astype(np.float32),
  "b/kernel": RNG.normal(size=(4, 4)).astype(np.float32),
}


def changed(rank):
  """The base and a difference of this rank to its largest kernel."""
  factors = RNG.normal(size=(72, rank)) @ RNG.normal(size=(rank, 16))
  kernel = BASE["a/kernel"] + factors.reshape(3, 3, 8, 16) / 100
  return BASE | {"a/kernel": kernel.astype(np.float32)}


def error(leaves, wanted, path="a/kernel"):
  difference = np.abs(leaves[path] - wanted[path]).max()
  return difference / np.abs(wanted[path] - BASE[path]).max()


def test_only_what_changed_is_stored():
  new = changed(3) | {"c/bias": np.ones(2, np.float32)}
  new["b/kernel"] = np.ones((6, 4), np.float32)
  tensors = compress(new, BASE, None)
  assert set(tensors) == {"a/kernel@delta", "b/kernel@new", "c/bias@new"}
  leaves = expand(tensors, BASE)
  assert set(leaves) == set(new)
  for path, leaf in new.items():
    np.testing.assert_allclose(leaves[path], leaf, atol=1e-6)


def test_low_rank_is_exact_where_it_suffices_and_close_below():
  new = changed(3)
  errors = [error(expand(compress(new, BASE, r), BASE), new) for r in (1, 3, 5)]
  assert errors[0] > 0.1 > 1e-4 > errors[1]
  assert errors[2] < 1e-4
  tensors = compress(new, BASE, 3)
  assert sum(t.size for t in tensors.values()) == 3 * (72 + 16)
  # Two factors would be larger than the difference: it stays whole.
  assert set(compress(new, BASE, 15)) == {"a/kernel@delta"}


def test_products_are_added_in_one_order_on_every_machine():
  """Or the fingerprint of shipped weights would not be that of others."""
  down, up = (
    RNG.normal(size=shape).astype(np.float32) for shape in ((72, 9), (9, 16))
  )
  base = {"kernel": np.zeros((72, 16), np.float32)}
  leaves = expand({"kernel@down": down, "kernel@up": up}, base)
  terms = [np.outer(down[:, i], up[i]) for i in range(9)]
  want = np.add.accumulate(np.stack(terms), dtype=np.float32)[-1]
  np.testing.assert_array_equal(leaves["kernel"], want)


def test_folders_of_differences_load_as_any_other(tmp_path):
  new = trees.unflatten(changed(3))
  folder.save(tmp_path / "base", trees.unflatten(BASE), {"name": "b"}, "MIT")
  info = folder.save_delta(
    tmp_path / "d", new, str(tmp_path / "base"), {"name": "d"}, "MIT", rank=3
  )
  params, config, loaded = folder.load(tmp_path / "d")
  assert (config, loaded) == ({"name": "d"}, info)
  leaves = trees.flatten(params)
  assert error(leaves, trees.flatten(new)) < 2e-3
  np.testing.assert_array_equal(leaves["a/bias"], BASE["a/bias"])


def test_what_only_the_base_has_is_left_out(tmp_path):
  folder.save(tmp_path / "base", trees.unflatten(BASE), {}, "MIT")
  part = trees.unflatten({"a/kernel": changed(2)["a/kernel"]})
  folder.save_delta(tmp_path / "d", part, str(tmp_path / "base"), {}, "MIT")
  params, _, _ = folder.load(tmp_path / "d")
  assert set(trees.flatten(params)) == {"a/kernel"}
  assert error(trees.flatten(params), trees.flatten(part)) < 2e-3


def test_another_base_is_refused(tmp_path):
  for name, scale in (("base", 1.0), ("other", 2.0)):
    tree = trees.unflatten({k: v * scale for k, v in BASE.items()})
    folder.save(tmp_path / name, tree, {}, "MIT")
  new = trees.unflatten(changed(1))
  folder.save_delta(tmp_path / "d", new, str(tmp_path / "base"), {}, "MIT")
  (tmp_path / "base").rename(tmp_path / "gone")
  with pytest.raises(UserError, match="no weights in"):
    folder.load(tmp_path / "d")
  (tmp_path / "other").rename(tmp_path / "base")
  with pytest.raises(UserError, match="are a difference to"):
    folder.load(tmp_path / "d")


def test_what_does_not_fit_is_named():
  with pytest.raises(UserError, match="'x@delta' is to nothing"):
    expand({"x@delta": np.ones(2)}, BASE)
  base = {"k": np.zeros((3, 4)), "b": np.zeros(4)}
  with pytest.raises(UserError, match=r"'k@down' lacks 'k@up'"):
    expand({"k@down": np.ones((3, 2))}, base)
  for down, up in (((3, 2), (1, 4)), ((3, 2), (2, 5)), ((2, 2), (2, 4))):
    with pytest.raises(UserError, match=r"factors of .* its base has shape"):
      expand({"k@down": np.ones(down), "k@up": np.ones(up)}, base)
  # NumPy would spread it over the base.
  with pytest.raises(UserError, match=r"has shape \(1,\), its base has \(4,\)"):
    expand({"b@delta": np.ones(1)}, base)


def test_program_writes_a_delta_and_tells_what_is_lost(tmp_path, capsys):
  folder.save(tmp_path / "base", trees.unflatten(BASE), {}, "MIT")
  folder.save(tmp_path / "new", trees.unflatten(changed(4)), {}, "MIT")
  base, src = f"--base={tmp_path / 'base'}", f"--src={tmp_path / 'new'}"
  run = export_weights.main
  run(["--to=delta", src, base, f"--out={tmp_path / 'whole'}"])
  assert "lost of the difference: 0.0%" in capsys.readouterr().out
  run(["--to=delta", src, base, "--rank=2", f"--out={tmp_path / 'low'}"])
  share = float(capsys.readouterr().out.split("difference: ")[1].split("%")[0])
  assert 10 < share < 90
  with pytest.raises(UserError, match="needs --base"):
    run(["--to=delta", src, f"--out={tmp_path / 'no'}"])
  with pytest.raises(UserError, match="--rank=0 must be at least 1"):
    run(["--to=delta", src, base, "--rank=0", f"--out={tmp_path / 'no'}"])
  assert not (tmp_path / "no").exists()
