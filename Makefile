# Each target sets up .venv by itself: once over the network, and not again until a lock file or pyproject.toml changes.
# make demo needs the runtime alone; what checks and tests comes with requirements-dev.lock.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# Another venv that is active, or a pip configured for a user's own site, must not reach into ours.
unexport VIRTUAL_ENV PYTHONHOME PYTHONPATH PIP_USER PIP_TARGET PIP_PREFIX PIP_REQUIRE_VIRTUALENV PIP_REQUIRE_HASHES PIP_CONSTRAINT
export PIP_DISABLE_PIP_VERSION_CHECK := 1

python := .venv/bin/python
install := $(python) -m pip --quiet install

# A venv knows its own place: one that came along with a moved or copied folder, or whose Python is gone, is made anew.
stale := $(shell [ "$$(cat .venv/.place 2>/dev/null)" = "$$(pwd -P)" ] && $(python) -c "" 2>/dev/null || echo stale)

.PHONY: help
help: ## Show this list.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' Makefile | expand -t 16

.PHONY: demo
demo: .venv/.runtime ## See the bot step aside and come back, on this machine alone.
	@exec $(python) -m bot demo

.PHONY: run
run: .venv/.runtime ## Run the bot with config.yaml.
	@exec env NEONIZE_BOT_TAG=$${NEONIZE_BOT_TAG:-off} $(python) -m bot run

.PHONY: test
test: .venv/.dev ## Run the tests; args="-k takeover" chooses.
	@$(python) -m pytest $(args)

.PHONY: lab
lab: .venv/.dev ## Drive the real WhatsApp library against a WhatsApp of our own.
	@$(python) -m pytest tests/lab $(args)

.PHONY: lint
lint: .venv/.dev ## Check style, imports and types.
	$(python) -m ruff check
	$(python) -m ruff format --check
	.venv/bin/lint-imports
	$(python) -m mypy

.PHONY: check
check: lint test ## Everything that must hold before a commit.

.PHONY: lock
lock: .venv/.dev ## Write the lock files anew; args=--upgrade takes newer versions.
	$(call compile,build,requirements.lock)
	$(call compile,dev,requirements-dev.lock)

# The runtime's versions constrain the tools', so that one venv can hold both.
compile = $(python) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--no-header $(args) --group $(1) $(if $(filter dev,$(1)),--constraint requirements.lock) --output-file $(2) pyproject.toml

# The stamps are written last, so that an install that was interrupted is done again.
.venv/.runtime: .venv/.place requirements.lock pyproject.toml
	@echo "Installing Sidestep into .venv (only now; it may take a minute) …" >&2
	@$(install) --require-hashes --requirement requirements.lock
	@$(install) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.dev: .venv/.runtime requirements-dev.lock
	@echo "Installing the development tools into .venv …" >&2
	@$(install) --require-hashes --requirement requirements-dev.lock
	@touch $@

.PHONY: stale
.venv/.place: $(stale)
	@sh .ci/venv .venv
	@pwd -P > $@
