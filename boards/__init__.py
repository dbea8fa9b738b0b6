# SPDX-License-Identifier: Apache-2.0
"""Tops for real boards, and what they add to the adapter."""
