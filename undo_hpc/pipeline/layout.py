"""Where each thing lies in a run directory, and nothing else. No code elsewhere joins these names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """The paths of a run. Names given to `relative` are what manifests hold."""

    root: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.root / "config.resolved.json"

    @property
    def environment(self) -> Path:
        """Versions, git revision, host and seeds."""
        return self.root / "environment.json"

    @property
    def events(self) -> Path:
        """What happened to the run as a whole."""
        return self.root / "events.jsonl"

    @property
    def logs(self) -> Path:
        """Tracebacks of commands that failed unexpectedly. What tasks print lies in their iteration."""
        return self.root / "logs"

    @property
    def submissions(self) -> Path:
        """Intents and job ids of all that was handed to a cluster."""
        return self.root / "submissions.jsonl"

    @property
    def lease(self) -> Path:
        """Held by the launcher (or by advance) while it plans and submits."""
        return self.root / "launcher.lease"

    @property
    def code(self) -> Path:
        """The snapshot of the code that the run was submitted with."""
        return self.root / "code"

    @property
    def profile(self) -> Path:
        """The cluster's profile as the run was submitted with."""
        return self.root / "profile.resolved.json"

    @property
    def campaign(self) -> Path:
        """The command of the campaign that the run belongs to."""
        return self.root / "campaign.json"

    @property
    def own_prompts(self) -> Path:
        """The copies of a user's own prompt folders."""
        return self.root / "own_prompts"

    @property
    def paused(self) -> Path:
        """Stands while the run is paused: no job of it starts again. The prelude of jobs knows this name too."""
        return self.root / "PAUSED"

    def exported(self, name: str, number: int) -> Path:
        """What `undo-hpc export` writes of an iteration in a format."""
        return self.root / "exports" / f"{name}-iter_{number:03d}"

    @property
    def report(self) -> Path:
        """The folder of the report."""
        return self.root / "report"

    @property
    def report_page(self) -> Path:
        """The report as a page."""
        return self.report / "index.html"

    @property
    def pushed(self) -> Path:
        """What was published, and when."""
        return self.root / "hub.json"

    @property
    def splits(self) -> Path:
        """Folder of the frozen problems: train, diagnosis, validation."""
        return self.root / "splits"

    def split(self, name: str) -> Path:
        """Problems of a split, one JSON row each."""
        return self.splits / f"{name}.jsonl"

    @property
    def rationales(self) -> Path:
        """Rationales that existed before the run, a row for each training problem that has some."""
        return self.splits / "rationales.jsonl"

    @property
    def prepared(self) -> Path:
        """The manifest of splits and benchmarks."""
        return self.splits / "manifest.json"

    @property
    def rejected(self) -> Path:
        """The rows that could not be used, with the reason."""
        return self.splits / "rejected.jsonl"

    def rejected_of(self, name: str) -> Path:
        """Every row of an added set that was not used, with the reason; no such file where there is none."""
        return self.splits / f"rejected-{name}.jsonl"

    def benchmark(self, name: str) -> Path:
        """Problems of a benchmark, frozen."""
        return self.root / "benchmarks" / f"{name}.jsonl"

    def added_manifest(self, name: str) -> Path:
        """The manifest of a set that was added to the run (`evaluate.added`)."""
        return self.benchmark(name).with_suffix(".manifest.json")

    def iteration(self, number: int) -> IterationLayout:
        """The paths of one iteration."""
        return IterationLayout(self.root, number)

    def superseded(self, number: int, stamp: str) -> Path:
        """Where an iteration is moved whose inputs have changed."""
        return self.root / "superseded" / f"iter_{number:03d}-{stamp}"

    def superseded_folders(self) -> list[tuple[int, Path]]:
        """The iterations that were moved away: number and folder, in the order of their names."""
        found = sorted(self.root.glob("superseded/iter_[0-9][0-9][0-9]-*"))
        return [(int(path.name[5:8]), path) for path in found]

    def damaged(self, path: Path) -> Path:
        """Where a damaged file is set aside, beside its place."""
        return path.with_name(f"{path.name}.damaged")

    def iterations(self) -> list[int]:
        """Numbers of the iterations that have begun: up to the last that has a plan, also where a plan before it was deleted. Jobs of
        later ones may be queued, so that their folders are there (control/ahead.py)."""
        numbers = sorted(int(path.name[5:]) for path in self.root.glob("iter_[0-9][0-9][0-9]"))
        planned = [number for number in numbers if self.iteration(number).plan.exists()]
        return [number for number in numbers if planned and number <= planned[-1]]

    def folders(self) -> list[Path]:
        """Those that hold further folders, whether they are there or not; also of iterations that have not begun."""
        numbers = [int(path.name[5:]) for path in self.root.glob("iter_[0-9][0-9][0-9]")]
        each = [folder for at in map(self.iteration, numbers) for folder in (at.root, at.train)]
        return [self.root, self.report, self.exported("", 0).parent, self.code, *sorted(each)]

    def with_servers(self) -> list[int]:
        """Numbers of the iterations in which servers of the run have published themselves."""
        return sorted(int(path.parent.name[5:]) for path in self.root.glob("iter_[0-9][0-9][0-9]/serve"))

    def relative(self, path: Path) -> str:
        """A path as manifests hold it."""
        return path.relative_to(self.root).as_posix()


