# SPDX-License-Identifier: Apache-2.0
"""Layers: parts of the network that know nothing of the whole."""
