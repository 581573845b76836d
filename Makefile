# Every target installs what it needs. `make demo` and `make test` are all a newcomer has to know.
SHELL := /bin/sh
PYTHON ?=
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
UV_VERSION := 0.13.9

.PHONY: demo staff-code install run test test-services test-browser test-long check bench lock screenshots clean

demo: install
	@$(PY) scripts/demo.py

install: $(STAMP)

$(STAMP): requirements.txt requirements-dev.txt
	@python=$$(PYTHON="$(PYTHON)" sh scripts/find_python.sh) || exit 1; \
	echo "Installing into $(VENV) with $$python …"; \
	test -x $(PY) || "$$python" -m venv $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check "uv==$(UV_VERSION)"
	@VIRTUAL_ENV=$(VENV) $(VENV)/bin/uv pip install --quiet --require-hashes -r requirements-dev.txt
	@touch $(STAMP)

staff-code: install
	@$(PY) scripts/staff_code.py

run: install
	@$(PY) scripts/run.py

test: install
	@$(PY) -m pytest -m "not browser and not services and not long" -n 3 --dist worksteal

test-browser: install
	@$(PY) -m pytest -m browser

test-long: install
	@$(PY) -m pytest -m long -k "minutes or hundred" -o log_cli=true --log-cli-level=INFO
	@sh scripts/lossy_network.sh $(PY) -m pytest -m long -k loses -o log_cli=true --log-cli-level=INFO

test-services: install
	@sh scripts/test_services.sh

check: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	DEBUG=1 $(VENV)/bin/mypy .
	$(VENV)/bin/lint-imports
	DEBUG=1 $(PY) manage.py makemigrations --check --dry-run
	sh scripts/check_deploy.sh

bench: install
	@$(PY) -m bench

screenshots: install
	@$(PY) -m pytest -m browser tests/browser/test_journey.py --screenshots

lock:
	$(VENV)/bin/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --universal --python-version 3.12 requirements.in -o requirements.txt
	$(VENV)/bin/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --universal --python-version 3.12 requirements-dev.in -o requirements-dev.txt

clean:
	rm -rf $(VENV) var staticfiles
