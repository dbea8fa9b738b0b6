# SPDX-License-Identifier: Apache-2.0
"""A table in block RAM is empty before the adapter says that it is ready."""

from __future__ import annotations

import pytest

from mvxl.config import CONFIGS, AdapterConfig
from mvxl.memory import LUT_ROWS
from sim.bench import simulator
from sim.build import run


#: `large`, and `default` with as many entries. The registers of 16 partitions are more than those.
@pytest.mark.parametrize(("config", "table_is_last"), [
    (CONFIGS["large"], False), (AdapterConfig(entries=1024), True)], ids=("large", "default"))
def test_no_row_survives_a_reset(config: AdapterConfig, table_is_last: bool) -> None:
    assert config.entries > LUT_ROWS
    done = run(simulator(config), "tb.tb_scrub",
               parameters={"config": config.describe(), "table_is_last": table_is_last},
               plusargs=["+memory_log=log.bin"])
    assert [outcome.message for outcome in done.outcomes] == [""]
