# SPDX-License-Identifier: Apache-2.0
"""Scores of sets of clips, from features of any network."""
