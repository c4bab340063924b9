"""Servers in every topology, once per test process; those that tests kill are started again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from topology import PLACES, Alone, Clustered, Watched


def _place(kind: str, directories: pytest.TempPathFactory) -> Iterator[Alone]:
    place = PLACES[kind](directories.mktemp(kind))
    yield place
    place.close()


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alone]:
    yield from _place("redis", tmp_path_factory)


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alone]:
    yield from _place("valkey", tmp_path_factory)


@pytest.fixture(scope="session")
def sentinel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alone]:
    yield from _place("sentinel", tmp_path_factory)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alone]:
    yield from _place("cluster", tmp_path_factory)


@pytest.fixture
def watched(sentinel: Alone) -> Watched:
    """Return the servers under Sentinel, all of them running."""
    assert isinstance(sentinel, Watched)
    sentinel.heal()
    return sentinel


@pytest.fixture
def clustered(cluster: Alone) -> Clustered:
    """Return the cluster, all of it running."""
    assert isinstance(cluster, Clustered)
    cluster.heal()
    return cluster
