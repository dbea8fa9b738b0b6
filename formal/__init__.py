# SPDX-License-Identifier: Apache-2.0
"""Formal verification: specifications, checkers and the runner of their SymbiYosys jobs."""
