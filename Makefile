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

.PHONY: demo test exhaustive lint types collect quality bench gpu env clean

demo: $(VENV)/.ready  ## curate footage of yours (FOLDER=…) or some that it makes, freeze a snapshot, train on it, generate a clip
	$(BIN)/python -m reelwright.pipelines.demo $(if $(FOLDER),--footage "$(FOLDER)") --out demo

# Of three processes one waits for Ray and one for a browser, so two cores suffice.
PYTEST := $(BIN)/python -m pytest -n 3 --no-loadscope-reorder

test: $(VENV)/.ready  ## linter, types, tests; PART=K/N: a part of the exhaustive ones beside them
	$(MAKE) -j 2 lint types collect
	$(PYTEST) -m $(if $(PART),"not quality" --part $(PART),"not quality and not exhaustive")

exhaustive: $(VENV)/.ready  ## more cases of what `make test` covers, and wholes of which it covers the parts; PART=K/N: a part of them
	$(PYTEST) -m "not quality and exhaustive" $(if $(PART),--part $(PART))

lint: $(VENV)/.ready  ## style, and which package may import which
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache

types: $(VENV)/.ready
	$(BIN)/mypy

# Beside the type checker, on the other core: compiles what tests import once, which else each of pytest's processes would do.
collect: $(VENV)/.ready
	$(BIN)/python -m pytest --collect-only -qqq

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

# No environment is made: a rented GPU comes with a torch of its own. PYTHON names another one; GPU holds its options.
gpu:  ## all that only a GPU shows, by weight; rows are in gpu-report/ as soon as they are measured
	$(if $(wildcard $(VENV)/.ready),$(BIN)/python,$(PYTHON)) -m benchmarks.gpu $(GPU)

env: $(VENV)/.ready

# constraints.txt pins every version. pip installs torch, since it alone may know a CPU build, a few GB smaller than CUDA's; where the
# package index serves CUDA: make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu. uv installs the rest in a fifth of pip's time; it
# does not read pip's configuration, so where it finds no index pip does it. opencv-python (which scenedetect asks for) needs
# a display's libraries and shares its files with the headless build: the headless one is installed last, so that it wins.
define install
	$(BIN)/uv pip install -q --python $(BIN)/python -c constraints.txt $(1) \
		|| $(BIN)/python -m pip install -q --no-compile -c constraints.txt $(or $(2),$(1))
endef

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --no-compile -c constraints.txt torch $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	$(BIN)/python -m pip install -q --no-compile -c constraints.txt uv || true
	$(call install,-e '.[dev]')
	$(call install,--reinstall --no-deps opencv-python-headless,--force-reinstall --no-deps opencv-python-headless)
	touch $@

clean:
	rm -rf $(VENV) demo build *.egg-info
