# SPDX-License-Identifier: Apache-2.0
"""Every rule of the configuration, on the exact message; the sizes that are derived from it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from mvxl.config import CONFIGS, AdapterConfig


def refused(**parameters: Any) -> str:
    """The message with which a configuration is refused for its values."""
    with pytest.raises(ValueError) as told:
        AdapterConfig(**parameters)
    return str(told.value)


def refused_kind(**parameters: Any) -> str:
    """The message with which a configuration is refused for the kind of a value."""
    with pytest.raises(TypeError) as told:
        AdapterConfig(**parameters)
    return str(told.value)


INTEGERS = [field.name for field in dataclasses.fields(AdapterConfig) if field.type == "int"]
BOOLS = [field.name for field in dataclasses.fields(AdapterConfig) if field.type == "bool"]


def test_every_parameter_has_a_kind() -> None:
    assert len(INTEGERS) + len(BOOLS) == len(dataclasses.fields(AdapterConfig)) == 16


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("value", [True, 4.0, "4", None])
def test_wrong_kind_for_integer(name: str, value: object) -> None:
    assert refused_kind(**{name: value}) == f"{name} must be an integer, not {value!r}"


@pytest.mark.parametrize("name", BOOLS)
@pytest.mark.parametrize("value", [1, "yes", None])
def test_wrong_kind_for_bool(name: str, value: object) -> None:
    assert refused_kind(**{name: value}) == f"{name} must be a bool, not {value!r}"


def test_only_keywords() -> None:
    with pytest.raises(TypeError):
        AdapterConfig(4)  # type: ignore[misc]


def test_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        AdapterConfig().partitions = 2  # type: ignore[misc]


@pytest.mark.parametrize("value", [0, 33])
def test_wrong_partitions(value: int) -> None:
    assert refused(partitions=value) == f"partitions must be between 1 and 32, not {value}"


@pytest.mark.parametrize("value", [0, 1, 3, 65_535, 131_072])
def test_wrong_entries(value: int) -> None:
    assert refused(entries=value) == (
        f"entries must be a power of two between 2 and 65536, not {value}")


@pytest.mark.parametrize("value", [16, 48, 1024])
def test_wrong_data_bits(value: int) -> None:
    assert refused(data_bits=value) == (
        f"data_bits must be one of 32, 64, 128, 256, 512, not {value}")


@pytest.mark.parametrize("value", [31, 65])
def test_wrong_address_bits(value: int) -> None:
    assert refused(address_bits=value) == f"address_bits must be between 32 and 64, not {value}"


@pytest.mark.parametrize("value", [2048, 8192, 131_072])
def test_wrong_page_bytes(value: int) -> None:
    assert refused(page_bytes=value) == (
        f"page_bytes must be one of 4096, 16384, 65536, not {value}")


@pytest.mark.parametrize("value", [1, 48, 512])
def test_wrong_burst_beats(value: int) -> None:
    assert refused(burst_beats=value) == (
        f"burst_beats must be a power of two between 2 and 256, not {value}")


def test_wrong_block_bytes() -> None:
    assert refused(burst_beats=128, data_bits=512, data_queue_beats=1024) == (
        "burst_beats × data_bits / 8 must be at most 4096 bytes "
        "(a burst must not cross a 4 KiB boundary), not 8192")


def test_block_of_exactly_4_kib() -> None:
    assert AdapterConfig(burst_beats=64, data_bits=512).block_bytes == 4096


@pytest.mark.parametrize("name", ["reads_in_flight", "writes_in_flight"])
@pytest.mark.parametrize("value", [1, 12, 512])
def test_wrong_bursts_in_flight(name: str, value: int) -> None:
    assert refused(**{name: value}) == (
        f"{name} must be a power of two between 2 and 256, not {value}")


@pytest.mark.parametrize("value", [2, 12, 512])
def test_wrong_messages_in_flight(value: int) -> None:
    assert refused(messages_in_flight=value) == (
        f"messages_in_flight must be a power of two between 4 and 256, not {value}")


@pytest.mark.parametrize("value", [1, 12, 128])
def test_wrong_command_queue_depth(value: int) -> None:
    assert refused(command_queue_depth=value) == (
        f"command_queue_depth must be a power of two between 2 and 64, not {value}")


@pytest.mark.parametrize("value", [0, 65])
def test_wrong_notification_slots(value: int) -> None:
    assert refused(notification_slots=value) == (
        f"notification_slots must be between 1 and 64, not {value}")


@pytest.mark.parametrize("value", [2, 384, 8192])
def test_wrong_data_queue_beats(value: int) -> None:
    assert refused(data_queue_beats=value) == (
        f"data_queue_beats must be a power of two between 4 and 4096, not {value}")


def test_wrong_data_queue_for_bursts() -> None:
    assert refused(burst_beats=64, data_queue_beats=128) == (
        "data_queue_beats must be at least 4 × burst_beats = 256, not 128")
    assert AdapterConfig(burst_beats=64, data_queue_beats=256).data_queue_beats == 256


@pytest.mark.parametrize("value", [-1, 16])
def test_wrong_cache(value: int) -> None:
    assert refused(cache=value) == f"cache must be between 0 and 15, not {value}"


@pytest.mark.parametrize("value", [-1, 8])
def test_wrong_prot(value: int) -> None:
    assert refused(prot=value) == f"prot must be between 0 and 7, not {value}"


def test_edges_of_every_range() -> None:
    """The smallest and the largest value of each parameter are taken."""
    smallest = {"partitions": 1, "entries": 2, "data_bits": 32, "address_bits": 32,
                "page_bytes": 4096, "burst_beats": 2, "reads_in_flight": 2, "writes_in_flight": 2,
                "messages_in_flight": 4, "command_queue_depth": 2, "notification_slots": 1,
                "cache": 0, "prot": 0}
    largest = {"partitions": 32, "entries": 65_536, "data_bits": 512, "address_bits": 64,
               "page_bytes": 65_536, "reads_in_flight": 256, "writes_in_flight": 256,
               "messages_in_flight": 256, "command_queue_depth": 64, "notification_slots": 64,
               "data_queue_beats": 4096, "cache": 15, "prot": 7}
    for name, value in [*smallest.items(), *largest.items()]:
        assert getattr(AdapterConfig(**{name: value}), name) == value
    assert AdapterConfig(burst_beats=256, data_bits=32, data_queue_beats=1024).burst_beats == 256


def test_named() -> None:
    assert AdapterConfig.named("default") == AdapterConfig()
    assert {name: AdapterConfig.named(name) for name in CONFIGS} == CONFIGS
    assert list(CONFIGS) == ["tiny", "default", "large"]


def test_named_as_promised() -> None:
    def sizes(name: str) -> tuple[int, ...]:
        config = AdapterConfig.named(name)
        return config.partitions, config.entries, config.data_bits, config.address_bits

    assert sizes("tiny") == (2, 4, 32, 32)
    assert sizes("default") == (4, 16, 64, 32)
    assert sizes("large") == (16, 1024, 128, 40)
    default = AdapterConfig()
    assert (default.reads_in_flight, default.writes_in_flight,
            default.messages_in_flight) == (16, 32, 32)


def test_wrong_name() -> None:
    with pytest.raises(ValueError) as told:
        AdapterConfig.named("huge")
    assert str(told.value) == "configuration must be one of tiny, default, large, not 'huge'"


def test_derived_sizes() -> None:
    config = AdapterConfig()
    assert (config.data_bytes, config.size_log2) == (8, 3)
    assert (config.block_bytes, config.block_log2) == (512, 9)
    assert (config.partition_bits, config.id_bits, config.base_bits) == (2, 4, 26)
    assert (config.page_log2, config.manager_page) == (12, 4)
    assert config.register_address_bits == 15
    assert config.message_count_bits == 6
    assert config.user_bits == 3
    assert (config.manager, config.agents) == (4, 5)
    assert config.event_slots >= config.messages_in_flight + 4 * config.notification_slots
    assert config.event_slots & (config.event_slots - 1) == 0


@pytest.mark.parametrize(("partitions", "page", "bits"), [
    (1, 1, 12 + 1), (2, 2, 12 + 2), (3, 4, 12 + 3), (4, 4, 12 + 3), (5, 8, 12 + 4),
    (32, 32, 12 + 6),
])
def test_manager_page_is_behind_the_partitions(partitions: int, page: int, bits: int) -> None:
    config = AdapterConfig(partitions=partitions)
    assert config.manager_page == page >= partitions
    assert config.register_address_bits == bits
    assert (page + 1) * config.page_bytes <= 1 << bits


@pytest.mark.parametrize(("partitions", "manager"), [(1, 2), (2, 2), (3, 4), (5, 8), (32, 32)])
def test_the_manager_is_an_agent_of_its_own(partitions: int, manager: int) -> None:
    """No partition has its number, and it is the highest bit of AxUSER alone."""
    config = AdapterConfig(partitions=partitions)
    assert config.manager == manager >= partitions
    assert config.manager == 1 << (config.user_bits - 1)
    assert config.agents == manager + 1


def test_describe() -> None:
    described = AdapterConfig.named("tiny").describe()
    assert AdapterConfig(**described) == AdapterConfig.named("tiny")
