# Everything that is done with this checkout. `make help` lists it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TARGET := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
MATURIN := VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin
.DEFAULT_GOAL := help
.PHONY: help demo test build deps packages lint fmt fuzz bench wheel bare-root clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: build ## build everything and see it at work (no root, no NIC, no huge pages needed)
	$(BIN)/mvmp demo

test: build ## Rust tests, models of the rings, broken rules, then Python tests
	cargo test
	CARGO_TARGET_DIR=$(TARGET)/loom RUSTFLAGS="--cfg loom" cargo test -p mvmp-wire --release --test loom
	crates/mvmp-testkit/tests/negative_controls.sh
	$(BIN)/pytest

build: deps ## the Python package, release build, into .venv
	$(MATURIN) develop --release

deps: packages $(VENV)/.installed ## what is missing: packages (apt), and Python requirements in .venv

packages:
	@sh scripts/install_packages.sh

$(VENV)/.installed: requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	@touch $@

lint: deps ## formatting, clippy, ruff, mypy
	cargo fmt --all --check
	cargo clippy --all-targets -- -D warnings
	cargo clippy -p mvmp-py -- -D warnings
	$(BIN)/ruff check python tests examples
	$(BIN)/ruff format --check python tests examples
	$(BIN)/mypy python

fmt: deps ## reformat
	cargo fmt --all
	$(BIN)/ruff check --fix-only --quiet python tests examples
	$(BIN)/ruff format python tests examples

FUZZ_SECONDS ?= 600
fuzz: ## fuzz the parsers, FUZZ_SECONDS each (stable compiler, libFuzzer)
	nice -n 19 sh fuzz/run.sh $(FUZZ_SECONDS)

bench: build ## benchmarks: the parts, then the whole path; writes docs/performance.md (testpmd: apt install dpdk-dev)
	cargo bench -p mvmp-wire -p mvmp-policy -p mvmp-benches --bench parse --bench classify --bench ring --bench ledger -- --quick
	$(BIN)/python benches/parts.py $${CARGO_TARGET_DIR:-target}/criterion docs/performance.md
	cargo run --release -p mvmp-benches --bin whole_path -- --runs 5 --python $(BIN)/python --markdown docs/performance.md

wheel: deps ## dist/*.whl: self-contained, DPDK inside
	rm -f dist/*.whl
	$(MATURIN) build --release --out dist
	$(BIN)/auditwheel show dist/*.whl

bare-root: wheel ## install that wheel in a bare Debian root and run it there as nobody (root)
	sh tests/wheel_in_bare_root.sh

clean: ## what was built (not .venv)
	cargo clean
	rm -rf dist python/mvmp/*.so
