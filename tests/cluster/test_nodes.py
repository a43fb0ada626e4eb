"""Nodes as sinfo lists them, and what waits for those that are away."""

import pytest

from undo_hpc.cluster.nodes import gpus_of, number_of, parse_nodes, wait_for_nodes
from undo_hpc.cluster.profile import StageProfile

CPU = "cpu*|up|{state}|32|128000|(null)"
GPU = "gpu|up|{state}|64|512000|gpu:h100:4(S:0-1)"


def nodes(*lines: tuple[str, str]) -> str:
    return "".join(line.format(state=state) + "\n" for line, state in lines)


@pytest.mark.parametrize(
    ("gres", "found"),
    [
        ("gpu:4", (4, "")),
        ("gpu:a100:8(S:0-1)", (8, "a100")),
        ("shard:16,gpu:3090:2", (2, "3090")),
        ("gpu:1g.10gb:7", (7, "1g.10gb")),
        ("(null)", (0, "")),
    ],
)
def test_gpus_of_a_node(gres: str, found: tuple[int, str]) -> None:
    assert gpus_of(gres) == found


def test_numbers_with_a_sign() -> None:
    assert (number_of("16+"), number_of("8000"), number_of("")) == (16, 8000, 0)


@pytest.mark.parametrize(
    ("state", "away"),
    [
        ("idle", False),
        ("mixed", False),
        ("allocated", False),
        ("completing", False),
        ("planned", False),
        ("idle~", False),  # switched off to save power: SLURM switches it on
        ("idle*", True),  # does not answer
        ("down", True),
        ("down*", True),
        ("drained", True),
        ("draining", True),
        ("maint", True),
        ("unknown", True),
    ],
)
def test_which_states_take_jobs(state: str, away: bool) -> None:
    assert [node.away for node in parse_nodes(nodes((CPU, state)))] == [away]


def test_of_a_closed_partition_every_node_is_away() -> None:
    (node,) = parse_nodes("CLUSTER: far\ncpu*|down|idle|32|128000|(null)\n")
    assert node.away and node.default and node.partition == "cpu"


def test_a_request_waits_for_nodes_that_have_what_it_asks_for_and_for_no_others() -> None:
    asked = StageProfile(partition="gpu", gpus_per_node=4, cpus_per_task=8, memory_gb=64)
    there = parse_nodes(nodes((CPU, "idle"), (GPU, "drained"), (GPU, "allocated")))
    assert wait_for_nodes(there, asked) == "1 of the 2 nodes that could are down, drained or closed"
    assert wait_for_nodes(parse_nodes(nodes((CPU, "idle"), (GPU, "allocated"))), asked) == ""
    for more in (
        {"gpus_per_node": 8},
        {"cpus_per_task": 65},
        {"cpus_per_task": 32, "tasks_per_node": 4},
        {"memory_gb": 501},
        {"nodes": 3},
        {"partition": "cpu"},
        {"partition": None},
    ):
        assert wait_for_nodes(there, asked.model_copy(update=more)) == "", more
    assert wait_for_nodes(there, asked.model_copy(update={"partition": "cpu,gpu", "nodes": 2}))


def test_without_a_partition_the_default_one_counts() -> None:
    there = parse_nodes(nodes((CPU, "down*"), (GPU, "idle")))
    assert wait_for_nodes(there, StageProfile(cpus_per_task=4)).startswith("1 of the 1 nodes")
