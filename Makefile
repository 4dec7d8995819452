# Every target prepares .venv by itself; nothing is installed outside this folder.
bin := .venv/bin

.PHONY: help demo test test-all check lint types contracts docs dashboards manifests bench lock clean demo-env dev-env
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: demo-env ## a live Airflow's state at /metrics, without Airflow; ONCE=1 checks itself and ends
	@$(bin)/windsock demo $(if $(ONCE),--once)

test: dev-env ## every test that needs nothing but Python
	@$(bin)/python -m pytest -m "not system" -n 3 $(ARGS)

test-all: dev-env ## these, and those that need Debian's servers or a real Airflow
	@$(bin)/python -m pytest $(ARGS)

check: lint types contracts ## all that is found without running it

lint: dev-env ## style, and the size of exporter/
	@$(bin)/ruff check
	@$(bin)/ruff format --check
	@$(bin)/python scripts/code-lines exporter 8600

types: dev-env ## mypy
	@$(bin)/mypy

contracts: dev-env ## the floors of exporter/, and who may import what
	@$(bin)/lint-imports --no-logo

docs: demo-env ## the pages that are generated from declarations
	@scripts/generate-docs

dashboards: dev-env ## Grafana's files, from their code
	@$(bin)/python -m dashboards.generate

manifests: ## deploy/kubernetes, from the rules and the dashboards
	@scripts/generate-manifests

bench: dev-env ## the measurements of docs/benchmarks.md
	@$(bin)/python -m benchmarks $(ARGS)

lock: ## requirements/*.txt anew from pyproject.toml; UPGRADE=1 moves every pin
	@scripts/lock

clean: ## removes .venv and caches
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

demo-env:
	@scripts/bootstrap demo

dev-env:
	@scripts/bootstrap dev
