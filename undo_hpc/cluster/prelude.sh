# What every job of a run does around the worker. The launcher puts this text into the jobs it submits;
# the templates in slurm/ source it. It needs bash, SLURM's commands, and these variables (all optional):
#   UNDO_PYTHON         Python that runs the worker
#   UNDO_CODE           folder that holds the package, put on PYTHONPATH
#   UNDO_STAGE_TO       folder on the node's own disk, for a copy of the code and of UNDO_STAGE_ARCHIVE (a tar of the environment's packages)
#   UNDO_SRUN           further words for srun (array)
#   UNDO_INSIDE         words before Python, e.g. apptainer exec ... (array)
#   UNDO_REQUEUE        0 where the site forbids requeueing
#   UNDO_RESTART_DELAY  seconds until a requeued job may start again
#   UNDO_KILL_WAIT      the site's KillWait
#   UNDO_GRACE_MARK     1 where SLURM remembers that a job was preempted with a grace time (24.05 and newer)
#   UNDO_TRIES          how often a stage starts again that failed or was killed: one behind which nobody would submit the rest

# This job, or this one task of an array. (The bare id of an array's last task would mean the whole array.)
undo_job_id() {
  if [ -n "${SLURM_ARRAY_JOB_ID:-}" ]; then echo "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"; else echo "$SLURM_JOB_ID"; fi
}

undo_say() { echo "$(date '+%F %T') undo: $*"; }

# A signal to the whole job also hits scontrol; hence more than one try.
undo_scontrol() { local try; for try in 1 2 3; do scontrol "$@" 2>&1 && return 0; done; return 1; }

# SLURM holds a requeued job back for two minutes or so unless its start time lies ahead when the old start has ended.
undo_restart_in() { undo_scontrol update JobId="$(undo_job_id)" StartTime=now+"$1" >/dev/null; }

undo_on_term() {
  [ "$undo_terminated" = 1 ] || undo_terminated_at=$SECONDS
  undo_terminated=1
  # Preempted without grace: SLURM requeues the job by itself. Should we not live to see the end, this stands.
  undo_restart_in "${undo_delay:-$(( ${UNDO_KILL_WAIT:-30} + 10 + ${UNDO_RESTART_DELAY:-3} ))}"
  # A grace time that ends before the job does leaves a mark, which nobody can read: the comment says it to the next start.
  local shown; [ "${UNDO_GRACE_MARK:-0}" = 1 ] && shown=$(undo_shown) && [[ $shown =~ $undo_comment ]] &&
    undo_scontrol update JobId="$(undo_job_id)" Comment="${BASH_REMATCH[1]} late" >/dev/null
}

