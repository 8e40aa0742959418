# make demo and make test do everything from a fresh clone; make setup is what both use.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test lint methods bench accounting compare-demo docs notebooks

setup: .venv/.ready

.venv/.ready: pyproject.toml uv.lock
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	$(BIN)/uv sync --quiet --locked --compile-bytecode
	touch $@

demo: setup
	$(BIN)/attnpool demo

compare-demo: setup
	$(BIN)/attnpool compare --config examples/compare-demo.yaml
	$(BIN)/attnpool report runs/compare-demo -o runs/compare-demo/report.html --overwrite

test: setup
	$(BIN)/pytest -n 2 --dist worksteal

methods: setup
	$(BIN)/python benchmarks/methods.py

bench: setup
	$(BIN)/python benchmarks/speed.py

accounting: setup
	$(BIN)/python benchmarks/accounting.py

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

notebooks: setup
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/notebooks.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
