# `make demo` and `make test` need Python 3.11 or newer and git, nothing else: they make their own environment in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FOLDER ?=
TORCH_INDEX ?=
STORE ?= demo/store
CORPUS ?= ../shared/corpus

# Set in many containers; then every process that a test starts would compile our source again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test lint types quality bench env clean

demo: $(VENV)/.ready  ## curate footage of yours (FOLDER=…) or some that it makes, freeze a snapshot, train on it, generate a clip
	$(BIN)/python -m pipelines.demo $(if $(FOLDER),--footage "$(FOLDER)") --out demo

test: $(VENV)/.ready lint types  ## everything CI runs
	$(BIN)/python -m pytest -m "not quality" -n 4 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.ready
	$(BIN)/ruff check .

types: $(VENV)/.ready
	$(BIN)/mypy

quality: $(VENV)/.ready  ## figures of quality on footage with truth; minutes
	$(BIN)/python -m pytest -m quality
	$(BIN)/python -m benchmarks.quality $(CORPUS)

bench: $(VENV)/.ready  ## cost against plain ffmpeg, scale of the store, memory on a long file, the DiT, its data and training; half an hour
	$(BIN)/python -m benchmarks.cost $(CORPUS)
	$(BIN)/python -m benchmarks.scale
	$(BIN)/python -m benchmarks.dit
	$(BIN)/python -m benchmarks.attention
	$(BIN)/python -m benchmarks.latents
	$(BIN)/python -m benchmarks.kvcache
	$(BIN)/python -m benchmarks.plan_memory
	$(BIN)/python -m benchmarks.train $(CORPUS)

env: $(VENV)/.ready

# constraints.txt pins every version. Where the package index serves torch with CUDA, a CPU build is a few GB smaller:
# make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu. opencv-python (which scenedetect and rapidocr ask for) needs a display's
# libraries and shares its files with the headless build: the headless one is installed last, so that it wins.
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt pip setuptools
	$(BIN)/python -m pip install -q -c constraints.txt torch $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install -q -c constraints.txt --force-reinstall --no-deps opencv-python-headless
	touch $@

clean:
	rm -rf $(VENV) demo build *.egg-info
