# `make help` lists what there is to do. VENV and PYTHON may be given: make setup VENV=.cache/v312 PYTHON=python3.12
SHELL := /bin/sh
VENV ?= .venv
PYTEST_ARGS ?=
PROFILE ?= light
MOLECULE_SCENARIO ?= default

export VENV
export PATH := $(abspath $(VENV))/bin:$(PATH)
# Ansible refuses to start under a locale that is not UTF-8; a bare machine has none set.
export LC_ALL := C.UTF-8
# Out of the checkout, where an archive or a copy of it would take compiled files along.
export PYTHONPYCACHEPREFIX := $(abspath .cache/pycache)
export ANSIBLE_INJECT_FACT_VARS := false

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-clean db-reset db-seed migrate-up migrate-down migrate-create test lint lint-python lint-types lint-ansible lint-yaml lint-shell \
	lint-changelog docs sanity python39 molecule build install-check clean constraints

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: ## Make .venv with the pinned packages, and the link to the collection
	@scripts/setup

demo: setup ## Back a real PostgreSQL up, drop a table, destroy it, get both back, prove it (about two minutes)
	@scripts/demo

demo-clean: setup ## Stop the demo's server and remove everything that it made
	@scripts/demo clean

db-reset: setup ## Put the demo's database back to its first state
	@scripts/demo reset

db-seed: setup ## A database with a seed profile's rows on the demo's server (PROFILE=light, medium or heavy)
	@scripts/demo seed $(PROFILE)

migrate-up: setup ## Apply the reference migrations on the demo's server (N=1; CONFIG, DATABASE, MIGRATIONS for others)
	@scripts/migrate up $(N)

migrate-down: setup ## Go back by N of them, 1 by default (N=all)
	@scripts/migrate down $(or $(N),1)

migrate-create: setup ## A new pair of files (NAME=add_tips)
	@scripts/migrate create "$(or $(NAME),$(error Name it: make migrate-create NAME=add_tips))"

test: setup ## Unit, property and integration tests (PYTEST_ARGS="-k restore" to choose)
	@pytest -n 3 $(PYTEST_ARGS)

lint: lint-python lint-types lint-ansible lint-yaml lint-shell lint-changelog ## Every linter below

lint-python: setup ## ruff: rules and format
	ruff check .
	ruff format --check .

lint-types: setup ## mypy, strict, on the engine
	mypy

lint-ansible: setup ## ansible-lint, profile production
	ansible-lint --offline

lint-yaml: setup ## yamllint
	yamllint --strict .

lint-shell: setup ## shellcheck on every shell script
	@scripts/check-shell

lint-changelog: setup ## Changelog fragments
	antsibull-changelog lint

docs: setup ## ansible-doc of every module and role
	@scripts/check-docs

sanity: setup ## ansible-test sanity in a copy of the checkout, no exceptions
	@scripts/check-sanity

python39: setup ## Compile the plugins and import the engine with the oldest supported Python
	@scripts/check-python39

molecule: setup ## One scenario on this machine (MOLECULE_SCENARIO=default, restore_rollback, or debian: on a host booted for it)
	@scripts/check-molecule $(MOLECULE_SCENARIO)

build: setup ## Pack the collection into build/
	ansible-galaxy collection build --force --output-path build

install-check: setup ## Build, install into an empty directory, use it by full name (INVENTORY=inventories/demo to run)
	@scripts/check-install $(INVENTORY)

clean: ## Remove what the tools made, .venv included (the demo has its own: demo-clean)
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis build tests/output .ansible
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -rf /var/tmp/dbops-postgresql-*-$$(id -u) # the wheel's PostgreSQL, copied where its OS user can reach it

constraints: setup ## Renew requirements/constraints.txt from what is installed
	@scripts/renew-constraints
