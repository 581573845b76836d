"""
Tokens under many processes and under `kill -9`, against the sandbox (issue 3, "done when" 2; feature A6, contract 4).

On SQLite, and on PostgreSQL where DATABASE_URL names one.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.installation import Installation, Person, installation, wait_until_linked
from tests.support.portal_process import ROOT, wait_for

CLIENT = {"client_id": "acme-client"}
ENDED, ALMOST = (
    -60,
    180,
)  # seconds an access token has left; with 180 it is due for its replacement and still good


class Tokens:
    """The one linked account of the installation, and processes that ask for its token."""

    def __init__(self, installed: Installation, person: Person) -> None:
        self.person = person
        self.sandbox = installed.sandbox
        self.helper = subprocess.Popen(
            [sys.executable, "-m", "tests.support.token_callers"],
            cwd=ROOT,
            env=installed.portal.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def order(self, *words: object) -> Any:
        assert self.helper.stdin is not None
        assert self.helper.stdout is not None
        self.helper.stdin.write(" ".join(map(str, words)) + "\n")
        self.helper.stdin.flush()
        return json.loads(self.helper.stdout.readline())

    def link(self) -> None:
        """Link it (anew): whatever a test before did to its tokens is past."""
        self.sandbox.control("DELETE", "/faults")
        self.sandbox.control("POST", "/knobs", {"refresh_grace": None})
        linked = self.sandbox.control("POST", "/link", {**CLIENT, "devices": ["Front Door"]})
        confirm = self.person.get(linked["redirect_url"], timeout=60)
        self.person.submit(confirm, action="/link/", timeout=60)
        wait_for(lambda: self.show()["state"] == "linked", what="the link", timeout_s=60)
        self.earlier_reasons = len(self.show()["reasons"])

    def show(self) -> dict[str, Any]:
        facts: dict[str, Any] = self.order("show")
        return facts

    @property
    def new_reasons(self) -> list[str]:
        return list(self.show()["reasons"][self.earlier_reasons :])

    def end_access(self, seconds_left: int) -> None:
        """The access token ends, by our clock and (when it has) at Ring."""
        self.order("prepare", seconds_left)
        if seconds_left <= 0:
            self.sandbox.control("POST", "/tokens", {**CLIENT, "action": "expire_access"})
        self.sandbox.control("DELETE", "/requests")

    def ask(self, count: int = 1) -> list[str]:
        """What each of so many processes got: the digest of a token, or the name of an error."""
        outcomes: list[str] = self.order("ask", count)
        return outcomes

    def answers_of_ring(self) -> list[int]:
        """The status of each call of the token endpoint since the access token ended."""
        seen = self.sandbox.control("GET", "/requests")
        return [request["status"] for request in seen if request["path"] == "/oauth/token"]

    def kill_while_ring_answers(self, seconds_left: int, **fault: object) -> None:
        """One process asks, and is killed with -9 while Ring has its request; its lease has lapsed then."""
        self.sandbox.control("POST", "/faults", {"route": "token", "delay_s": 2, **fault})
        child = self.order("begin")
        wait_for(lambda: not self.sandbox.control("GET", "/faults"), what="the refresh's arrival at Ring")
        os.kill(child, signal.SIGKILL)
        wait_for(lambda: self.answers_of_ring() != [], what="Ring's answer to nobody")
        assert self.show()["is_answer_open"], "noted before the call, for the call may be the last thing done"
        self.order("prepare", seconds_left)  # nobody waits 45 s for a lease here


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installation(tmp_path_factory.mktemp("tokens")) as whole:
        yield whole


@pytest.fixture(scope="module")
def _tokens(installed: Installation) -> Iterator[Tokens]:
    link = installed.sandbox.control("POST", "/link", {**CLIENT, "devices": ["Front Door"]})
    person = Person(installed.portal.url)
    person.submit(person.sign_up(link["redirect_url"], "ada@customer.example"), action="/link/")
    wait_until_linked(installed, installed.api_token("acme"))
    installed.portal.stop(
        "worker"
    )  # only our own callers ask: no sync and no sweep may refresh at the same time
    tokens = Tokens(installed, person)
    yield tokens
    assert tokens.helper.stdin is not None
    tokens.helper.stdin.close()
    tokens.helper.wait(30)


@pytest.fixture
def tokens(_tokens: Tokens) -> Tokens:
    _tokens.link()
    return _tokens


def test_twenty_processes_that_need_one_token_make_one_refresh(tokens: Tokens) -> None:
    tokens.end_access(ENDED)
    tokens.sandbox.control("POST", "/faults", {"route": "token", "kind": "slow", "delay_s": 1})
    outcomes = tokens.ask(20)
    assert len(outcomes) == 20
    assert len(set(outcomes)) == 1, outcomes
    assert len(outcomes[0]) == 16, outcomes[0]
    assert tokens.answers_of_ring() == [200]
    facts = tokens.show()
    assert (facts["state"], facts["is_answer_open"]) == ("linked", False)


def test_killed_before_ring_did_anything_nothing_is_lost(tokens: Tokens) -> None:
    tokens.end_access(ENDED)
    tokens.kill_while_ring_answers(ENDED, kind="status", status=503)
    [outcome] = tokens.ask()
    assert len(outcome) == 16, outcome
    facts = tokens.show()
    assert (facts["state"], facts["is_answer_open"]) == ("linked", False)
    assert tokens.new_reasons == []


def test_killed_after_ring_rotated_a_grace_period_saves_the_link(tokens: Tokens) -> None:
    tokens.end_access(ENDED)
    tokens.sandbox.control("POST", "/knobs", {"refresh_grace": True})
    tokens.kill_while_ring_answers(ENDED, kind="late")
    [outcome] = tokens.ask()
    assert len(outcome) == 16, outcome
    assert tokens.show()["state"] == "linked"
    assert tokens.new_reasons == []


def test_killed_after_ring_rotated_the_access_token_in_hand_serves_to_its_end(tokens: Tokens) -> None:
    tokens.end_access(ALMOST)
    tokens.kill_while_ring_answers(ALMOST, kind="late")
    first, second = tokens.ask(), tokens.ask()
    assert first == second
    assert len(first[0]) == 16
    facts = tokens.show()
    assert (facts["state"], facts["has_refresh_token"]) == ("linked", False)
    assert tokens.new_reasons == ["answer_lost"]
    assert tokens.answers_of_ring().count(400) == 1, "Ring is asked once"

    tokens.order("prepare", ENDED)
    assert tokens.ask() == ["NotLinked"]
    assert tokens.show()["state"] == "relink_required"


def test_killed_after_ring_rotated_and_nothing_in_hand_is_the_one_case_that_needs_a_new_link(
    tokens: Tokens,
) -> None:
    """The new refresh token exists at Ring only, which gives it to nobody a second time (contract 2.10, 4)."""
    tokens.end_access(ENDED)
    tokens.kill_while_ring_answers(ENDED, kind="late")
    assert tokens.ask() == ["NotLinked"]
    facts = tokens.show()
    assert (facts["state"], facts["has_access_token"]) == ("relink_required", False)
    assert tokens.new_reasons == ["answer_lost"], "the trail says that it was nobody's intention"


def test_killed_after_the_pair_was_stored_nothing_is_lost(tokens: Tokens) -> None:
    tokens.end_access(ENDED)
    child = tokens.order("begin")
    wait_for(lambda: tokens.answers_of_ring() == [200], what="Ring's answer")
    wait_for(lambda: not tokens.show()["is_answer_open"], what="the new pair in the database")
    os.kill(child, signal.SIGKILL)
    [outcome] = tokens.ask()
    assert len(outcome) == 16, outcome
    assert tokens.answers_of_ring() == [200]
    assert tokens.show()["state"] == "linked"
    assert tokens.new_reasons == []
