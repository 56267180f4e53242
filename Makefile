# Every target sets itself up: a virtual environment in .venv with the versions in constraints.txt.
# `make demo ARGS="--help"`; `make test PYTHON=python3.12`.

PYTHON ?= python3
ARGS ?=

# One thread a process: on a shared machine two OpenMP threads that wait for each other run many times slower than one.
ONE_THREAD = OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
INSTALL = .venv/bin/python -m pip install --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-background quick lint clean rendering
.DELETE_ON_ERROR:

demo: rendering .venv/demo.stamp  ## Records, trains, evaluates and reports, on a CPU
	.venv/bin/videopolicy demo $(ARGS)

test: rendering lint  ## Every check that a change must pass
	$(ONE_THREAD) .venv/bin/python -m pytest -n 2 --dist loadfile --cov=videopolicy --cov-report=term:skip-covered --cov-fail-under=85 --durations=25 $(ARGS)

test-background:  ## The same where interrupts are ignored, as they are in the background jobs of a shell
	trap "" INT; $(MAKE) test

quick: .venv/dev.stamp  ## The tests that most changes need, in less than a minute
	$(ONE_THREAD) .venv/bin/python -m pytest -n 2 --dist loadfile -m "not slow and not metaworld and not libero" $(ARGS)

lint: .venv/dev.stamp  ## Style, types and the direction of imports
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/pyright
	.venv/bin/lint-imports --no-logo

clean:  ## Removes what these targets made; runs and data stay
	rm -rf .venv .coverage .coverage.* dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests -name __pycache__ -prune -exec rm -rf {} +

.venv/bin/pip:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v < (3, 14) else "videopolicy needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is %d.%d: name another with `make PYTHON=python3.12 ...`" % v)'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments: on Debian and Ubuntu, install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/demo.stamp: .venv/bin/pip pyproject.toml constraints.txt
	$(INSTALL) -e ".[metaworld]"
	@touch $@

.venv/dev.stamp: .venv/bin/pip pyproject.toml constraints.txt
	$(INSTALL) -e ".[dev,metaworld,libero]"
	@touch $@ .venv/demo.stamp

# MuJoCo draws without a screen through EGL or OSMesa, which pip cannot install.
rendering: .venv/bin/pip
	@PYTHON=.venv/bin/python .ci/can-render || { echo "no library for drawing without a screen: on Debian and Ubuntu, install libegl1 (or libosmesa6)" >&2; exit 1; }
