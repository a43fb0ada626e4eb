"""Whether compute nodes see a folder, and what a proposed profile says; from texts that SLURM and Linux print."""

from pathlib import Path

import pytest
import yaml

from undo_hpc.cluster.limits import federated_cluster, parse_config
from undo_hpc.cluster.profile import Profile
from undo_hpc.cluster.propose import parse_partitions, render
from undo_hpc.cluster.shared import check_shared, file_system, other_hosts
from undo_hpc.doctor.machine import mount_of

MOUNTS = """22 1 254:0 / / rw,relatime - ext4 /dev/root rw
30 22 0:26 / /home rw shared:5 - nfs4 server:/home rw
31 22 0:27 / /scratch\\040space rw - lustre mgs@tcp:/scratch rw
32 30 0:28 / /home/me/local rw - tmpfs tmpfs rw
"""
SINFO = """gpu*|up|2-00:00:00|12|64|512000|gpu:a100:4(S:0-1)
gpu*|up|2-00:00:00|2|32|256000|gpu:v100:2
cpu|up|infinite|40|128|256000|(null)
old|down|1:00:00|3|8|16000|(null)
"""
CONFIG = "MaxArraySize            = 10001\nKillWait                = 30 sec\nJobRequeue              = 0\nPreemptType = preempt/none\nPreemptMode = OFF\n"


def test_the_innermost_mount_counts() -> None:
    assert file_system(Path("/home/me/runs"), MOUNTS) == ("nfs4", "/home")
    assert file_system(Path("/home/me/local/run"), MOUNTS)[0] == "tmpfs"
    assert file_system(Path("/scratch space/x"), MOUNTS)[0] == "lustre"
    assert file_system(Path("/homestead"), MOUNTS)[0] == "ext4"


def test_a_mount_of_another_user_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = tmp_path / "mountinfo"
    listed.write_bytes(MOUNTS.encode() + b"40 22 0:30 / /mnt/r\xe9sum\xe9 rw - fuse.sshfs x rw\n")
    monkeypatch.setattr("undo_hpc.cluster.shared.MOUNTS", listed)
    check_shared(Path("/home/me/runs"))
    listed.write_bytes(b"nfs / nfs4 rw 0 0\nx /mnt/r\xe9sum\xe9 fuse.sshfs rw 0 0\n")
    monkeypatch.setattr("undo_hpc.doctor.machine.MOUNTS", listed)
    assert mount_of(Path("/home/me/runs")) == ("/", "nfs4")


def test_nodes_of_this_host_are_no_others() -> None:
    text = (
        "NodeName=n1 NodeAddr=127.0.0.1 NodeHostName=login\nNodeName=n2 NodeAddr=login NodeHostName=login.site\n"
        "NodeName=c7 NodeAddr=10.0.0.7 NodeHostName=c7\n"
    )
    assert other_hosts(text, "login") == ["c7"]


def test_a_proposal_takes_the_gpus_and_leaves_small_jobs_to_cpus() -> None:
    profile = Profile.model_validate(
        yaml.safe_load(render(parse_partitions(SINFO), CONFIG, ["proj", "other"]))
    )
    assert (profile.defaults.partition, profile.defaults.account, profile.defaults.gpus_per_node) == (
        "gpu",
        "proj",
        1,
    )
    assert profile.defaults.cpus_per_task == 16 and profile.defaults.minutes == 240
    assert profile.stages["train"].gpus_per_node == 4 and profile.stages["merge"].partition == "cpu"
    assert profile.requeue is False


@pytest.mark.parametrize(
    ("gres", "count", "kind"),
    [
        ("gpu:3090:8(S:0-1)", 8, "3090"),
        ("gpu:1g.10gb:7", 7, "1g.10gb"),
        ("gpu:a100_3g.20gb:4", 4, "a100_3g.20gb"),
        ("gpu:4(S:0-1)", 4, ""),
    ],
)
def test_types_of_gpus_and_accounts_may_look_like_numbers(gres: str, count: int, kind: str) -> None:
    found = parse_partitions(f"main*|up|2-00:00:00|4|64|512000|{gres}\n")
    assert [(p.gpus, p.gpu_type) for p in found] == [(count, kind)]
    text = render(found, CONFIG, ["2024001"]).replace("# gpu_type", "gpu_type")
    profile = Profile.model_validate(yaml.safe_load(text))
    assert (profile.defaults.account, profile.gpu_type, profile.stages["train"].gpus_per_node) == (
        "2024001",
        kind,
        count,
    )


def test_limits_of_the_cluster() -> None:
    limits = parse_config(CONFIG)
    assert (limits.max_array_size, limits.kill_wait_s, limits.requeue) == (10001, 30, False)


def test_an_empty_value_does_not_take_the_next_line() -> None:
    """An array of thirty was submitted where MaxArraySize is eleven, for the line before it ended behind its `=`."""
    text = "PowerPlugin             = \nMaxArraySize            = 11\nMailProg =\nKillWait = 7 sec\nLaunchParameters        =   \nJobRequeue=0"
    limits = parse_config(text)
    assert (limits.max_array_size, limits.kill_wait_s, limits.requeue) == (11, 7, False)
    proposed = render(parse_partitions(SINFO), text + "\nPreemptType = \nPreemptMode = REQUEUE\n", [])
    assert "MaxArraySize 11, KillWait 7 sec" in proposed and "(REQUEUE)" in proposed


@pytest.mark.parametrize(
    ("version", "mark"),
    [("22.05.8", False), ("23.02.7", False), ("23.11.10", False), ("24.05.0", True), ("24.11.5", True), ("25.05.1", True), ("26.11.0-0rc1", True)],
)  # fmt: skip
def test_which_versions_remember_a_preemption_with_a_grace_time(version: str, mark: bool) -> None:
    """As the changelog of 24.05 says; the form of the lines is the same in all of them (scontrol's manual page)."""
    text = f"Configuration data as of 2025-06-01\nKillWait                = 30 sec\nMaxArraySize            = 1001\nSLURM_VERSION           = {version}\n"
    limits = parse_config(text)
    assert (limits.max_array_size, limits.kill_wait_s, limits.grace_mark) == (1001, 30, mark)


def test_a_federation_is_told_from_a_cluster_of_its_own() -> None:
    member = (
        "Federation: fed1\nSelf:       north:10.0.0.1:6817 ID:1 FedState:ACTIVE Features:\n"
        "Sibling:    south:10.0.0.2:6817 ID:2 FedState:ACTIVE Features: PersistConnSend/Recv:Yes/Yes Synced:Yes\n"
    )
    assert federated_cluster(member) == "north"
    for alone in (
        "",
        "Federation: \nSelf:       \n",
        "No federation\n",
        "Federation:\nSelf: north:10.0.0.1:6817 ID:1\n",
    ):
        assert federated_cluster(alone) == ""
