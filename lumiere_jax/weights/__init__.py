# SPDX-License-Identifier: Apache-2.0
"""Weights on disk: our own folder, and rules that read foreign formats.

Nothing here knows a model: trees are filled by the abstract tree that
`jax.eval_shape` gives of a model's parameters.
"""