@dataclass(frozen=True)
class IterationLayout:
    """The paths of an iteration."""

    run: Path
    number: int
    moved_to: Path | None = None  # of one that was set aside

    @property
    def root(self) -> Path:
        """The iteration's folder."""
        return self.moved_to or self.run / f"iter_{self.number:03d}"

    @property
    def plan(self) -> Path:
        """The frozen plan: how many tasks each stage has, and what each does."""
        return self.root / "plan.json"

    @property
    def logs(self) -> Path:
        """What tasks print."""
        return self.root / "logs"

    def log(self, stage: str, index: int) -> Path:
        """Log of a task on the local cluster."""
        return self.logs / f"{stage}-{index:05d}.log"

    @property
    def events_folder(self) -> Path:
        """Events of all tasks."""
        return self.root / "events"

    def job_log(self, stage: str, job: str) -> Path:
        """Log of a SLURM job, or of a task of an array (JOB_TASK)."""
        return self.logs / f"{stage}-{job}.log"

    def events(self, stage: str, index: int) -> Path:
        """Events of one task (a file of its own: no two nodes append to one)."""
        return self.events_folder / f"{stage}-{index:05d}.jsonl"

    def progress(self, stage: str, index: int) -> Path:
        """How far a task is (training writes its own, beside its metrics)."""
        if stage == "train":
            return self.train / "progress.json"
        return self.root / "progress" / f"{stage}-{index:05d}.json"

    @property
    def leases(self) -> Path:
        """Leases of all tasks."""
        return self.root / "leases"

    def lease(self, stage: str, index: int) -> Path:
        """Who may publish a task's outputs."""
        return self.leases / f"{stage}-{index:05d}.lease"

    def meeting(self, stage: str, index: int) -> Path:
        """Where the nodes of a task that is spread over several find each other."""
        return self.leases / f"{stage}-{index:05d}.nodes.json"

    @property
    def targets(self) -> Path:
        """What the teacher is asked: a file for each task of generate."""
        return self.root / "targets"

    def targets_file(self, index: int, folder: Path | None = None) -> Path:
        """The targets of one task of generate; `folder` is where they are being made."""
        return (folder or self.targets) / f"shard-{index:05d}.jsonl"

    def answers(self, stage: str) -> Path:
        """Folder of all answers of generate, evaluate or baseline."""
        return self.root / stage

    def shard(self, stage: str, index: int, problem_set: str = "") -> Path:
        """Final rows of an array's task; `problem_set` is the benchmark or split in an evaluation."""
        return self.answers(stage) / problem_set / f"shard-{index:05d}.jsonl"

    def shard_names(self, stage: str, index: int) -> tuple[str, str]:
        """`shard` and its `manifest_of` as manifests hold them: plain text, for ten thousand at once."""
        folder = f"iter_{self.number:03d}/{stage}/"
        return f"{folder}shard-{index:05d}.jsonl", f"{folder}shard-{index:05d}.manifest.json"

    def parts(self, shard: Path) -> Path:
        """Folder of a shard's rows while it is being made, one file a start."""
        return shard.with_name(shard.stem + ".parts")

    def part(self, shard: Path, number: int, basis: str, start: str) -> Path:
        """The rows of one start: `basis` stands for the inputs that they come from, `start` is a name of its own."""
        return self.parts(shard) / f"{number:03d}-{basis}-{start}.jsonl"

    def part_files(self, shard: Path, basis: str) -> list[Path]:
        """The rows of all starts with these inputs, oldest first."""
        return sorted(self.parts(shard).glob(f"*-{basis}-*.jsonl"))

    def manifest_of(self, shard: Path) -> Path:
        """The manifest beside a shard."""
        return shard.with_name(shard.stem + ".manifest.json")

    def shard_manifests(self, stage: str) -> list[Path]:
        """The manifests of all complete shards of a stage, in their order."""
        return sorted(self.answers(stage).glob("shard-*.manifest.json"))

    def task_manifest(self, stage: str, index: int) -> Path:
        """Manifest of an evaluation task, which may have answered several sets."""
        return self.answers(stage) / f"task-{index:05d}.manifest.json"

    def stage_manifest(self, stage: str) -> Path:
        """Manifest of a stage with a single task."""
        return self.root / f"{stage}.manifest.json"

    @property
    def distilled(self) -> Path:
        """The distilled set: parquet files and their card."""
        return self.root / "distilled"

    def distilled_file(self, index: int, folder: Path) -> Path:
        """A part of the distilled set, in the folder where it is being made."""
        return folder / f"distilled-{index:05d}.parquet"

    @property
    def distilled_card(self) -> Path:
        """The card of the distilled set."""
        return self.distilled / "README.md"

    @property
    def train(self) -> Path:
        """Checkpoints and training metrics."""
        return self.root / "train"

    @property
    def checkpoints(self) -> Path:
        """Training checkpoints, one folder a step; the newest stay when the training is complete."""
        return self.train / "checkpoints"

    def train_caches(self) -> list[Path]:
        """Encoded rows, kept while a training may start again."""
        return sorted(self.train.glob("encoded-*.npz"))

    @property
    def train_metrics(self) -> Path:
        """Loss and speed of the training, a row a logging step."""
        return self.train / "metrics.jsonl"

    @property
    def train_inputs(self) -> Path:
        """Digests of what the training began with."""
        return self.train / "inputs.json"

    def train_spec(self, rank: int) -> Path:
        """What a training was asked to do, for a rank that srun started."""
        return self.train / (f"spec-rank-{rank}.json" if rank else "spec.json")

    @property
    def student(self) -> Path:
        """The trained student, a Hugging Face directory."""
        return self.root / "student"

    @property
    def metrics(self) -> Path:
        """Accuracies, diagnosis, decision."""
        return self.root / "metrics.json"

    @property
    def feedback(self) -> Path:
        """What the next teacher sees, one row a problem."""
        return self.root / "feedback.jsonl"

    @property
    def predictions(self) -> Path:
        """The student's answers to the training problems beside the teacher's."""
        return self.root / "predictions.parquet"

    @property
    def chat(self) -> Path:
        """The distilled set in the `messages` chat format, by option."""
        return self.root / "chat.jsonl"

    @property
    def lm_eval(self) -> Path:
        """Results and samples in lm-evaluation-harness's shape."""
        return self.root / "lm_eval"

    @property
    def servers(self) -> Path:
        """Addresses that teacher servers publish."""
        return self.root / "serve"

    def server_files(self) -> list[Path]:
        """Addresses of all servers that have published one, by number."""
        return sorted(self.servers.glob("server-*.json"))

    def server(self, index: int) -> Path:
        """Address and heartbeat of a teacher server."""
        return self.servers / f"server-{index:05d}.json"

    @property
    def server_key(self) -> Path:
        """What the run's own servers ask their clients for where the user names no key; its owner alone can read it."""
        return self.servers / "key"

    def server_log(self, index: int) -> Path:
        """What a teacher server prints."""
        return self.server(index).with_suffix(".log")


def runs_page(folder: Path) -> Path:
    """The page over the runs of a folder (`undo-hpc list --html`)."""
    return folder / "index.html"


def distilled_files(folder: Path) -> list[Path]:
    """The parquet files of a distilled set, in order."""
    return sorted(folder.glob("distilled-*.parquet"))
