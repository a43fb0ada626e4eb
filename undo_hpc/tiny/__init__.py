"""The tiny world: seeded word problems, a trained teacher and a base student, small enough for a demonstration on CPU."""

from __future__ import annotations

from pathlib import Path

__all__ = ["models_dir"]


def models_dir() -> Path:
    """The folder with the shipped models `teacher` and `student`, each a complete Hugging Face directory."""
    return Path(__file__).resolve().parent / "models"
