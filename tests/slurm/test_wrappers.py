"""Wrappers and plugins of a second kind: commands that lie, answer late, do half of what they are asked, or nothing. Whatever they do, no
stage is queued twice, no other job of the user is touched, and when the site is as it should be again the same command sets all right."""

import os
from collections.abc import Callable

import pytest

from tests.slurm.small import Campaign
from tests.slurm.test_sites import _ALIVE, foreign_job, queued, quiet_lab, shim
from tests.slurmlab import Lab
from undo_hpc.cli.__main__ import main

__all__ = ["quiet_lab"]

Make = Callable[..., Campaign]
BEHIND = {"merge": "generate", "train": "merge", "evaluate": "train", "advance": "evaluate"}

_DROP = 'args=(); for a in "$@"; do case $a in {}) ;; *) args+=("$a");; esac; done; '
_LAUNCHER = 'grep -qa run_iteration /proc/$PPID/cmdline || exec scontrol "$@"; '  # the laboratory's own calls go past it
_REFUSED = 'echo "sbatch: error: Batch job submission failed: Invalid {} specification" >&2; exit 1'

WRAPPERS = {
    # Accepted, and the answer is a final refusal, as where a plugin fails behind the submission.
    "accepted_and_refused": ("sbatch", f'sbatch "$@" > /dev/null; {_REFUSED.format("qos")}'),
    "one_accepted_and_refused": ("sbatch", f'sbatch "$@" > "$0.said"; grep -q job-name=train "$1" || exec cat "$0.said"; {_REFUSED.format("account")}'),
    # A gateway hands jobs over a moment later, or never; the site cancels them at once.
    "handed_over_later": ("sbatch", '(sleep 1; exec sbatch "$@") > /dev/null 2>&1 & disown; echo "your job is on its way"'),
    "never_handed_over": ("sbatch", 'n=$(cat "$0.n" 2>/dev/null || echo 900000); echo $((n + 1)) > "$0.n"; echo "Submitted batch job $n"'),
    "cancelled_at_once": ("sbatch", 'j=$(sbatch --parsable "$@") || exit; scancel "$j"; echo "Submitted batch job $j"'),
    # The answer names an earlier job of the same run; or comes in colours and another language.
    "an_earlier_number": ("sbatch", 'sbatch "$@" > "$0.said" || exit; [ -e "$0.first" ] || cp "$0.said" "$0.first"; cat "$0.first"'),
    "another_language": ("sbatch", 'j=$(sbatch --parsable "$@") || exit; printf "\\e[32mAuftrag %s wurde angenommen\\e[0m\\n" "$j"'),
    # Dependencies are dropped; jobs are held until somebody approves of them.
    "no_dependency": ("sbatch", _DROP.format("--dependency=*|-d*") + 'sed -i "/^#SBATCH --dependency/d" "$1"; exec sbatch "${args[@]}"'),
    "held": ("sbatch", 'exec sbatch --hold "$@"'),
    # squeue ignores whose jobs and which columns are asked for, cuts columns, ends lines as Windows does, has states of its own.
    "cut_columns": ("squeue", 'squeue "$@" | cut -c1-40'),
    "carriage_returns": ("squeue", 'squeue "$@" | sed "s/$/\\r/"'),
    "own_format": ("squeue", "exec squeue --me"),
    "own_states": ("squeue", 'squeue "$@" | sed "s/PENDING/QUEUED_BY_SITE/"'),
    "error_on_stdout": ("squeue", 'echo "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"; exit 0'),
    "old_list": ("squeue", 'f="$0.$(echo "$*" | md5sum | cut -c1-8)"; [ -e "$f" ] || squeue "$@" > "$f"; cat "$f"'),
    "half_list": ("squeue", 'squeue "$@" | awk "NR % 2"'),
    "twice_each": ("squeue", 'squeue "$@" | sed p'),
    # scancel does nothing, or takes the first only, and says that all is well.
    "cancels_nothing": ("scancel", "exit 0"),
    "cancels_the_first": ("scancel", 'for a in "$@"; do case $a in -*) ;; *) exec scancel "$a";; esac; done'),
    "scontrol_forbidden": ("scontrol", _LAUNCHER + 'echo "slurm_update error: Access/permission denied" >&2; exit 1'),
    "scontrol_many_lines": ("scontrol", _LAUNCHER + _DROP.format("-o") + 'exec scontrol "${args[@]}"'),
}  # fmt: skip


# One of each kind of trouble; with UNDO_FUZZ=1 all.
MOST_DIFFERENT = ("accepted_and_refused", "handed_over_later", "never_handed_over", "an_earlier_number", "no_dependency", "held", "cut_columns",
                  "own_states", "error_on_stdout", "old_list", "cancels_nothing", "scontrol_forbidden")  # fmt: skip


@pytest.mark.parametrize("name", WRAPPERS if "UNDO_FUZZ" in os.environ else MOST_DIFFERENT)
def test_no_wrapper_makes_the_launcher_double_lose_or_cancel_a_job(
    quiet_lab: Lab, campaign: Make, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    lab, small = quiet_lab, campaign()
    foreign = foreign_job(lab, monkeypatch)
    command, script = WRAPPERS[name]
    shim(small, monkeypatch, command, script)
    wrapper = small.folder / "shim" / command

    def look() -> dict[str, str]:
        wrapper.chmod(0o644)  # past the wrapper
        found = queued(lab, small)
        assert lab.show(foreign)["JobState"] in _ALIVE, "another job was cancelled"
        wrapper.chmod(0o755)
        return found

    for _ in range(2):
        done = small.launch(check=False)
        assert done.returncode == 0 or "error:" in done.stderr, done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        look()
    main(["cancel", str(small.run_dir)])
    look()
    wrapper.write_text(
        f'#!/bin/bash\nPATH="${{PATH#*:}}" exec {command} "$@"\n'
    )  # the site is as it should be again
    small.launch()
    ids = look()
    assert sorted(ids) == sorted([*BEHIND, "generate"])
    for stage, before in BEHIND.items():
        assert ids[before] in lab.show(ids[stage])["Dependency"], f"{stage} does not wait for {before}"
    assert main(["cancel", str(small.run_dir)]) == 0
    assert look() == {}
