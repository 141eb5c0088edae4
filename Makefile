# make run: install and start.  make test: set up and pass all tests.  make check: lint, types, generated files.
# make test-clients: the tests of all clients, also those that are large to install.
PYTHON ?= python3
VENV := .venv

.PHONY: run test test-clients check bench clean

run: $(VENV)/.installed
	@exec $(VENV)/bin/antiphon serve $(ARGS)

test: $(VENV)/.installed-dev
	@scripts/test

test-clients: $(VENV)/.installed-dev
	@scripts/setup-js
	@scripts/setup-clients
	@$(VENV)/bin/python -m pytest tests/clients

check: $(VENV)/.installed-dev
	@scripts/check

bench: $(VENV)/.installed-dev
	@$(VENV)/bin/python -m bench.run

$(VENV)/.installed: pyproject.toml constraints.txt
	@PYTHON=$(PYTHON) scripts/install

$(VENV)/.installed-dev: pyproject.toml constraints.txt
	@PYTHON=$(PYTHON) scripts/install dev

clean:
	rm -rf $(VENV) $(VENV)-clients tests/clients_js/node_modules tests/clients/*/node_modules
