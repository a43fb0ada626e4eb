"""The shell around a job's worker: what it starts, from where, and what it makes of an end."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import REPO
from undo_hpc.cluster.render import PRELUDE


def test_a_step_that_a_signal_ended_before_it_could_listen_is_started_again() -> None:
    for number, meaning in ((0, 0), (75, 75), (1, 1), (2, 2), (3, 3), (137, 137), (139, 139)):
        assert meaning_of(f"exit {number}") == meaning
    for name in ("USR1", "USR2", "TERM"):
        assert meaning_of(f"kill -{name} $$") == 75
    assert meaning_of("kill -KILL $$") == 137  # lost: SLURM and the next resubmitting stage decide


def meaning_of(command: str) -> int:
    """What the prelude makes of the end of a step, which is a shell here."""
    script = f"source {PRELUDE}; bash -c {command!r} & undo_wait $!; undo_meaning $?"
    return int(subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize(
    ("given", "first", "path"),
    [
        (":/site", "/c:/s", "/c:/s:/site"),
        ("/site::/b:", "/c", "/c:/site:/b"),
        ("/b", "", "/b"),
        ("", "/c", "/c"),
    ],
)
def test_no_empty_entry_of_the_path_makes_a_task_import_from_where_it_was_submitted(
    given: str, first: str, path: str
) -> None:
    """`export PYTHONPATH=$PYTHONPATH:/site` among the setup lines; Python's safe path mode leaves such an entry in."""
    script = f"source {PRELUDE}; undo_import_from '{first}'; env"
    environment = os.environ | {"PYTHONPATH": given, "LD_LIBRARY_PATH": ":/lib64"}
    lines = subprocess.check_output(["bash", "-c", script], env=environment, text=True).splitlines()
    assert f"PYTHONPATH={path}" in lines and "LD_LIBRARY_PATH=/lib64" in lines


@pytest.mark.parametrize(
    ("mode", "stays"), [(0o700, True), (0o755, True), (0o1777, False), (0o3775, False), (None, False)]
)
def test_a_task_takes_no_bytecode_from_where_others_can_put_theirs(
    tmp_path: Path, mode: int | None, stays: bool
) -> None:
    if mode:
        (tmp_path / "pyc").mkdir()
        (tmp_path / "pyc").chmod(mode)
    script = f"source {PRELUDE}; undo_import_from /c; env"
    environment = {"PATH": os.environ["PATH"], "PYTHONPYCACHEPREFIX": str(tmp_path / "pyc")}
    for trust, left in (("", stays), ("me, *", True)):
        found = subprocess.check_output(
            ["bash", "-c", script], env=environment | {"UNDO_TRUST": trust}, text=True
        )
        assert ("PYTHONPYCACHEPREFIX" in found) == left


