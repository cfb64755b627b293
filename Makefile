# make demo: install into .venv, run the tour, say where its report lies.
# make test: install with the test extras and the CUDA kernels' host shim into .venv-test, run the whole suite on all
# cores, up to four.
# Both need only Python 3.11 or newer and a C++ compiler, and fetch the compiler themselves when run as root.

PYTHON ?= python3
PIP = -m pip install --quiet --disable-pip-version-check -c tests/constraints.txt
SOURCES := $(shell find cli csrc datasets fields meshing renderers training -type f \
	-not -path '*/__pycache__/*') pyproject.toml tests/constraints.txt

# OpenMP threads that spin stall a busy machine; -P keeps the folders here from hiding packages of their names.
export OMP_WAIT_POLICY ?= passive
export PYTHONSAFEPATH = 1

.PHONY: demo test lint bench tools clean

demo: .venv/installed
	.venv/bin/polyfield demo --out demo --overwrite

test: .venv-test/installed
	OMP_NUM_THREADS=1 .venv-test/bin/python -m pytest -n auto --maxprocesses 4 --dist worksteal

lint: .venv-test/installed
	.venv-test/bin/ruff check .
	.venv-test/bin/ruff format --check .
	cd .venv-test && bin/mypy --config-file ../pyproject.toml -p polyfield

bench: .venv-test/installed
	.venv-test/bin/python benchmarks/kernels.py --json build/kernels.json

.venv/installed: $(SOURCES) | tools
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python $(PIP) .
	touch $@

.venv-test/installed: $(SOURCES) | tools
	test -x .venv-test/bin/python || $(PYTHON) -m venv .venv-test
	.venv-test/bin/python $(PIP) -C cmake.define.POLYFIELD_CUDA_SHIM=ON '.[dev,oracles]'
	touch $@

tools:
	@PYTHON=$(PYTHON) sh csrc/tools.sh

clean:
	rm -rf .venv .venv-test build demo
