# SPDX-License-Identifier: Apache-2.0
"""Captions to features: tokenizers and frozen, pre-trained encoders."""
