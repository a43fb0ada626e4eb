"""Benchmarks: one YAML file each, and the loader. A test set never chooses anything; it is only measured on."""

from undo_hpc.data.benchmarks.loader import Benchmark, benchmark_names, load_benchmark

__all__ = ["Benchmark", "benchmark_names", "load_benchmark"]
