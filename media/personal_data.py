"""Media's part in exporting and erasing people's data: live sessions, clips, pictures, and their files."""

from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any, Final

from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from accounts.models import RingAccount
from accounts.personal_data import PersonalData, Scope, StoredFile, Tally, row_of
from media import live
from media.fetching import incoming_folder
from media.models import Clip, ClipRule, FetchState, LiveSession, Picture, Screen

BATCH: Final = 50
_WORK: Final = ("attempts", "next_attempt_at", "last_error")


class Media(PersonalData):
    """What was watched and what was kept."""

    def tables(self, scope: Scope) -> Iterator[tuple[str, Iterable[dict[str, Any]]]]:
        watched = self._of_devices(LiveSession, scope)
        if scope.user is not None:
            watched = LiveSession.objects.for_tenant(scope.tenant).filter(
                Q(viewer=scope.user) | Q(device__ring_account__in=scope.ring_accounts())
            )
        for name, rows, links in (
            ("clips", self._of_devices(Clip, scope), ("device", "event", "requested_by", "rule")),
            ("pictures", self._of_devices(Picture, scope), ("device", "event")),
            ("live_sessions", watched, ("device", "viewer", "api_token")),
        ):
            yield name, self._rows(rows.select_related(*links).order_by("pk"), scope)
        screens = Screen.objects.for_tenant(scope.tenant)
        if scope.user is not None:
            screens = screens.filter(membership__user=scope.user)
        yield "screens", self._rows(screens.select_related("membership").order_by("pk"), scope)
        if scope.user is None:
            yield "clip_rules", self._rows(ClipRule.objects.for_tenant(scope.tenant).order_by("pk"), scope)

    def files(self, scope: Scope) -> Iterator[StoredFile]:
        clips = self._of_devices(Clip, scope).filter(state=FetchState.READY)
        for clip in clips.order_by("pk").iterator(chunk_size=200):
            yield from self._files_of(f"clips/{clip.public_id}", clip.file, clip.poster)
        pictures = self._of_devices(Picture, scope).filter(state=FetchState.READY)
        for picture in pictures.order_by("pk").iterator(chunk_size=200):
            yield from self._files_of(f"pictures/{picture.public_id}", picture.file)

    def counts(self, scope: Scope) -> dict[str, int]:
        models = {"clips": Clip, "pictures": Picture, "live sessions": LiveSession}
        return {words: self._of_devices(model, scope).count() for words, model in models.items()}

    def cut_off(self, scope: Scope) -> None:
        """Whoever leaves stops watching, and nobody watches their cameras on."""
        sessions = LiveSession.objects.for_tenant(scope.tenant)
        if scope.user is not None:
            sessions = sessions.filter(
                Q(viewer=scope.user) | Q(device__ring_account__in=scope.ring_accounts())
            )
        live.end_sessions(sessions, reason=LiveSession.EndReason.UNLINKED, now=timezone.now())

    def erase_ring_account(self, account: RingAccount, tally: Tally) -> None:
        for words, model in (("clips", Clip), ("pictures", Picture)):
            rows = model._default_manager.filter(device__ring_account=account).order_by("pk")
            while batch := list(rows.values_list("pk", flat=True)[:BATCH]):
                for pk in batch:
                    self._erase_stored(model, pk, words, tally)
        with transaction.atomic():
            _, erased = LiveSession.objects.filter(device__ring_account=account).delete()
            tally("live sessions", erased.get("media.LiveSession", 0))

    def _erase_stored(self, model: Any, pk: int, words: str, tally: Tally) -> None:
        """Files first, while the row still names them: a process that dies in between leaves no file nobody knows of."""
        with transaction.atomic():
            # A fetch that is about to put its file in place waits for this, and then finds no row.
            row = model.objects.select_for_update().filter(pk=pk).first()
            if row is None:
                return
            for part in incoming_folder().glob(f"{row.public_id}-*"):
                part.unlink(missing_ok=True)
            files = [row.file, row.poster] if isinstance(row, Clip) else [row.file]
            names = [str(stored.name) for stored in files if stored]
            for name in names:
                default_storage.delete(name)
            row.delete()
            tally("files", len(names))
            tally(words, 1)

    def erase_person(self, scope: Scope, tally: Tally) -> None:
        """On other people's cameras: that they watched or asked stays true, but not that it was they."""
        if scope.user is None:
            return
        LiveSession.objects.for_tenant(scope.tenant).filter(viewer=scope.user).update(viewer=None)
        Clip.objects.for_tenant(scope.tenant).filter(requested_by=scope.user).update(requested_by=None)

    def _of_devices(self, model: Any, scope: Scope) -> "QuerySet[Any]":
        rows: QuerySet[Any] = model.objects.for_tenant(scope.tenant)
        return rows if scope.user is None else rows.filter(device__ring_account__in=scope.ring_accounts())

    def _rows(self, rows: "QuerySet[Any]", scope: Scope) -> Iterator[dict[str, Any]]:
        for row in rows.iterator(chunk_size=500):
            shown = row_of(row, leave_out=_WORK, you=scope.user)
            for name, suffix_of in (
                ("file", getattr(row, "file", None)),
                ("poster", getattr(row, "poster", None)),
            ):
                if suffix_of:
                    folder = "clips" if isinstance(row, Clip) else "pictures"
                    shown[name] = f"{folder}/{row.public_id}{PurePosixPath(str(suffix_of.name)).suffix}"
            yield shown

    def _files_of(self, path: str, *files: Any) -> Iterator[StoredFile]:
        for stored in files:
            if stored and stored.storage.exists(stored.name):
                suffix = PurePosixPath(stored.name).suffix
                yield StoredFile(stored.storage, stored.name, f"{path}{suffix}", stored.size)
