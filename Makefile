# Two commands for a new machine with Python 3.11: `make run` and `make test`. Everything lives in .venv and dataset/.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: install run test lint clean
install: $(STAMP)

# mamba-ssm and causal-conv1d without their compiled CUDA parts: the Triton kernels are what the tests run.
$(STAMP): setup.cfg constraints.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade 'pip<27'
	$(BIN)/pip install --quiet -c constraints.txt wheel ninja setuptools
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev,tune]' einops
	MAMBA_FORCE_BUILD=TRUE MAMBA_SKIP_CUDA_BUILD=TRUE CAUSAL_CONV1D_FORCE_BUILD=TRUE CAUSAL_CONV1D_SKIP_CUDA_BUILD=TRUE \
	$(BIN)/pip install --quiet --no-build-isolation --no-deps -c constraints.txt mamba-ssm causal-conv1d \
	> $(VENV)/kernels.log 2>&1 || { cat $(VENV)/kernels.log; exit 1; }
	touch $@

# From nothing to MMM4Rec's test metrics on MovieLens 100K, beside those of RecBole's Pop.
run: install
	$(BIN)/python -m dataset_prep recbole ml-100k
	$(BIN)/python -m dataset_prep embed ml-100k
	$(BIN)/python run_recbole.py --model=MMM4Rec --dataset=ml-100k --config_files=properties/model/MMM4Rec-small.yaml --baselines=Pop

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell recbole_mmm4rec dataset_prep benchmarks properties tests/*.py docs *.md

test: lint
	$(BIN)/python -m pytest

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
