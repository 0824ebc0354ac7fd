# Two commands for a new machine with Python 3.11: `make run` and `make test`. Everything lives in .venv and dataset/.
# With another Python, such as `make PYTHON=python3.13 test`, the newest of everything is installed, in .venv-python3.13.
PYTHON ?= python3.11
NAME   := $(notdir $(PYTHON))
VENV   := .venv$(if $(filter-out python3.11,$(NAME)),-$(NAME))
PINS   ?= $(if $(filter python3.11,$(NAME)),constraints.txt,constraints-newest.txt)
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# pyenv has no command for a Python that is there and not chosen
FOUND   = $(shell $(PYTHON) -c 'import sys; print(sys.executable)' 2>/dev/null || ls $${PYENV_ROOT:-$$HOME/.pyenv}/versions/*/bin/$(NAME) 2>/dev/null | tail -1)

# Compiled modules are kept, whatever the environment says: a process that imports PyTorch would compile for half a minute otherwise.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install run try table benchmark benchmark-long benchmark-quick test test-without-kernels lint docs docs-test notebooks audit licences clean
install: $(STAMP)

# mamba-ssm and causal-conv1d without their compiled CUDA parts: the Triton kernels are what the tests run. RecBole without
# what it demands, which is not to be had from Python 3.12 on; what it needs is there by then.
PIP     = $(BIN)/pip install --quiet --no-compile
$(STAMP): $(PINS) pyproject.toml
	@test -n "$(FOUND)" || { echo "error: there is no $(PYTHON) here: install it, or say where it is: make PYTHON=/path/to/$(NAME)" >&2; exit 2; }
	$(FOUND) -m venv $(VENV)
	$(PIP) --upgrade 'pip<27'
	$(PIP) $(addprefix -c ,$(PINS)) wheel ninja setuptools
	$(PIP) $(addprefix -c ,$(PINS)) -e '.[dev,tune]' einops
	$(PIP) --no-deps $(addprefix -c ,$(PINS)) 'recbole<1.3'
	$(PIP) --upgrade --no-deps $(addprefix -c ,$(PINS)) ray # RecBole's old one, where it came first, does not know NumPy 2
	MAMBA_FORCE_BUILD=TRUE MAMBA_SKIP_CUDA_BUILD=TRUE CAUSAL_CONV1D_FORCE_BUILD=TRUE CAUSAL_CONV1D_SKIP_CUDA_BUILD=TRUE \
	$(PIP) --no-build-isolation --no-deps $(addprefix -c ,$(PINS)) mamba-ssm causal-conv1d \
	> $(VENV)/kernels.log 2>&1 || { cat $(VENV)/kernels.log; exit 1; }
	$(BIN)/python -c 'from recbole_mmm4rec.network.ops.loops.seqscan import compile_all; compile_all()'
	touch $@

# From nothing to MMM4Rec's test metrics on MovieLens 100K, beside those of RecBole's Pop and of counts without a network.
run: install
	$(BIN)/python -m dataset_prep recbole ml-100k
	$(BIN)/python -m dataset_prep embed ml-100k
	$(BIN)/python run_recbole.py --model=MMM4Rec --dataset=ml-100k --config_files=properties/model/MMM4Rec-small.yaml --baselines=Pop,Neighbours

# The wheel as a user has it: built, installed into a new environment with the pins (`make PINS= try`: with the newest that pip
# finds), and run in an empty folder; prints versions and test metrics. KEEP names a folder for the environment; `make install`
# adds to it if it is its own: `make PYTHON=python3.13 KEEP=.venv-python3.13 try test-without-kernels` installs PyTorch once.
try:
	PYTHON="$(FOUND)" PINS="$(PINS)" KEEP="$(KEEP)" bash benchmarks/try_wheel.sh

# For each Python: the wheel tried and the tests outside the kernels, with the newest of everything that pip finds for each.
PYTHONS ?= python3.10 python3.12 python3.13
table:
	for name in $(PYTHONS); do room=.venv-newest-$$name; \
	$(MAKE) PYTHON=$$name PINS= VENV=$$room KEEP=$$room try test-without-kernels || exit 1; done

# The tables of docs/results.md. DATA is the folder of data sets (docs/data.md, "For the benchmarks"). Killed or interrupted, the same
# command goes on. Results: comparison/NAME. `make benchmark` is to take less than three hours on two cores, `make benchmark-long` the rest of a day.
COMPARE := $(BIN)/python -m recbole_mmm4rec.compare
SETS    := bash benchmarks/prepare_sets.sh $(BIN)/python "$(DATA)"
compared = failed=0; for name in $(1); do \
	$(COMPARE) --config properties/compare/$$name.yaml --jobs 2 || failed=$$?; test $$failed -lt 2 || exit $$failed; done; exit $$failed
benchmark: install
	$(SETS) scientific office demo
	$(call compared,scientific demo)
benchmark-long: install
	$(SETS) scientific office beauty-2014 toys-2014 games-2018 ml-1m shops shops-films online-retail online-retail-30 ml-100k ml-100k-posters ml-1m-30 ml-1m-posters
	$(BIN)/python -m benchmarks.feature_variants dataset/ml-1m-30
	$(call compared,ml-100k transfer transfer-small ablation protocols cold modalities fusion)

# The same at reduced size, without any file (4 min 24 s on two cores of an Intel Xeon before the rivals came in, installation not counted). Results: comparison/quick.
benchmark-quick: install
	$(BIN)/python -m dataset_prep recbole ml-100k
	$(BIN)/python -m dataset_prep embed ml-100k
	$(BIN)/python -m dataset_prep demo --name demo-small --users 1000 --items 480
	$(BIN)/python -m dataset_prep embed demo-small --text-encoder all-MiniLM-L6-v2 --image-encoder efficientnet-lite0
	$(COMPARE) --config properties/compare/quick.yaml --jobs 2

# Types are checked where NumPy's and pandas' stubs are the pinned ones: other versions' say other things of the same code.
lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(if $(filter python3.11,$(NAME)),$(BIN)/mypy)
	$(BIN)/codespell --skip 'docs/_*' recbole_mmm4rec dataset_prep benchmarks properties tests/conftest.py tests/helpers docs examples *.md

test: lint
	$(BIN)/python -m pytest $(WORKERS)

# All but the tests of mamba-ssm's kernels, which Triton's interpreter runs; CI also leaves out those that say nothing about a Python.
MARKS := not kernels
test-without-kernels: install
	$(BIN)/python -m pytest $(WORKERS) -m '$(MARKS)'

# The site of the pages, docs/_build/html/index.html; a warning is an error.
docs: install
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo docs/_build/html/index.html

# Every command and Python block of README and docs, and the examples, at small size; PAGES='tuning or serving' names some.
docs-test: docs
	$(BIN)/python -m pytest -n auto tests/docs/run_pages.py -k '$(PAGES)'

# The outputs that the notebooks of examples/ are stored with (half an hour on two cores).
notebooks: install
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/jupyter-execute --inplace examples/*.ipynb

WORKERS := -n auto --dist loadfile --no-loadscope-reorder

# Known defects of what is installed, by pip-audit, which asks PyPI's list; and the licences of it (docs/licences.md).
audit: install
	$(VENV)/audit/bin/python -c '' 2>/dev/null || { $(FOUND) -m venv $(VENV)/audit && $(VENV)/audit/bin/pip install --quiet pip-audit; }
	$(BIN)/pip freeze --exclude-editable > $(VENV)/audit.txt
	$(VENV)/audit/bin/pip-audit --no-deps --disable-pip -r $(VENV)/audit.txt

licences: install
	$(BIN)/python .ci/licences.py

clean:
	rm -rf docs/_build docs/_made .venv .venv-* build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
