PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help setup course test test-package test-browser lint notebooks report lab app report-runs clean

help:  ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	@echo "Installing into .venv (5 GB; 2 to 5 minutes)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e .
	@$(BIN)/python -c "import torch, hgpose_utils"
	@touch $@

setup: .venv/installed  ## Install everything into .venv (the other commands do it too)

course: .venv/installed  ## Run the five notebooks on this machine and leave pages, tables and plots in results/course/
	@$(BIN)/hgpose course

test: lint test-package  ## Check the code's form, then run the package's tests and the notebooks, at the fast budget

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

test-package: .venv/installed
	HGPOSE_BUDGET=fast OMP_NUM_THREADS=1 $(BIN)/python -m pytest --nbval-lax -n 2 --dist loadscope

.venv/browser: .venv/installed
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[browser]'
	@touch $@

test-browser: .venv/browser  ## Try the app and JupyterLab in Chromium; screenshots go to results/browser/
	HGPOSE_BUDGET=fast OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/browser

notebooks: .venv/installed  ## Renew the committed notebooks from their scripts by a clean run
	@$(BIN)/hgpose course --in-place

report: .venv/installed  ## Make the README's tables anew from results/
	@$(BIN)/hgpose report

lab: .venv/installed  ## Open JupyterLab on the notebooks
	$(BIN)/jupyter lab --notebook-dir=. notebooks $(shell test "$$(id -u)" = 0 && echo --allow-root)

app: .venv/installed  ## Show the explorers as a web page on this machine (PORT=8866)
	@$(BIN)/hgpose app --port $(or $(PORT),8866)

report-runs: .venv/installed  ## Train the report's nine networks on DATA=folder (a GPU is needed)
	$(BIN)/hgpose report-runs --data $(or $(DATA),data/mpii)

clean:  ## Delete what the notebooks made (not .venv, not data)
	rm -rf results/fast results/course results/full
