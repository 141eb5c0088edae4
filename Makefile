# make run: install and start.  make test: set up and pass all tests.  make check: lint, types, generated files.
PYTHON ?= python3
VENV := .venv

.PHONY: run test check bench clean

run: $(VENV)/.installed
	@exec $(VENV)/bin/antiphon serve $(ARGS)

test: $(VENV)/.installed-dev
	@scripts/test

check: $(VENV)/.installed-dev
	@scripts/check

bench: $(VENV)/.installed-dev
	@$(VENV)/bin/python -m bench.run

$(VENV)/.installed: pyproject.toml constraints.txt
	@PYTHON=$(PYTHON) scripts/install

$(VENV)/.installed-dev: pyproject.toml constraints.txt
	@PYTHON=$(PYTHON) scripts/install dev

clean:
	rm -rf $(VENV) tests/clients_js/node_modules
