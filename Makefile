# Everything a checkout can do. Each target sets up what it needs in .venv, once; a second run starts at once.
# The only use of the network is pip, for packages.

PYTHON ?= python3
WORLD  ?= freedoom
ARGS   ?=
MADE   ?= made-world
EPISODES ?= 320

BIN      := .venv/bin
PIP      := $(BIN)/python -m pip --disable-pip-version-check
# A pin, an extra or a native operator that changes sets up again.
PINS     := pyproject.toml constraints.txt hatch_build.py $(wildcard engine/native/*.cpp engine/native/*.hpp)
PLAYABLE := .venv/.ready-play
TESTABLE := .venv/.ready-dev

.DELETE_ON_ERROR:
.PHONY: help play test check format world wheel clean

help:
	@echo "make play    play WORLD (default: freedoom) on the CPU; options: make play ARGS='--preset quality'"
	@echo "make test    run the tests"
	@echo "make check   formatting, lint and types"
	@echo "make format  put the formatting and the simple lint right"
	@echo "make world   record, train, export and judge a world like the one in the package, in MADE; takes hours"
	@echo "make wheel   build dist/*.whl"
	@echo "make clean   remove what the above made, .venv included"

play: $(PLAYABLE)
	$(BIN)/diamond-play $(WORLD) $(ARGS)

test: $(TESTABLE)
	$(BIN)/python -m pytest -q $(ARGS)

check: $(TESTABLE)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict engine
	$(BIN)/mypy export train benchmarks

# From nothing to a world and its figures. Stopped at any time, it goes on from there; ARGS goes to diamond-train.
world: $(TESTABLE)
	$(BIN)/diamond-data record freedoom --monsters none --blind 0.5 --episodes $(EPISODES) --frames 1000 --seed 1 --out $(MADE)/data
	if [ -f $(MADE)/run/run.json ]; then $(BIN)/diamond-train --out $(MADE)/run --resume $(ARGS); \
	else $(BIN)/diamond-train freedoom --data $(MADE)/data --out $(MADE)/run $(ARGS); fi
	$(BIN)/diamond-export $(MADE)/run --out $(MADE)/world --spawns 10 --notice docs/freedoom-notice.txt --force
	$(BIN)/python benchmarks/quality.py $(MADE)/world --data $(MADE)/data --sheet $(MADE)/quality.png
	$(BIN)/python benchmarks/endurance.py $(MADE)/world --data $(MADE)/data --game --sheet $(MADE)/endurance.png
	$(BIN)/python benchmarks/obedience.py $(MADE)/world --data $(MADE)/data --probe $(MADE)/probe.safetensors

format: $(TESTABLE)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

wheel: $(TESTABLE)
	$(BIN)/python -m hatchling build -t wheel -d dist

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(PLAYABLE): .venv/.created $(PINS)
	@echo "Setting up .venv to play: some 150 MB of packages, nothing else is downloaded."
	$(PIP) install -c constraints.txt -e '.[cpu,record]'
	@touch $@

$(TESTABLE): .venv/.created $(PINS)
	@echo "Setting up .venv to test, train and export: PyTorch is the large one."
	$(PIP) install -c constraints.txt -e '.[cpu,record,hub,train,export,doom,trt,dev]'
	@touch $@ $(PLAYABLE)

# `venv` over an environment that exists keeps its packages. Debian without python3-venv cannot put pip inside, so there
# the caller's pip does it.
.venv/.created:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "error: there is no '$(PYTHON)' here. Install Python 3.11 or newer, or name one: make PYTHON=python3.12" >&2; \
	  exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: '$(PYTHON)' is $$($(PYTHON) --version 2>&1); diamond-engine needs Python 3.11 or newer." >&2; \
	  echo "       Install one and name it: make PYTHON=python3.12" >&2; exit 2; }
	@if $(PYTHON) -c 'import ensurepip' 2>/dev/null; then $(PYTHON) -m venv .venv; \
	elif $(PYTHON) -m venv --without-pip .venv 2>/dev/null; then \
	  $(PYTHON) -m pip --disable-pip-version-check --python $(BIN)/python install pip; \
	else false; fi || { \
	  echo "error: '$(PYTHON)' could not make the environment .venv." >&2; \
	  echo "       On Debian or Ubuntu: apt install python3-venv python3-pip. Then run make again." >&2; exit 2; }
	@touch $@
