"""Counting cores, in a made-up sysfs."""

import os
from pathlib import Path

import pytest

from engine.backends.cores import physical_cores


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four hyper-threads on two cores (0 with 2, 1 with 3), all of them ours."""
    for cpu in range(4):
        topology = tmp_path / "devices" / "system" / "cpu" / f"cpu{cpu}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{cpu % 2},{cpu % 2 + 2}\n")
    (tmp_path / "fs" / "cgroup" / "cpu").mkdir(parents=True)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    return tmp_path


def test_hyper_threads_are_counted_once(machine: Path) -> None:
    assert physical_cores(machine) == 2


def test_affinity_is_respected(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 2})
    assert physical_cores(machine) == 1


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 2), ("100000 100000", 1), ("50000 100000", 1), ("800000 100000", 2)]
)
def test_the_quota_of_a_container_is_respected(machine: Path, quota: str, cores: int) -> None:
    (machine / "fs" / "cgroup" / "cpu.max").write_text(quota)
    assert physical_cores(machine) == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", 2), ("150000", 1)])
def test_the_quota_of_an_old_container_is_respected(machine: Path, quota: str, cores: int) -> None:
    (machine / "fs" / "cgroup" / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (machine / "fs" / "cgroup" / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert physical_cores(machine) == cores


def test_without_a_topology_every_cpu_is_a_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)
    assert physical_cores(tmp_path) == 3


def test_a_system_that_does_not_say_leaves_the_choice_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert physical_cores() is None
