"""No log line carries a secret, and every line its request's id (feature J3)."""

import io
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module

from django.test import Client

import pytest

from portal.logs import JsonFormatter, SecretsFilter, TextFormatter, logging_config, redact, request_id
from tests.support.log_guard import guard


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer canary.abc-DEF_123~+/=",
        "x-signature: sha256=" + "0123456789abcdef" * 4,
        "GET /ring/acme/link?nonce=canary&time=1790000000000",
        "code=canary&client_secret=canary",
        '{"access_token": "canary", "refresh_token":"canary"}',
        "{'password': 'canary'}",
        "sessionid=canary; csrftoken=canary",
        "to canary@example.com",
        "Not Found: /x?nonce%3Dcanary",
        "Not Found: /canary%40example.com/",
        "Not Found: /o'canary@example.com/",
        "Forbidden: /accounts/password/reset/key/1-canary/",
        "Internal Server Error: /accounts/confirm-email/canary/",
    ],
)
def test_what_looks_like_a_secret_is_hidden(text):
    clean = redact(text)
    assert "canary" not in clean
    assert "0123456789abcdef" not in clean
    assert "hidden" in clean or "[e-mail]" in clean


@pytest.mark.parametrize(
    "text",
    ["status=503 attempt=2 account=de0444ab-d56b-4a07-b0b9-6a573ce79d7b", "took 12 ms", "time=1790000000000"],
)
def test_what_is_no_secret_stays(text):
    assert redact(text) == text


@dataclass
class Log:
    """A logger that writes as production does, into `stream`."""

    logger: logging.Logger
    stream: io.StringIO


@pytest.fixture(params=[JsonFormatter, TextFormatter])
def log(request):
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(SecretsFilter())
    handler.setFormatter(request.param())
    logger = logging.getLogger("portal.test")
    logger.propagate = False
    logger.addHandler(handler)
    yield Log(logger, stream)
    logger.removeHandler(handler)
    logger.propagate = True


def test_arguments_and_tracebacks_are_cleaned_too(log):
    log.logger.warning("sent %s to %s", "token=canary-1", "canary@example.com")
    try:
        raise ValueError("cannot read {'access_token': 'canary-2'}")
    except ValueError:
        log.logger.exception("failed. nonce=%s", "canary-3")
    text = log.stream.getvalue()
    assert "canary" not in text
    assert "ValueError" in text


@pytest.mark.parametrize("log", [JsonFormatter], indirect=True)
def test_a_line_is_one_json_object_with_the_request_id(log):
    reset = request_id.set("r-12345678")
    log.logger.warning("Two\nlines")
    request_id.reset(reset)
    line = json.loads(log.stream.getvalue())
    assert line["request_id"] == "r-12345678"
    assert (line["level"], line["logger"], line["message"]) == ("warning", "portal.test", "Two\nlines")
    assert log.stream.getvalue().count("\n") == 1


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What the handler of production writes of everything that is logged."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(SecretsFilter())
    handler.setFormatter(JsonFormatter())
    logging.getLogger().addHandler(handler)
    yield stream
    logging.getLogger().removeHandler(handler)


@pytest.mark.parametrize(
    "path",
    [
        "/ring/nobody/link?nonce=canary&time=1790000000000",
        "/nonce=canary",
        "/x%3Fnonce%3Dcanary",
        "/x%253Fnonce%253Dcanary",
        "/canary@example.com/",
        "/canary%2540example.com/",
        "/static/code%3Dcanary",
    ],
)
def test_a_refused_request_is_logged_by_its_path_and_id_without_what_is_secret_in_it(written, db, path):
    Client().get(path, headers={"X-Request-ID": "proxy-0001", "Authorization": "Bearer canary"})
    text = written.getvalue()
    assert "canary" not in text
    line = json.loads(text)
    assert line["logger"] == "django.request"
    assert line["request_id"] == "proxy-0001"


def test_a_refused_form_is_logged_without_its_fields(written, db):
    Client(enforce_csrf_checks=True).post(
        "/accounts/login/?next=/t/acme/%3Fcode%3Dcanary",
        {"login": "canary@example.com", "password": "canary"},
    )
    text = written.getvalue()
    assert "Forbidden" in text
    assert "canary" not in text


@pytest.mark.parametrize("server", ["daphne", "uvicorn"])
def test_no_server_of_ours_keeps_an_access_log(monkeypatch, server):
    """It would show each request's query, and with it the nonce of a link."""
    monkeypatch.setenv("ASGI_SERVER", server)
    processes = import_module("scripts.processes")  # a folder of programs, no package
    command = " ".join(processes.web_command(8000))
    assert "-v 0" in command or "--no-access-log" in command
    assert logging_config(log_format="json")["loggers"]["daphne"]["level"] == "WARNING"


def test_every_answer_carries_its_request_id():
    client = Client()
    assert client.get("/healthz/live", headers={"X-Request-ID": "proxy-0001"})["X-Request-ID"] == "proxy-0001"
    made = client.get("/healthz/live", headers={"X-Request-ID": "bad id\n"})["X-Request-ID"]
    assert len(made) == 32
    assert made != client.get("/healthz/live")["X-Request-ID"]


def test_pages_of_errors_show_the_id_of_their_request_and_offer_to_copy_it(db, monkeypatch):
    monkeypatch.setattr("django.conf.settings.DEBUG", False)
    client = Client(raise_request_exception=False)

    def fail(*_: object) -> None:
        raise RuntimeError

    for path, status in (("/nothing/", 404), ("/", 500)):
        if status == 500:
            monkeypatch.setattr("portal.views.render", fail)
        answer = client.get(path)
        assert answer.status_code == status
        assert f'data-copy="{answer["X-Request-ID"]}"' in answer.content.decode()
        assert "Copy diagnostic id" in answer.content.decode()


def test_the_suites_own_guard_finds_a_secret_that_the_filter_lets_through():
    logging.getLogger("accounts").warning("Received %s", "canary-code-1")
    [line] = guard.take()
    assert "canary-code-1" in line


def test_the_guard_is_silent_about_what_the_filter_hides():
    logging.getLogger("accounts").warning("code=%s", "canary-code-1")
    assert guard.take() == []


def test_the_guard_reads_tracebacks_too():
    try:
        raise ValueError("canary-access-1 was refused")
    except ValueError:
        logging.getLogger("accounts").exception("It went wrong.")
    assert len(guard.take()) == 1
