# SPDX-License-Identifier: Apache-2.0
"""How fast things are: what runs, how long it takes and what it could take."""
