# make demo    train (or take) an ELMo, export, verify, embed, and draw one word in many sentences
# make test    lint, then every test, on all cores
# make fast    the tests without the slow ones, for use while you work
# make coverage         pytest with the coverage of the three packages, and its floor
# make lint    ruff, mypy, import rules, clang-format and the warnings of the C++ compiler
# make wheel            the sdist and the wheel that PyPI takes, checked and installed, in dist/
# make demo-bundle      the bundle in elmo_deploy/demo again, after a change of models/english-small
# make extras           that wheel in a clean environment per extra, and there what the docs state
# make docs             the documentation into site/; a broken link is an error
# make guarantees         the guarantees, and their figures into the table of docs/guarantees.md
# make guarantees-long    the same at the long figures: many hours
# make sanitize         the tests of the native library with ASan, UBSan and poisoned memory
# make fuzz             the fuzzers, SECONDS each
# Each sets up .venv by itself; a second run starts at once. Needs Python 3.11 or newer.

candidates := python3 python3.13 python3.12 python3.11
is_recent := -c 'import sys; sys.exit(sys.version_info < (3, 11))'
PYTHON ?= $(shell for python in $(candidates); do \
	$$python $(is_recent) 2>/dev/null && echo $$python && break; done)
BIN := .venv/bin

SECONDS ?= 60
native := build_native.py $(wildcard runtime/elmo_runtime/backends/native/source/*)

.PHONY: demo test fast lint coverage wheel extras demo-bundle docs guarantees guarantees-long sanitize fuzz clean
demo: .venv/ready-demo
	$(BIN)/python examples/demo.py

# Every process exports its own bundles, so that few processes are best.
PARALLEL := -n auto --maxprocesses 8 --dist worksteal
test: lint
	$(BIN)/python -m pytest $(PARALLEL)

fast: .venv/ready-test
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow and not extras"

coverage: .venv/ready-test
	$(BIN)/python -m pytest --cov

lint: .venv/ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run -Werror runtime/elmo_runtime/backends/native/source/*
	! command -v "$(or $(CXX),g++)" >/dev/null || $(BIN)/python build_native.py  # -Werror

# MANYLINUX is the oldest Linux that the wheel must run on; auditwheel refuses a library that needs
# a newer one. Without a C++ compiler the build fails.
MANYLINUX := manylinux_2_28_x86_64
wheel: .venv/ready-release
	rm -rf dist build/wheel build/installed
	ELMO_DEPLOY_NATIVE=required $(BIN)/python -m build --outdir build/wheel
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/auditwheel repair --plat $(MANYLINUX) -w dist build/wheel/*.whl
	cp build/wheel/*.tar.gz dist
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl
	$(PYTHON) -m venv build/installed
	build/installed/bin/python -m pip install --quiet -c constraints.txt "$$(echo dist/*.whl)[cpu]"
	cd build && installed/bin/elmo-deploy doctor

extras: wheel .venv/ready-test
	$(BIN)/python -m pytest tests/extras -m extras

docs: .venv/ready-docs
	$(BIN)/mkdocs build --strict

demo-bundle: .venv/ready-demo
	rm -rf elmo_deploy/demo/english-small
	$(BIN)/elmo-deploy export models/english-small -o elmo_deploy/demo/english-small --precision int8

guarantees: .venv/ready-test
	mkdir -p out
	$(BIN)/python -m pytest $(PARALLEL) -o junit_family=xunit1 --junitxml=out/guarantees.xml
	$(BIN)/python tests/guarantee_kit/table.py out/guarantees.xml

guarantees-long: .venv/ready-test
	mkdir -p out
	ELMO_GUARANTEES=long $(BIN)/python -m pytest tests/guarantees -o junit_family=xunit1 --junitxml=out/guarantees-long.xml

# The library with sanitizers takes the place of the usual one, which is built again afterwards.
SANITIZERS = $(foreach name,asan ubsan,$(shell $(or $(CXX),g++) -print-file-name=lib$(name).so))
sanitize: .venv/ready-test
	$(BIN)/python build_native.py --sanitize
	LD_PRELOAD="$(SANITIZERS)" ASAN_OPTIONS=detect_leaks=0 \
		$(BIN)/python -m pytest tests/runtime/backends/native/test_vectors.py; \
		status=$$?; $(BIN)/python build_native.py && exit $$status

fuzz: .venv/ready-test
	$(BIN)/python fuzz/fuzz_bundle.py -max_total_time=$(SECONDS)
	$(BIN)/python fuzz/fuzz_text.py -max_total_time=$(SECONDS)
	$(BIN)/python fuzz/fuzz_importers.py -max_total_time=$(SECONDS)

clean:
	rm -rf .venv out dist build site

.venv/ready-%: pyproject.toml constraints.txt hatch_build.py $(native)
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer among: $(candidates)"; exit 1; }
	@echo "setting up .venv with the packages of elmo-deploy[$*]: a few minutes, once"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[$*]"
	@touch $@