# SLURM 24.05 and newer remember that a job was preempted with a grace time, and requeue it themselves when it ends, however it ends:
# after a requeue of our own once more, two minutes late, and what depends on it waits for that third start (docs: slurm/README.md).
# So such a job just ends. Who sets its start time must still be there then: a step, to which SLURM sends SIGTERM. (Three seconds more:
# where a cgroup ends this step's srun with the batch script, the step tries for two to tell it of its end; of its start it must know.)
undo_guard() {
  local up
  exec {undo_guard_output}< <(exec env -i PATH="$PATH" ${SLURM_CONF:+SLURM_CONF="$SLURM_CONF"} SLURM_JOB_ID="$SLURM_JOB_ID" \
    srun --overlap --nodes=1 --ntasks=1 --mem=0 --gres=none --mpi=none bash -c '
      trap "scontrol update JobId=$0 StartTime=now+$1 >/dev/null 2>&1; exit 0" TERM
      sleep 60 >/dev/null 2>&1 & trap "kill $!" EXIT
      sleep 0.3; echo up; wait' "$(undo_job_id)" $(( ${UNDO_RESTART_DELAY:-3} + 3 )) 2>/dev/null)
  read -r -t 20 up <&"$undo_guard_output" && [ "$up" = up ]
}

# What SLURM says of this job, in a line; and our comment in it.
undo_comment=' Comment=(undo [^ ]+)( late)?'
undo_shown() { scontrol show job -o "$(undo_job_id)" 2>/dev/null; }

# Whether this job is in its grace time.
undo_preempted() { local said; said=${1:-$(undo_shown)} && [[ $said =~ " PreemptTime=" && ! $said =~ " PreemptTime=None" ]]; }

# Before a job ends: where SLURM may requeue it by itself, it starts again soon. (Only there: behind the step that sees to it, what
# depends on this job starts up to three seconds later.)
undo_leave() {
  [ "${UNDO_GRACE_MARK:-0}" = 1 ] || return 0
  local said; said=$(undo_shown)
  if ! undo_preempted "$said"; then
    [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ] || return 0
    if [[ $said =~ $undo_comment ]]; then
      [ -n "${BASH_REMATCH[2]}" ] || return 0  # no earlier start was late
      undo_scontrol update JobId="$(undo_job_id)" Comment="${BASH_REMATCH[1]}" >/dev/null  # the mark goes with this end
    fi
  fi
  undo_guard
}

# State of this job; waits up to a minute for a controller that does not answer.
undo_state() {
  local try state
  for try in 1 2 3 4 5 6; do
    state=$(squeue -h -j "$(undo_job_id)" -o %T 2>/dev/null) && { echo "$state"; return 0; }
    sleep 2
  done
  return 1
}

# undo_requeue RUN_DIR: starts this job again. Fails where it must not, or cannot, be started again.
undo_requeue() {
  [ -e "$1/PAUSED" ] && { undo_say "the run is paused: saved, and not started again"; return 1; }
  [ "${UNDO_REQUEUE:-1}" = 1 ] || { undo_say "no requeueing here: the next merge or advance submits the rest"; return 1; }
  undo_delay=${UNDO_RESTART_DELAY:-3}  # from here on a SIGTERM is the answer to our own request
  local state; state=$(undo_state)
  case $state in
    RUNNING)
      [ "${UNDO_GRACE_MARK:-0}" = 1 ] && undo_preempted && undo_guard && return 0
      undo_scontrol requeue "$(undo_job_id)" >/dev/null || { undo_say "scontrol requeue was refused"; return 1; } ;;
    *) undo_say "state $state: SLURM itself decides whether this job starts again" ;;
  esac
  undo_restart_in "${UNDO_RESTART_DELAY:-3}"
}

# undo_wait PID: its exit code, however often a trapped signal interrupts the waiting.
undo_wait() {
  local code late
  while :; do
    wait "$1"; code=$?
    [ "$code" -gt 128 ] && kill -0 "$1" 2>/dev/null || break
  done
  # Interrupted just as it ended: bash still remembers its code.
  [ "$code" -gt 128 ] && { wait "$1"; late=$?; [ "$late" != 127 ] && code=$late; }
  return "$code"
}

# undo_meaning CODE: what a step's exit code says. Ended by a signal that asks to save, it could not hear it yet: Python was
# still starting, and there was nothing to save. (128 + SIGUSR1, SIGUSR2, SIGTERM)
undo_meaning() { case $1 in 138|140|143) echo 75 ;; *) echo "$1" ;; esac; }

