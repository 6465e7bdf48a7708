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
test: .venv/.dev ## Run the tests, few of the lab's unless all=1; args="-k takeover" chooses.
	@$(python) -m pytest --numprocesses 2 --dist worksteal $(if $(all),,-m "not lab or smoke") $(args)

.PHONY: lab
lab: .venv/.dev ## Drive the real WhatsApp library against a WhatsApp of our own; N=10: so often in a row.
	@$(python) -m $(if $(N),tests.lab.rounds $(N),pytest tests/lab) --numprocesses 4 --dist worksteal $(args)

.PHONY: soak
soak: .venv/.dev ## Twelve numbers and everything that can go wrong, checked; MINUTES=30 SEED=1.
	@$(python) -m tests.lab.soak $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) $(args)

.PHONY: bench
bench: .venv/.dev ## Measure the daemon against the plainest code; args="daemon --rounds 9" chooses.
	@$(python) -m benchmarks $(args)

.PHONY: prove-fast
prove-fast: .venv/.dev ## Play a few random games against the invariants; CI does it with the tests.
	@$(python) -m pytest tests/proof $(args)

.PHONY: prove
prove: .venv/.dev ## Play new games of 100,000 moves in all; GAMES=2000.
	@SIDESTEP_PROVE_GAMES=$(or $(GAMES),2000) $(python) -m pytest tests/proof $(args)

.PHONY: mutants
mutants: .venv/.dev ## Take the guards out one by one: a test must fail without each.
	@$(python) -m tests.mutants

.PHONY: bench-store
bench-store: .venv/.dev ## Measure reads on ten million messages; args="--rows 1000000" is less.
	@$(python) -m benchmarks.store $(args)

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
