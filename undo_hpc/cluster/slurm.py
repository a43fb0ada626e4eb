"""SLURM through submitit: submit, find again, redirect, cancel. The rest of the program knows nothing of it.

Batch files are rendered by submitit (`SlurmExecutor._make_submission_file_text`): no pickle, no database, one small file a
submission. It is an underscore method, so submitit is pinned and the call stands in `_script` alone. sbatch is called here, because
submitit takes the first number behind "job" for the id, whoever printed it (see identity).
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from undo_hpc.cluster.base import WAITING, JobState, LiveJob, Submission
from undo_hpc.cluster.commands import LostDependency, NoNode, TooLate, Unreachable, require_slurm, run
from undo_hpc.cluster.identity import (
    FORMAT,
    job_by_id,
    jobs_of,
    printed_ids,
    read_marks,
    script_name,
    shown_job,
)
from undo_hpc.cluster.journal import SubmissionJournal
from undo_hpc.cluster.limits import Limits, parse_config, submit_limits_of_user
from undo_hpc.cluster.names import ArrayPart, JobName, array_ahead, split_array
from undo_hpc.cluster.nodes import NODES, parse_nodes, wait_for_nodes
from undo_hpc.cluster.profile import Profile
from undo_hpc.cluster.render import BatchJob, dependency, render
from undo_hpc.cluster.states import ENDED, state_of
from undo_hpc.errors import ClusterError
from undo_hpc.pipeline.layout import Layout
from undo_hpc.pipeline.stages import spec_of
from undo_hpc.storage.atomic import translate_os_error

log = logging.getLogger(__name__)


class Unidentified(ClusterError):
    """sbatch accepted something, and nothing in the queue carries its name: no id can be believed."""


class SlurmCluster:
    """A cluster (see base.Cluster).

    Args:
        profile: how this cluster is asked.
        code: folder that holds the package as the jobs shall use it (a snapshot, or the project itself).
        users: numbers of the users whose jobs are looked at beside our own; see SubmissionJournal.users.
        run_dir: of the run; a copy of a run directory has the same tag, and jobs of its own. Without it, the tag alone tells.
    """

    kind = "slurm"

    def __init__(
        self, profile: Profile, code: Path, users: Iterable[int] = (), run_dir: Path | None = None
    ) -> None:
        self.profile = profile
        self.code = code
        self._run_dir = run_dir
        self._users = frozenset({os.getuid(), *users})

    @cached_property
    def limits(self) -> Limits:
        """The cluster's limits, asked once. Raises ClusterError where there is no SLURM, or no answer."""
        require_slurm()
        return parse_config(self._ask(["scontrol", "show", "config"]))

    def _ask(self, command: list[str], *, stdin: str = "") -> str:
        """One of SLURM's commands, about the profile's cluster."""
        return run(command, stdin=stdin, cluster=self.profile.cluster)

    # -- submitting ----------------------------------------------------------------------------------------------

    def parts(self, submission: Submission) -> list[ArrayPart | None]:
        """The sbatch calls that a submission needs: arrays by offset, or one job."""
        if submission.indices is None:
            return [None]
        largest = min(self.profile.max_array_size or self.limits.max_array_size, self.limits.max_array_size)
        if submission.ahead:
            return [array_ahead(len(submission.indices), largest)]
        return list(split_array(submission.indices, largest, spec_of(submission.stage).max_arrays))

    def places(self, submission: Submission) -> int:
        """The elements of all parts (see base.Cluster)."""
        return sum(len(part.elements) if part else 1 for part in self.parts(submission))

    def submit_limit(self) -> str:
        """MaxSubmitJobs of association and quality of service, where SLURM keeps accounts (see base.Cluster)."""
        return submit_limits_of_user()

    def check(self, submissions: Sequence[Submission]) -> None:
        """Asks by `sbatch --test-only` for each kind of job that differs (see base.Cluster)."""
        seen = set()
        for submission in submissions:
            bare = replace(submission, after=(), tag=submission.tag or "0" * 8)
            part = self.parts(bare)[0]
            job = self._batch_job(bare, part, self._name(bare, part))
            shape = str(
                {
                    k: v
                    for k, v in job.parameters.items()
                    if k not in ("job_name", "comment", "setup", "additional_parameters")
                }
                | {
                    k: v
                    for k, v in job.parameters["additional_parameters"].items()
                    if k not in ("output", "array")
                }
            )
            if shape in seen:
                continue
            seen.add(shape)
            script = self._script(job)
            try:
                self._ask(["sbatch", "--test-only"], stdin=script)
            except ClusterError as error:
                waits = self._waits(submission) if isinstance(error, NoNode) else ""
                if waits:
                    log.warning("%s waits: no node can run it now; %s", submission.stage, waits)
                    continue
                raise type(error)(f"stage {submission.stage}: {error.message}", hint=error.hint) from error

    def _waits(self, submission: Submission) -> str:
        """The nodes that a submission waits for, though no node that is there has what it asks for; empty where there are none such."""
        with contextlib.suppress(ClusterError):
            asked = self.profile.for_stage(submission.stage, submission.resources)
            return wait_for_nodes(parse_nodes(self._ask(NODES)), asked)
        return ""

    def submit(self, submission: Submission) -> tuple[str, ...]:
        """Submits all parts, or none, behind those jobs that SLURM still knows (see base.Cluster)."""
        try:
            return self._submit(submission)
        except LostDependency:
            known = self._known(submission.after)
            if known == submission.after:
                raise
            return self._submit(replace(submission, after=known))

    def _known(self, ids: Sequence[str]) -> tuple[str, ...]:
        """Those of our jobs that SLURM still knows. Of a forgotten one the manifests tell what became of it."""
        names = self._names()
        return tuple(job for job in ids if job in names)

    def _submit(self, submission: Submission) -> tuple[str, ...]:
        journal = SubmissionJournal(Layout(submission.run_dir).submissions)
        ids: list[str] = []
        for part in self.parts(submission):
            name = self._name(submission, part)
            indices = submission.indices if part is None else part.indices(submission.total)
            journal.intend(
                str(name),
                submission.stage,
                submission.iteration,
                submission.attempt,
                indices,
                submission.after,
            )
            try:
                job_id = self._sbatch(self._batch_job(submission, part, name), submission, name)
            except KeyboardInterrupt:  # sbatch may have done it all the same
                self._take_back([*ids, *(self._accepted(name) or [])])
                raise
            except ClusterError as error:
                accepted = None if isinstance(error, Unidentified) else self._accepted(name)
                if not accepted:
                    # Where it is not known whether the job exists, the intent stays open: `recover` looks for its name again.
                    if accepted is not None and not isinstance(error, Unreachable):
                        journal.refused(str(name), error.message)
                    self._take_back(ids)
                    raise
                job_id = accepted[0]
            journal.submitted(str(name), job_id)
            ids.append(job_id)
        return tuple(ids)

    def _take_back(self, ids: Sequence[str]) -> None:
        """Cancels parts as far as the controller answers; what it does not hear is found again by its name."""
        with contextlib.suppress(ClusterError):
            self.cancel(ids)

    def _name(self, submission: Submission, part: ArrayPart | None) -> JobName:
        offset, group = (part.offset, part.group) if part else (0, 1)
        return JobName(
            submission.stage,
            submission.iteration,
            submission.tag,
            submission.attempt,
            offset,
            group,
            secrets.token_hex(4),
        )

    def _batch_job(self, submission: Submission, part: ArrayPart | None, name: JobName) -> BatchJob:
        known = self.limits
        return render(
            self.profile,
            submission,
            name,
            part,
            self.code,
            kill_wait_s=known.kill_wait_s,
            grace_mark=known.grace_mark,
        )

    def _script(self, job: BatchJob) -> str:
        """The text of a batch file, as submitit renders it."""
        from submitit.slurm.slurm import SlurmExecutor

        executor = SlurmExecutor(folder="/")  # logs and batch file have paths of our own
        executor.update_parameters(**job.parameters)
        return str(executor._make_submission_file_text(job.command, ""))

    def _sbatch(self, job: BatchJob, submission: Submission, name: JobName) -> str:
        """Submits a batch file; returns the id of the job that carries its name. Raises ClusterError, Unidentified among them."""
        folder = Layout(submission.run_dir).iteration(submission.iteration).logs / "submitted"
        file = folder / script_name(name)
        with translate_os_error(file):
            folder.mkdir(parents=True, exist_ok=True)
            file.write_text(self._script(job), encoding="utf-8")
        said = self._ask(["sbatch", str(file)])
        printed = printed_ids(said)
        for pause_s in (0.0, 0.5, 2.0):  # a job may show late
            time.sleep(pause_s)
            found = self._ids_of(name)
            for job_id in printed[:1]:
                if job_id in found or self._carries(job_id, name):
                    self._drop_twins(name, job_id, found)
                    return job_id
            if found:
                self._drop_twins(name, found[0], found)
                return found[0]
        raise Unidentified(
            f"sbatch was successful, but no job in the queue carries the name {name} (sbatch printed: {said.strip() or 'nothing'})",
            hint="without a name, a comment or a command of ours jobs cannot be told from others: ask the site whether a plugin "
            f"rewrites all three{f'; `scontrol show job {printed[0]}` shows what became of it' if printed else ''}",
        )

    def _ids_of(self, name: JobName) -> list[str]:
        """Ids of the jobs that carry a name. Raises ClusterError where SLURM does not answer."""
        mine = [m.job_id for m in jobs_of(self._users, self.profile.cluster) if m.name == name]
        return list(dict.fromkeys(mine))

    def _carries(self, job_id: str, name: JobName) -> bool:
        """Whether a job that is not among ours in squeue's list is the one: what is listed may be old, or of another user."""
        if any(marks.name == name for marks in job_by_id(job_id, self.profile.cluster)):
            return True
        shown = shown_job(job_id, self.profile.cluster)
        return shown is not None and shown[0].name == name

    def _drop_twins(self, name: JobName, kept: str, found: Sequence[str]) -> None:
        """Cancels what a wrapper of sbatch that tries again has submitted a second time."""
        twins = [job_id for job_id in found if job_id != kept]
        if twins:
            log.warning(
                "sbatch submitted %s %d times; job %s is kept, the others are cancelled",
                name,
                1 + len(twins),
                kept,
            )
            self._ask(["scancel", "-Q", *twins])

    def _accepted(self, name: JobName) -> list[str] | None:
        """As _ids_of; None where SLURM does not answer."""
        try:
            return self._ids_of(name)
        except ClusterError:
            return None

    def recover(self, run_dir: Path, tag: str) -> None:
        """Looks up jobs whose intent has no id (see base.Cluster)."""
        journal = SubmissionJournal(Layout(run_dir).submissions)
        open_names = {entry.name for entry in journal.entries() if not entry.job_id}
        if not open_names:
            return
        for marks in jobs_of(self._users, self.profile.cluster):
            if str(marks.name) in open_names:
                open_names.remove(str(marks.name))
                journal.submitted(str(marks.name), marks.job_id, found=True)

    # -- looking -------------------------------------------------------------------------------------------------

    def live_jobs(self, tag: str) -> list[LiveJob]:
        """Every task that SLURM still holds (see base.Cluster)."""
        require_slurm()
        whose = f"--user={','.join(map(str, sorted(self._users)))}"
        out = self._ask(["squeue", "-h", "-a", "-r", whose, "-o", f"%F|%K|%i|%T|%r|{FORMAT}"])
        jobs: list[LiveJob] = []
        for line in out.split("\n"):
            *fields, text = line.split("|", 5)
            name, script = read_marks(text)
            if (
                len(fields) != 5 or name is None or name.tag != tag or fields[3] in ENDED
            ):  # a foreign name may hold anything
                continue
            root = submitted_from(script)
            gone = root is not None and not root.is_dir()
            if (
                root
                and self._run_dir
                and not gone
                and not (root == self._run_dir or root.samefile(self._run_dir))
            ):
                continue  # of another copy of this run
            job_id, element, task_id, state, reason = fields
            common = LiveJob(job_id, None, str(name), state_of(state, reason), reason, name.stage, name.iteration, name.attempt, task_id,
                             str(root) if gone else "")  # fmt: skip
            if not element.isdigit():
                jobs.append(common)
                continue
            if name.group == 0:
                jobs.append(replace(common, index=int(element), stride=name.offset))
                continue
            first = (int(element) + name.offset) * name.group
            jobs += [replace(common, index=index) for index in range(first, first + name.group)]
        return jobs

    def require_listed(self, names: Mapping[str, str]) -> None:
        """Asks the controller itself for each job (see base.Cluster)."""
        for job_id, name in names.items():
            shown = shown_job(job_id, self.profile.cluster)
            if shown is None or str(shown[0].name) != name:
                continue
            if states := shown[1] & {"PENDING", "CONFIGURING", "RUNNING", "SUSPENDED"}:
                raise Unreachable(
                    f"squeue does not list job {job_id} ({name}), which is {', '.join(sorted(states)).lower()}: what is queued is not known",
                    hint="squeue may be a copy of the site's that is minutes old: run the same command again later, nothing is lost",
                )

    # -- changing ------------------------------------------------------------------------------------------------

    def redirect(self, ids: Iterable[str], after: Sequence[str]) -> None:
        """`scontrol update Dependency=`; a pending job may change what it waits for (see base.Cluster)."""
        names = self._names()
        known = tuple(job for job in after if job in names)  # the others have ended, and SLURM forgot them
        for job in dict.fromkeys(ids):
            if job not in names:
                continue
            behind = dependency(names[job].stage, known) if known else ""
            with contextlib.suppress(TooLate):
                self._ask(["scontrol", "update", f"JobId={job}", f"Dependency={behind}"])

    def release(self, task_ids: Iterable[str]) -> None:
        """`scontrol release`, and no waiting for the two minutes that follow a requeue (see base.Cluster)."""
        for task in dict.fromkeys(task_ids):
            with contextlib.suppress(TooLate):  # somebody else has released it, and it runs
                self._ask(["scontrol", "release", task])
                self._ask(["scontrol", "update", f"JobId={task}", "StartTime=now"])

    def cancel(self, ids: Iterable[str]) -> None:
        """`scancel`, of jobs alone that carry a name of ours (see base.Cluster): the controller may have given an id a second time."""
        wanted = list(dict.fromkeys(ids))
        if not wanted:
            return
        ours = self._names()
        wanted = [job for job in wanted if job.partition("_")[0] in ours]
        if wanted:
            self._ask(["scancel", "-Q", *wanted])

    def _names(self) -> dict[str, JobName]:
        """The names of our jobs by their ids."""
        return {
            marks.job_id: marks.name for marks in jobs_of(self._users, self.profile.cluster) if marks.name
        }

    def pause(self, tag: str) -> int:
        """Pending jobs are cancelled; running steps get the signal that means "save soon" (see base.Cluster).

        The caller has left the run's PAUSED mark, which keeps the jobs from starting again.
        """
        jobs = self.live_jobs(tag)
        waiting = [job for job in jobs if job.state in (*WAITING, JobState.STUCK)]
        running = [job for job in jobs if job.state is JobState.RUNNING]
        self.cancel(job.task_id for job in waiting)
        for task in dict.fromkeys(job.task_id for job in running):
            with contextlib.suppress(
                TooLate
            ):  # it has just ended, or been requeued: then it sees the mark when it starts
                self._ask(["scancel", "--signal=USR1", task])
        return len({job.task_id for job in waiting + running})


def submitted_from(script: str) -> Path | None:
    """The run directory that a job was submitted in, by the path of its batch file; None where that is not one of ours."""
    found = re.fullmatch(r"(/.+)/iter_\d+/logs/submitted/[^/]+", script)
    return Path(found[1]) if found else None