# Whether the copy of the code still is what its folder is named by: code_digest in undo_hpc/cluster/snapshot.py, in shell, so that
# nothing of the copy runs before. A link, or a folder that cannot be listed, may hold a module that goes before one of ours.
undo_check_code() {
  local name=${1##*/} found all=("$1"/*)
  [[ $name =~ ^[0-9a-f]{12}$ ]] || return 0  # a checkout, not a copy
  [ "${all[*]}" = "$1/undo_hpc" ] || return 1  # beside it a torch.py would come first
  [ ! -L "${1%/*}" ] && found=$(find "$1" ! -type f ! -type d) && [ -z "$found" ] || return 1
  found=$(cd "$1/undo_hpc" && find . -type f ! -path '*/__pycache__/*' ! -name '.*' -print0 | LC_ALL=C sort -z |
    xargs -0 sha256sum | sha256sum) || return 1
  [ "${found:0:12}" = "$name" ]
}

# undo_owned PATH: whether it (a link itself) is ours, root's, or of somebody whom UNDO_TRUST names.
undo_owned() {
  local trust=",${UNDO_TRUST//[[:space:]]/}," number name
  read -r number name < <(stat -c '%u %U' "$1" 2>/dev/null) || return 1
  [ "$number" = 0 ] || [ "$number" = "$(id -u)" ] || [[ $trust == *",*,"* || $trust == *",$name,"* || $trust == *",$number,"* ]]
}

# undo_own FOLDER: require_trusted of undo_hpc/system/ownership.py in shell, for the code that a task runs lies in its run: who may rename
# that (the owner of the folder above it) can have put one of their own in its place.
undo_own() {
  local made owner
  [ -d "$1" ] && [[ ",${UNDO_TRUST//[[:space:]]/}," != *",*,"* ]] || return 0
  [ -z "$(find -H "$1" -maxdepth 0 -perm -o=w)" ] || return 1
  undo_owned "$1/." && return 0
  # On a file system that gives all files to one user this is theirs, too. The open file is asked, a new one of a name that nobody knew:
  # whose the folder is can put a file of theirs under a name that they have seen.
  made=$(mktemp -u "$1/.owner-XXXXXX") && owner=$(set -C; exec 2>/dev/null; stat -L -c %u /dev/fd/9 9>"$made") || return 1
  rm -f "$made"
  [ "$owner" = "$(stat -L -c %u "$1")" ]
}

# undo_steps_to PATH: all folders and links on the way to it, and itself, into undo_steps. Fails where links go round.
undo_steps_to() {
  local rest=$1/ at= part links=40
  undo_steps=(/)
  [[ $rest == /* ]] || rest=$PWD/$rest
  while [ -n "$rest" ]; do
    part=${rest%%/*} rest=${rest#*/}
    case $part in ''|.) continue ;; ..) at=${at%/*}; continue ;; esac
    undo_steps+=("$at/$part")
    if [ -L "$at/$part" ]; then
      (( links-- )) || return 1
      part=$(readlink "$at/$part") rest=$part/$rest
      [[ $part != /* ]] || at=
    else
      at=$at/$part
    fi
  done
}

# undo_planted PATH: whether another user has put it, or a folder or link above it, into a folder for everybody: they can put another there.
undo_planted() {
  local at undo_steps
  undo_steps_to "$1" || return 0
  for at in "${undo_steps[@]}"; do
    { [ -e "$at" ] || [ -L "$at" ]; } && ! undo_owned "$at" && [ -n "$(find -H "$(dirname "$at")" -maxdepth 0 -perm -o=w)" ] && return 0
  done
  return 1
}

# undo_replaced PLACE: others_can_replace of undo_hpc/system/ownership.py in shell: whether others can put something in place of what we make there.
undo_replaced() {
  local trust=",${UNDO_TRUST//[[:space:]]/}," at undo_steps mode group name
  [[ $trust != *",*,"* ]] || return 1
  undo_planted "$1" && return 0
  undo_steps_to "$1"
  for at in "${undo_steps[@]}"; do
    [ -d "$at" ] || continue
    read -r mode _ < <(LC_ALL=C ls -ldL "$at") && read -r group name < <(stat -L -c '%g %G' "$at") || return 0
    case $mode in
      ?????w???[tT]*|????????w[tT]*) undo_owned "$at/." || return 0 ;;  # whose it is may do so
      ????????w*|?????w????+*) return 0 ;;  # everybody, or whom an access control list names
      ?????w*) [[ $trust == *",@${name//[[:space:]]/},"* ]] || undo_private "$group" "$name" || return 0 ;;
    esac
  done
  return 1
}
# Whether a group is that of this user alone, as many systems make one for each.
undo_private() {
  local me; me=$(id -un 2>/dev/null) && [ "$1 $2" = "$(id -g) $me" ] && [[ $(getent group "$1") =~ ^[^:]*:[^:]*:[^:]*:("$me")?$ ]]
}

# undo_unpack TO ARCHIVE CODE: on one node, packages and code on its own disk. The first task does it, others wait for it at the lock; what was
# not finished is done again. Fails where it cannot be: no such folder, another's folder, disk full, an archive that changed.
undo_unpack() {
  local top=$1/undo-$(id -u) archive=$2 code=$3 name place sum states wanted=
  umask 077
  # A folder where others may rename what is there, or above, is no place for programs, nor one of another user, who may do so, sticky or not.
  ! undo_replaced "$1" || return 1
  # Asked once: a link to a folder of ours and a folder of theirs, changed for each other meanwhile, would pass two questions.
  mkdir -p -m 700 "$top" && [[ $(stat -c '%u %f' "$top") =~ ^"$(id -u)"\ 4.c0$ ]] || return 1
  name=$(undo_staged_name "$archive") && place=$top/$name || return 1
  exec 9>"$top/.lock" && flock -w 1800 9 || return 1
  if [ ! -e "$place/.complete" ]; then
    rm -rf "$place" "$place.tmp" "$place.pipe"
    mkdir "$place.tmp" && mkfifo "$place.pipe" || return 1
    sha256sum <"$place.pipe" >"$place.tmp/.sha256" & sum=$!
    tee "$place.pipe" <"$archive" | tar -x -C "$place.tmp" -f -
    states=${PIPESTATUS[*]}; wait $sum; rm -f "$place.pipe"
    # The launcher names its archive by what it holds; beside a site's own lies a file that says it.
    if [[ ${archive##*/} =~ ^environment-([0-9a-f]{64})\.tar$ ]]; then wanted=${BASH_REMATCH[1]}
    elif [ -e "$archive.sha256" ]; then wanted=$(cut -c1-64 <"$archive.sha256")
    fi
    if [ "$states" != "0 0" ] || { [ -n "$wanted" ] && [ "$(cut -c1-64 <"$place.tmp/.sha256")" != "$wanted" ]; }; then
      rm -rf "$place.tmp"; return 1
    fi
    sync -f "$place.tmp"; touch "$place.tmp/.complete" && mv "$place.tmp" "$place" || return 1
    undo_say "unpacked $archive on $(hostname): $(du -sh "$place" | cut -f1) in $SECONDS s"
  fi
  if [[ ${code##*/} =~ ^[0-9a-f]{12}$ ]] && ! { [ -d "$top/${code##*/}" ] && undo_check_code "$top/${code##*/}"; }; then
    rm -rf "$top/${code##*/}" "$top/${code##*/}.tmp"
    mkdir "$top/${code##*/}.tmp" && cp -r --preserve=timestamps "$code/undo_hpc" "$top/${code##*/}.tmp/" && mv "$top/${code##*/}.tmp" "$top/${code##*/}" || return 1
  fi
  touch "$place/.complete" "$top/${code##*/}" 2>/dev/null
  # What nobody has used for two weeks, of environments and code.
  find "$top" -mindepth 2 -maxdepth 2 -name .complete -mtime +14 -printf '%h\0' | xargs -0 -r rm -rf
  find "$top" -mindepth 1 -maxdepth 1 -type d -regextype posix-extended -regex '.*/[0-9a-f]{12}' -mtime +14 -print0 | xargs -0 -r rm -rf
  return 0
}
undo_staged_name() { local size; size=$(stat -L -c %s-%Y "$1") && echo "$(basename "$1" .tar)-$size"; }

# undo_stage: sets undo_paths, the folders that this job's tasks import from: copies on its nodes' own disks, where `stage_to` asks for them.
undo_stage() {
  undo_paths=${UNDO_CODE:-}
  [ -n "${UNDO_STAGE_TO:-}" ] || return 0
  local top=$UNDO_STAGE_TO/undo-$(id -u) code=${UNDO_CODE:-}
  local work="$(declare -f undo_unpack undo_replaced undo_private undo_planted undo_steps_to undo_owned undo_staged_name undo_check_code undo_say)"$'\n''undo_unpack "$@"'
  if [ "${SLURM_JOB_NUM_NODES:-1}" -gt 1 ]; then
    srun --export=ALL --mpi=none --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 bash -c "$work" stage "$UNDO_STAGE_TO" "$UNDO_STAGE_ARCHIVE" "$code" &
  else
    bash -c "$work" stage "$UNDO_STAGE_TO" "$UNDO_STAGE_ARCHIVE" "$code" &
  fi
  undo_wait $! || { undo_say "nothing can be staged to $UNDO_STAGE_TO (no such folder, another user's, one where others can rename what is there, or full?): imports come from the shared file system"; return 0; }
  [[ ${code##*/} =~ ^[0-9a-f]{12}$ ]] && code=$top/${code##*/}
  undo_paths=${code:+$code:}$top/$(undo_staged_name "$UNDO_STAGE_ARCHIVE")
}

# An empty entry of a list of folders, as `export PYTHONPATH=$PYTHONPATH:/site` makes one, is the working folder, for Python also in safe path
# mode: there another user may have put a torch.py, a library, or a `stat`. Before any program, and behind whatever sets such a list.
undo_lists() {
  local name all
  for name in PATH LD_LIBRARY_PATH PYTHONPATH; do
    [ -n "${!name:-}" ] || continue
    all=":${!name}:"
    while [[ $all == *::* ]]; do all=${all//::/:}; done
    all=${all#:}; printf -v "$name" %s "${all%:}"
  done
}

# undo_import_from FOLDERS: they come first in PYTHONPATH. No bytecode comes from a place where others can put theirs.
undo_import_from() {
  export PYTHONPATH="$1:${PYTHONPATH:-}"; undo_lists
  local place=${PYTHONPYCACHEPREFIX:-}
  [ -z "$place" ] || { undo_own "$place/." && [ -d "$place" ] && ! undo_replaced "$place" && [ -z "$(find -H "$place" -maxdepth 0 -perm /022)" ]; } ||
    [[ ",${UNDO_TRUST//[[:space:]]/}," == *",*,"* ]] || unset PYTHONPYCACHEPREFIX
}

# undo_task STAGE RUN_DIR ITERATION [OFFSET [GROUP [TOTAL]]]
# Array element A runs the tasks (A + OFFSET) * GROUP and the GROUP - 1 behind it, below TOTAL. With GROUP 0 the array was submitted
# before its iteration was planned: A runs the tasks A, A + OFFSET, A + 2 * OFFSET, ... until the worker says that there is none (4).
# Exit codes: 0 complete; 75 saved, start me again; 3 work left over; 2 wrong input; 1 failed.
undo_task() {
  local stage=$1 run_dir=$2 iteration=$3 offset=${4:-0} group=${5:-1} total=${6:-0}
  set +euf  # a user's setup lines may have set them, and a step's exit code must not end this script
  undo_lists
  local first=$(( (${SLURM_ARRAY_TASK_ID:-0} + offset) * group )) index code try worst=0 stride=1 ahead=
  local last=$(( first + group - 1 ))
  [ "$total" -gt 0 ] && [ "$last" -ge "$total" ] && last=$(( total - 1 ))
  [ "$group" -gt 0 ] || { first=${SLURM_ARRAY_TASK_ID:-0} last=$(( 10 ** 9 )) stride=$offset ahead=--ahead; }
  local range=$first${ahead:+, $(( first + stride )), ...}; [ -n "$ahead" ] || range+=-$last
  undo_own "$run_dir" && ! undo_planted "$run_dir" || {
    undo_say "$run_dir, or what it lies in, belongs to another user, or every user can write there; nothing was run. What UNDO_TRUST is for: docs/security.md"; exit 2; }
  undo_stage
  undo_check_code "${undo_paths%%:*}" || {
    undo_say "$UNDO_CODE is not the code that was submitted any more; nothing was run. The launcher's command copies it again"; exit 2; }
  local python=${UNDO_PYTHON:-python3}
  undo_import_from "$undo_paths"
  # Safe path: the folder that the job was submitted from must not hide the code it was submitted with.
  export PYTHONUNBUFFERED=1 PYTHONSAFEPATH=1
  export OMP_NUM_THREADS=${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}  # where no cgroup says what is ours
  # In a container nobody can ask SLURM for the end of this job.
  [ ${#UNDO_SRUN[@]} -gt 0 ] || [ ${#UNDO_INSIDE[@]} -gt 0 ] &&
    export UNDO_JOB_END=${SLURM_JOB_END_TIME:-$(SLURM_TIME_FORMAT=%s squeue -h -j "$(undo_job_id)" -o %e 2>/dev/null)}
  undo_terminated=0
  trap undo_on_term TERM
  trap : CONT USR1 USR2
  undo_say "$stage $iteration $range: job $(undo_job_id), start ${SLURM_RESTART_COUNT:-0}, on ${SLURM_JOB_NODELIST:-?}"
  for (( index = first; index <= last; index += stride )); do
    # What asks to save is heard by steps only: a pause in this moment would pass unheard.
    [ -e "$run_dir/PAUSED" ] && { undo_say "the run is paused: $stage $index is not started"; exit 3; }
    # A step of its own: at the start of a grace time SLURM signals steps only, not this shell.
    # srun inherits neither the environment (after --export=NAMES) nor, since 22.05, the CPUs a task.
    for try in 1 2 3; do
      SLURM_EXIT_ERROR=71 srun --export=ALL --kill-on-bad-exit=1 --wait=0 ${SLURM_CPUS_PER_TASK:+--cpus-per-task=$SLURM_CPUS_PER_TASK} "${UNDO_SRUN[@]}" \
        "${UNDO_INSIDE[@]}" "$python" -m undo_hpc.worker "$run_dir" "$stage" --iteration "$iteration" --index "$index" $ahead &
      undo_wait $!; code=$(undo_meaning $?)
      [ "$code" = 71 ] || break
      # No step, as when the controller was down just now: not the task's failure.
      code=1
      [ "$undo_terminated" = 0 ] && [ "$(undo_state)" = RUNNING ] && undo_say "srun started no step; once more" || break
    done
    [ "$code" = 4 ] && { code=0 last=$index; break; }  # its share is done
    [ "$code" -gt "$worst" ] && worst=$code
    [ "$code" = 75 ] || [ "$undo_terminated" = 1 ] || { [ -n "$ahead" ] && [ "$code" != 0 ]; } && break
  done
  undo_say "$stage $iteration $range: exit code $worst"
  if [ "$code" = 75 ] || { [ "$undo_terminated" = 1 ] && [ "$index" -lt "$last" ]; }; then
    undo_requeue "$run_dir" && exit 75
    exit 3
  fi
  # Killed (137: out of memory), or failed for a reason that may pass (1). SLURM restarts a job whose node died by itself.
  if [ "$undo_terminated" = 0 ] && { [ "$worst" = 1 ] || [ "$worst" -gt 75 ]; } && [ "${SLURM_RESTART_COUNT:-0}" -lt "${UNDO_TRIES:-0}" ]; then
    undo_say "nothing behind $stage would continue the run: it starts again"
    undo_requeue "$run_dir" && exit 75
  fi
  # SLURM is ending this job, and decides alone whether it starts again; srun's word is worth nothing then.
  if [ "$undo_terminated" = 0 ]; then undo_leave
  elif [ $(( SECONDS - undo_terminated_at )) -lt "${UNDO_KILL_WAIT:-30}" ]; then undo_restart_in "${UNDO_RESTART_DELAY:-3}"
  fi  # else some process did not end by itself, and may take as long as undo_on_term allows for
  exit "$worst"
}

# undo_by_hand STAGE RUN_DIR ITERATION [INDICES]: outside of a job, submits the stage as the run's profile says, and ends.
undo_by_hand() {
  [ -n "${SLURM_JOB_ID:-}" ] && return
  undo_import_from "$UNDO_CODE"
  exec "$UNDO_PYTHON" -P -m undo_hpc.control.by_hand "$@"
}

# undo_modules NAME...: `module` is a function of login shells, which --export=NAMES leaves out.
undo_modules() {
  type module >/dev/null 2>&1 || source /etc/profile
  module load "$@" || { undo_say "module load $* failed"; exit 2; }
  undo_lists
}

undo_lists
