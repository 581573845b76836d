"""The tags of portal/templatetags/look.py, and what every template promises: icons that exist, nothing inline."""

import re
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

from django import forms
from django.template import Context, Template
from django.test import RequestFactory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.templatetags import look

ROOT = Path(__file__).resolve().parent.parent
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
MOMENT = datetime(2026, 11, 22, 18, 4, 12, tzinfo=UTC)


def sprite() -> set[str]:
    return set(re.findall(r'<symbol id="([\w-]+)"', (ROOT / "static" / "icons.svg").read_text()))


def render(source: str, **context: object) -> str:
    return Template(source).render(Context(context)).strip()


def test_every_icon_a_page_or_script_names_is_in_the_sprite():
    sources = [*TEMPLATES, *(ROOT / "static" / "js").glob("*.js"), ROOT / "docs" / "look.md"]
    call = re.compile(r'{% icon "([\w-]+)"|\bicon\("([\w-]+)"|nav_item "[\w:]+" "([\w-]+)"')
    named = {name for path in sources for found in call.findall(path.read_text()) for name in found if name}
    assert named
    assert named <= sprite()


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_template_has_anything_inline(path: Path):
    """The Content-Security-Policy would refuse it: style attributes, style elements, scripts, handlers."""
    text = re.sub(r"{%.*?%}|{{.*?}}", "", path.read_text(), flags=re.DOTALL)
    assert not re.search(r"<style\b|\sstyle\s*=|\son[a-z]+\s*=\s*[\"']|javascript:", text)
    for attributes, body in re.findall(r"<script\b([^>]*)>(.*?)</script>", text, flags=re.DOTALL):
        assert not body.strip() or 'type="application/json"' in attributes


def test_an_icon_is_silent_and_takes_its_drawing_from_the_sprite():
    drawn = render('{% icon "cctv" %}')
    assert 'aria-hidden="true"' in drawn
    assert '<use href="/static/icons.svg#cctv">' in drawn
    assert 'class="icon icon-small"' in render('{% icon "x" "small" %}')
    assert "<script>" not in render("{% icon name %}", name='"><script>')


def test_a_moment_is_exact_without_scripts():
    assert render("{% when moment %}", moment=MOMENT) == (
        '<time datetime="2026-11-22T18:04:12+00:00" data-when="relative" title="22 Nov 2026, 18:04:12 UTC">'
        "22 Nov 2026, 18:04</time>"
    )
    assert ">22 Nov, 18:04:12<" in render('{% when moment "clock" %}', moment=MOMENT)
    assert ">22 Nov 2026<" in render('{% when moment "day" %}', moment=MOMENT)
    assert ">22 Nov 2026, 18:04:12 UTC<" in render('{% when moment "exact" %}', moment=MOMENT)
    assert render('{% when moment never="Never" %}', moment=None) == '<span class="faint">Never</span>'


@pytest.mark.parametrize(
    ("milliseconds", "words"),
    [
        (None, "–"),
        (0, "0.0 s"),
        (400, "0.4 s"),
        (949, "0.9 s"),
        (999, "1 s"),
        (1000, "1 s"),
        (12_000, "12 s"),
        (59_700, "1 min"),
        (72_000, "1 min 12 s"),
        (3_600_000, "1 h 00 min"),
        (7_500_000, "2 h 05 min"),
    ],
)
def test_a_duration_is_said_in_words(milliseconds: int | None, words: str):
    assert render("{% duration_ms n %}", n=milliseconds) == words


@pytest.mark.parametrize(
    ("name", "letters"),
    [
        ("Ada Lovelace", "AL"),
        ("ada@example.org", "A"),
        ("ada.lovelace@example.org", "AL"),
        ("", "?"),
        ("Ben", "B"),
    ],
)
def test_initials_stand_for_a_name(name: str, letters: str):
    assert look.initials(name) == letters


@pytest.mark.parametrize(
    ("user_agent", "words"),
    [
        (
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Safari/537.36",
            "Chrome on Linux",
        ),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/150.0 Safari/537.36 Edg/150.0",
            "Edge on Windows",
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 20_0 like Mac OS X) Version/20.0 Mobile/15E148 Safari/604.1",
            "Safari on iPhone",
        ),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:150.0) Gecko/20100101 Firefox/150.0",
            "Firefox on macOS",
        ),
        ("curl/8.0", "A program"),
    ],
)
def test_a_browser_is_named_in_words(user_agent: str, words: str):
    assert look.browser_words(user_agent) == words


def test_a_control_drops_the_placeholder_that_repeats_its_label():
    class Address(forms.Form):
        email = forms.EmailField(widget=forms.EmailInput(attrs={"placeholder": "Email address"}))

    form = Address()
    assert 'placeholder="Email address"' in render('{% include "_field.html" %}', field=form["email"])
    plain = render('{% include "_form.html" with plain=True %}', form=form)
    assert "Email address" not in plain
    assert '<label for="id_email">Email</label>' in plain


def test_a_refused_field_says_why_and_points_at_the_words():
    class Address(forms.Form):
        email = forms.EmailField(help_text="Where we write to.")

    drawn = render('{% include "_form.html" %}', form=Address({"email": "nobody"}))
    assert 'aria-invalid="true"' in drawn
    described = re.search(r'aria-describedby="([^"]*)"', drawn)
    assert described is not None
    for target in described[1].split():
        assert f'id="{target}"' in drawn


@given(st.lists(st.integers(0, 10**9), min_size=24, max_size=24), st.integers(0, 23))
def test_bars_stay_within_their_drawing(counts: list[int], hour_now: int):
    drawing = look.hour_bars(counts, hour_now)
    for bar, count in zip(drawing["bars"], counts, strict=True):
        assert bar.y >= 0
        assert bar.y + bar.height == pytest.approx(drawing["view_height"])
        assert count > 0 or bar.height == look.LEAST_BAR


def test_a_day_by_hour_says_its_sum_to_those_who_do_not_see_it():
    drawn = render("{% hour_bars counts 1 %}", counts=[1, 2, *[0] * 22])
    assert 'aria-label="3 events today, by hour"' in drawn
    assert "<title>00:00, 1 event</title>" in drawn
    assert drawn.count("hours-bar-ahead") == 22


@pytest.mark.parametrize(
    ("path", "current"),
    [
        ("/t/acme/", "Home"),
        ("/t/acme/devices/", "Devices"),
        ("/t/acme/devices/0b9c/", "Devices"),
        ("/t/acme/clips/", "Clips"),
        ("/elsewhere/", None),
    ],
)
def test_the_rail_marks_where_one_is(path: str, current: str | None):
    rail = render(
        '{% nav_item "events:dashboard" "house" "Home" %}{% nav_item "media:clips" "film" "Clips" %}'
        '{% nav_item "devices:list" "cctv" "Devices" %}',
        tenant=SimpleNamespace(slug="acme"),
        request=RequestFactory().get(path),
    )
    assert rail.count("<a ") == 3
    marked = re.findall(r'aria-current="page">.*?<span>(\w+)</span>', rail)
    assert marked == ([current] if current else [])