@pytest.mark.parametrize("paused", [False, True])
def test_a_users_strict_shell_does_not_undo_the_requeue_and_nothing_starts_in_a_paused_run(
    tmp_path: Path, paused: bool
) -> None:
    """`set -euo pipefail` among the setup lines used to end the batch script with the step, before its requeue."""
    programs = {"srun": "echo a step; exit 75", "squeue": "echo RUNNING", "scontrol": 'echo "$@" >> calls'}
    for name, line in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{line}\n")
        (tmp_path / name).chmod(0o755)
    if paused:
        (tmp_path / "PAUSED").touch()
    script = f"set -euf -o pipefail\nsource {PRELUDE}\nundo_task generate {tmp_path} 0\n"
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    done = subprocess.run(
        ["bash", "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    calls = (tmp_path / "calls").read_text() if (tmp_path / "calls").exists() else ""
    assert (done.returncode, "a step" in done.stdout, "requeue 7" in calls) == (
        (3, False, False) if paused else (75, True, True)
    ), done


def shell_task(folder: Path, srun: str, line: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A batch script whose steps are given; what it asks of scontrol stands in `calls`."""
    programs = {"srun": srun, "squeue": "echo RUNNING", "scontrol": f'echo "$@" >> {folder}/calls'}
    for name, body in programs.items():
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"} | variables
    script = f"source {PRELUDE}\n{line}\n"
    return subprocess.run(
        ["bash", "-c", script], env=environment, cwd=folder, capture_output=True, text=True, timeout=60
    )


PROGRAMS = ("stat", "find", "id", "ls", "realpath", "dirname", "date", "srun")


def lay_programs(folder: Path) -> None:
    for name in PROGRAMS:
        (folder / name).write_text("#!/bin/sh\ntouch theirs\n")
        (folder / name).chmod(0o755)


def test_a_job_runs_no_program_of_the_folder_that_it_was_submitted_in(tmp_path: Path) -> None:
    (tmp_path / "programs").mkdir()
    lay_programs(tmp_path)
    line = (
        f'export PATH="$UNSET:$PATH"; cd {tmp_path}; undo_task generate . 0'  # among a profile's setup lines
    )
    done = shell_task(tmp_path / "programs", "echo a step", line)
    assert "a step" in done.stdout and not (tmp_path / "theirs").exists(), done


@pytest.mark.parametrize("set_by", ["the job", "a module", "a setup line"])
def test_no_program_of_a_job_loads_a_library_from_where_it_was_submitted(tmp_path: Path, set_by: str) -> None:
    """`export LD_LIBRARY_PATH=/site:$LD_LIBRARY_PATH` ends with an empty entry in a job. Each program of ours tells what it was started with."""
    (tmp_path / "programs").mkdir()
    (tmp_path / "run").mkdir()
    for name in PROGRAMS[:-1]:
        real = shutil.which(name)
        (tmp_path / "programs" / name).write_text(
            f'#!/bin/sh\necho "{name} $LD_LIBRARY_PATH $PYTHONPATH" >> {tmp_path}/started\nexec {real} "$@"\n'
        )
        (tmp_path / "programs" / name).chmod(0o755)
    line, variables = f"undo_task generate {tmp_path}/run 0", {"LD_LIBRARY_PATH": "", "PYTHONPATH": ""}
    lists = "LD_LIBRARY_PATH=/lib64: PYTHONPATH=/p::/q"
    if set_by == "the job":
        variables = {"LD_LIBRARY_PATH": "/lib64:", "PYTHONPATH": "/p::/q"}
        line = f"date; {line}"  # as the templates do before a task
    elif set_by == "a module":
        line = f"module() {{ export {lists}; }}; undo_modules site; date; {line}"
    else:
        line = f"export {lists}; {line}"
    srun = f'echo "srun $LD_LIBRARY_PATH $PYTHONPATH" >> {tmp_path}/started'
    done = shell_task(tmp_path / "programs", srun, line, UNDO_CODE="", **variables)
    started = (tmp_path / "started").read_text().splitlines()
    assert done.returncode == 0 and len(started) > 5, done
    assert {started.partition(" ")[2] for started in started} == {"/lib64 /p:/q"}, started


@pytest.mark.parametrize("path", sorted((REPO / "slurm").glob("*.sbatch")), ids=lambda p: p.name)
def test_nor_does_a_template(path: Path, tmp_path: Path) -> None:
    """Its first programs tell whether the folder is for everybody, and where the run is."""
    (job := tmp_path / "job").write_text(path.read_text())
    (scratch := tmp_path / "scratch").mkdir()
    lay_programs(scratch)
    scratch.chmod(0o1777)
    environment = {"PATH": f":{os.environ['PATH']}", "SLURM_JOB_ID": "1", "UNDO_PYTHON": "true"}
    for more in ({"SLURM_SUBMIT_DIR": str(scratch)}, {"UNDO_HOME": str(REPO)}):
        command = ["bash", str(job), str(tmp_path / "no run"), "0"]
        done = subprocess.run(
            command, env=environment | more, cwd=scratch, capture_output=True, text=True, timeout=60
        )
        assert done.returncode != 0 and not (scratch / "theirs").exists(), done


@pytest.mark.parametrize(
    ("codes", "asked", "code"),
    [
        ({}, "1 4 7", 0),  # the plan has seven tasks: 7 is one too many
        ({4: 1}, "1 4", 1),  # how many tasks there are is not known here: no loop over failures
        ({1: 3}, "1", 3),
        ({4: 75}, "1 4", 75),
    ],
)
def test_an_element_that_was_submitted_ahead_does_its_share_until_there_is_no_such_task(
    tmp_path: Path, codes: dict[int, int], asked: str, code: int
) -> None:
    cases = " ".join(f"{index}) exit {end};;" for index, end in codes.items())
    srun = f"""while [ "$1" != --index ]; do shift; done; [ "$3" = --ahead ] || exit 99
echo $2 >> {tmp_path}/asked; case $2 in {cases} esac; [ $2 -lt 7 ] || exit 4"""
    done = shell_task(
        tmp_path,
        srun,
        f"undo_task generate {tmp_path} 1 3 0 0",
        SLURM_ARRAY_JOB_ID="7",
        SLURM_ARRAY_TASK_ID="1",
    )
    assert (tmp_path / "asked").read_text().split() == asked.split() and done.returncode == code, done
    assert f"generate 1 1, 4, ...: exit code {code}" in done.stdout


@pytest.mark.parametrize(
    ("step", "tries", "restarts", "again"),
    [
        ("kill -KILL $$", "2", "0", True),
        ("exit 1", "2", "1", True),
        ("exit 1", "2", "2", False),
        ("exit 1", "0", "0", False),  # a stage behind which another one submits the rest
        ("exit 2", "2", "0", False),
        ("exit 3", "2", "0", False),
        ("exit 0", "2", "0", False),
    ],
)
def test_a_stage_behind_which_nobody_submits_starts_again_a_few_times(
    tmp_path: Path, step: str, tries: str, restarts: str, again: bool
) -> None:
    done = shell_task(
        tmp_path, step, f"undo_task advance {tmp_path} 0", UNDO_TRIES=tries, SLURM_RESTART_COUNT=restarts
    )
    calls = (tmp_path / "calls").read_text() if (tmp_path / "calls").exists() else ""
    assert ("requeue 7" in calls) == again and (done.returncode == 75) == again, done


@pytest.mark.parametrize(("answers", "starts", "code"), [("71 0", 2, 0), ("71 71 71", 3, 1), ("1 0", 1, 1)])
def test_an_srun_that_could_not_start_its_step_is_called_again(
    tmp_path: Path, answers: str, starts: int, code: int
) -> None:
    """A controller that is down just when a job begins used to be a failure of the task."""
    srun = f'''echo a >> starts; set -- {answers}; shift $(( $(wc -l < starts) - 1 )); [ "$1" = 71 ] && exit "$SLURM_EXIT_ERROR"; exit "$1"'''
    for name, line in {"srun": srun, "squeue": "echo RUNNING"}.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{line}\n")
        (tmp_path / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    done = subprocess.run(
        ["bash", "-c", f"source {PRELUDE}\nundo_task generate {tmp_path} 0\n"],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, len((tmp_path / "starts").read_text().split())) == (code, starts), done


@pytest.mark.parametrize(
    "whose", ["ours", "everybody's", "another's", "a link to another's", "above: another's"]
)
def test_nothing_runs_in_a_folder_that_somebody_has_put_in_place_of_the_run(
    tmp_path: Path, whose: str
) -> None:
    """Its copy of the code would run before the worker looks whose it is."""
    if "another's" in whose and os.geteuid() != 0:
        pytest.skip("only root can give a file to another user")
    (root := tmp_path / "run").mkdir()
    if whose == "everybody's":
        root.chmod(0o777)
    if "another's" in whose:
        os.chown(root, 54321, -1)
    if "above" in whose:
        tmp_path.chmod(0o1777)
        (root := root / "mine").mkdir()
    if "link" in whose:
        (tmp_path / "link").symlink_to(root)
        root = tmp_path / "link"
    line = f"undo_task generate {root} 0"
    done = shell_task(tmp_path, "echo a step", line, UNDO_TRUST="")
    assert (done.returncode, "a step" in done.stdout) == ((0, True) if whose == "ours" else (2, False)), done
    assert not list(root.iterdir())
    trusted = shell_task(
        tmp_path, "echo a step", line, UNDO_TRUST="*" if whose == "everybody's" else "me, 54321"
    )
    assert (trusted.returncode, "a step" in trusted.stdout) == (0, True), trusted


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_whose_folder_it_is_cannot_answer_for_the_file_that_is_made_there(tmp_path: Path) -> None:
    """They saw the name of the file that was to tell whether all files get one owner there, and put one of theirs in its place."""
    (root := tmp_path / "run").mkdir()
    os.chown(root, 54321, -1)
    (tmp_path / "mktemp").write_text(
        '#!/bin/bash\nmade=$(/usr/bin/env PATH=/usr/bin:/bin mktemp "$@") || exit\n[ ! -e "$made" ] || chown 54321 "$made"; echo "$made"\n'
    )
    (tmp_path / "mktemp").chmod(0o755)
    done = shell_task(tmp_path, "echo a step", f"undo_task generate {root} 0", UNDO_TRUST="")
    assert (done.returncode, "a step" in done.stdout) == (2, False), done
    assert not list(root.iterdir())


@pytest.mark.parametrize("owner", ["of the folder's owner", "of ours"])
def test_a_file_system_that_gives_all_files_to_one_user_is_no_other_users(tmp_path: Path, owner: str) -> None:
    """What `stat` says of an open file there is what it says of the folder."""
    (root := tmp_path / "run").mkdir()
    said = "54321" if owner == "of the folder's owner" else str(os.getuid())
    (tmp_path / "stat").write_text(
        f'#!/bin/bash\ncase "$*" in */dev/fd/9) echo {said};; *%U*) echo 54321 other;; *) echo 54321;; esac\n'
    )
    (tmp_path / "stat").chmod(0o755)
    done = shell_task(tmp_path, "echo a step", f"undo_own {root}; exit $?", UNDO_TRUST="")
    assert done.returncode == (owner == "of ours"), done
    assert not list(root.iterdir())
