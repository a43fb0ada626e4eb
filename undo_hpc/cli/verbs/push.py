"""Publishes the distilled sets, the predictions and the chosen student of a run on the Hugging Face Hub.

Only what differs is sent; the same command again resumes a push that stopped. Repositories are made private unless hub.private is false.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from undo_hpc.cli.common import path_argument

if TYPE_CHECKING:
    from rich.console import Console

EXAMPLE = """examples:
  undo-hpc push checkpoints/tiny --dataset-repo me/undo-data --model-repo me/undo-student
  undo-hpc push checkpoints/tiny --dry-run      what would be sent; asks nobody
  undo-hpc push checkpoints/tiny --public       make new repositories public
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    parser.add_argument("run_dir", type=path_argument, help="the run directory")
    parser.add_argument(
        "--dataset-repo", metavar="ID", help="repository of data and predictions (default: hub.dataset_repo)"
    )
    parser.add_argument(
        "--model-repo", metavar="ID", help="repository of the student (default: hub.model_repo)"
    )
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--public", action="store_true", help="publish for all (default: hub.private)")
    choice.add_argument("--private", action="store_true", help="publish for yourself (default: hub.private)")
    parser.add_argument("--dry-run", action="store_true", help="list what would be sent; asks nobody")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Pushes and says what was sent."""
    from undo_hpc.hub.contents import packages
    from undo_hpc.hub.push import push
    from undo_hpc.models.resolve import require_repository
    from undo_hpc.pipeline.run import Run, open_run, require_trusted_run
    from undo_hpc.system.ownership import others_who_write
    from undo_hpc.system.wording import counted

    if not arguments.dry_run:
        require_trusted_run(arguments.run_dir)  # its configuration says which token is sent, and to whom
        for said in others_who_write(arguments.run_dir.resolve()):
            console.print(f"warning: {said}", highlight=False, markup=False, soft_wrap=True)
    opened = open_run(arguments.run_dir)
    hub = opened.config.hub
    changes = {"dataset_repo": arguments.dataset_repo, "model_repo": arguments.model_repo}
    given = {key: value for key, value in changes.items() if value is not None}
    if arguments.public or arguments.private:
        given["private"] = arguments.private
    if given:
        opened = Run(opened.layout, opened.config.model_copy(update={"hub": hub.model_copy(update=given)}))
    require_repository("--dataset-repo", opened.config.hub.dataset_repo)
    require_repository("--model-repo", opened.config.hub.model_repo)
    if arguments.dry_run:
        found = packages(opened)
        for package in found:
            console.print(f"{package.kind} {package.repo}: {package.message}", highlight=False)
            for item in package.items:
                console.print(f"  {item.path}  {item.size:,} bytes", highlight=False)
        if not found:
            console.print("nothing: no repository is named, or no iteration is merged yet", highlight=False)
        return 0
    done = push(opened)
    console.print(f"{counted(done.sent, 'file')} sent, {done.same:,} already there", highlight=False)
    for url in done.urls:
        console.print(f"  {url}", highlight=False, soft_wrap=True)
    return 0
