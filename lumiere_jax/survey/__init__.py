# SPDX-License-Identifier: Apache-2.0
"""Asking people which of two clips they prefer."""
