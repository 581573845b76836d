"""
Sessions in the database, encrypted: what they hold between two pages is somebody's business.

A link under way keeps its nonce and the person's address there, allauth an authenticator app's secret until it is
confirmed and the verifier of an OAuth flow. Django signs that, and anybody who has a dump can read it.
"""

import logging
from collections.abc import Mapping
from typing import Any

from django.contrib.sessions.backends import db
from django.contrib.sessions.models import Session

from portal.fields import DecryptionError, keyring

logger = logging.getLogger(__name__)


class SessionStore(db.SessionStore):
    """Django's, with its text under the installation's keyring, bound to the session's key."""

    def encode(self, session_dict: Mapping[str, Any]) -> str:
        key: str = self._get_or_create_session_key()  # type: ignore[attr-defined]  # django-stubs lack it
        return keyring().encrypt(super().encode(dict(session_dict)), place=_place(key))

    def decode(self, session_data: bytes | str) -> dict[str, Any]:
        """What is stored; empty for what no key of the keyring reads: its owner signs in again."""
        try:
            text = keyring().decrypt(str(session_data), place=_place(self.session_key or ""))
        except DecryptionError:
            logger.warning("A session could not be read: its key is not in the keyring, or it was changed.")
            return {}
        return dict(super().decode(text))


def contents(row: Session) -> dict[str, Any]:
    """What a stored session holds."""
    return SessionStore(row.session_key).decode(row.session_data)


def count_old() -> int:
    """How many sessions need a key that is not the newest."""
    count: int = _old().count()
    return count


def rotate() -> tuple[int, int]:
    """Encrypt every session under the newest key; return how many were done, and how many changed meanwhile."""
    done = left = 0
    for row in list(_old()):
        place = _place(row.session_key)
        try:
            renewed = keyring().encrypt(keyring().decrypt(row.session_data, place=place), place=place)
        except DecryptionError:
            # Nobody can use it any more, whatever happens to the keyring.
            row.delete()
            continue
        same = Session.objects.filter(pk=row.pk, session_data=row.session_data)
        if same.update(session_data=renewed):
            done += 1
        else:
            left += 1
    return done, left


def _old() -> Any:
    return Session.objects.exclude(session_data__startswith=f"v1.{keyring().newest_id}.")


def _place(session_key: str) -> str:
    return f"{Session._meta.db_table}.{session_key}"
