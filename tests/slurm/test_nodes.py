"""A teacher over two nodes: vLLM's own launch over a network, here with its CPU build, one worker a node and a pipeline of two."""

from collections.abc import Callable

import pytest

from tests.slurm.small import Campaign
from tests.slurmlab import Lab
from tests.slurmlab.processes import command_of, job_processes, wait_until
from undo_hpc.engines.vllm_engine import is_installed
from undo_hpc.storage.atomic import read_json

Make = Callable[..., Campaign]


@pytest.mark.vllm
@pytest.mark.skipif(not is_installed(), reason="vLLM is not installed")
def test_a_shard_is_written_by_one_vllm_on_two_nodes(lab: Lab, campaign: Make) -> None:
    small = campaign(
        until="generate",
        data__train={"tiny": "train", "sample": 16},
        generate__shards=1,
        generate__engine={"name": "vllm", "vllm": {"max_num_seqs": 8}},
    )
    small.profile["stages"] = {"generate": {"nodes": 2}}
    small.launch()
    lab.wait_empty(900)
    at = small.run_dir / "iter_000"
    path = at / "generate" / "shard-00000.manifest.json"
    assert path.exists(), small.logs(60)
    manifest = read_json(path)
    assert manifest["counts"]["rows"] == 10 and manifest["counts"]["new_tokens"] > 0
    (log,) = (at / "logs").glob("generate-*.log")
    assert "vLLM over 2 nodes" in log.read_text()
    arguments = manifest["details"]["engine"]["arguments"]
    assert (arguments["nnodes"], arguments["pipeline_parallel_size"]) == (2, 2)
    starts = [event for event in small.events("generate") if event["kind"] == "start"]
    assert len(starts) == 1 and starts[0]["nodes"] == 2
    wait_until(
        lambda: not [pid for pid in job_processes(lab.slurm_conf) if "vllm" in command_of(pid)],
        60,
        "the workers of both nodes to be gone",
    )
