"""
Taking data out: one ZIP with everything the portal holds, as JSON and as files, built in the background.

The archive is written to a file of its own beside the clips, row by row and piece by piece, so its size does not matter
to memory; it becomes the export by one rename. A worker that dies leaves the lease to run out, and the next one begins
again. The file is deleted after KEPT.
"""

import hashlib
import json
import logging
import os
import time
import zipfile
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any, Final

from django.conf import settings
from django.core.files.base import File
from django.core.mail import send_mail
from django.core.serializers.json import DjangoJSONEncoder
from django.db import IntegrityError, transaction
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone

from accounts import personal_data
from accounts.addresses import base_url
from accounts.audit import audit
from accounts.models import DataExport, Tenant, User
from accounts.personal_data import Scope, StoredFile
from portal.work import enqueue_after

logger = logging.getLogger(__name__)

State = DataExport.State

KEPT: Final = timedelta(days=7)
LEASE: Final = timedelta(seconds=90)
MAX_ATTEMPTS: Final = 8
PIECE_BYTES: Final = 1024 * 1024
_PROGRESS_EVERY_S: Final = 1.0

README: Final = """\
This archive holds what the portal has stored {about}.

The .json files can be opened with any text editor; times are UTC. Clips and pictures are as Ring sent them.
manifest.json names every file with its size and SHA-256. activity.json is the audit trail: each entry carries the hash
of the one before, and its own hash is the SHA-256 of the entry without "hash", as JSON with sorted keys, without
spaces, everything beyond ASCII escaped.

Not in here, because it is secret or not yours: keys to Ring, passwords, second factors, and other people's names.
"""


class AlreadyBuilding(Exception):
    """An export of the same kind is being built for this person."""


class LeaseLost(Exception):
    """Somebody else builds it now, or it was deleted: throw away what was written."""


def ask_for_export(*, tenant: Tenant, user: User, kind: DataExport.Kind, now: datetime) -> DataExport:
    """Have an archive built. The caller has checked who may ask for this kind. Raises AlreadyBuilding."""
    from accounts.data_tasks import build_export  # the task calls back here

    try:
        with transaction.atomic():
            export = DataExport.objects.create(
                tenant=tenant, user=user, kind=kind, asked_at=now, next_attempt_at=now
            )
            audit(
                tenant=tenant,
                actor=user,
                action="export.requested",
                subject=f"export {export.public_id}",
                about_person=user,
                kind=str(kind),
            )
            build_export.enqueue(export.pk)
    except IntegrityError:
        raise AlreadyBuilding from None
    return export


def work_on(export: DataExport, *, now: datetime) -> None:
    """Do what is due with an export whose lease the caller holds: build it, or delete it when its time is over."""
    from accounts.data_tasks import build_export

    if export.state != State.BUILDING:
        delete_export(export)
        return
    if export.attempts > MAX_ATTEMPTS:
        _ours(export).update(state=State.FAILED, next_attempt_at=None)
        return
    try:
        _build(export)
    except LeaseLost:
        logger.info("An export was overtaken or deleted. export=%s", export.public_id)
    except OSError as error:
        pause = timedelta(seconds=min(600, 5 * 2**export.attempts))
        again_at = timezone.now() + pause
        if _ours(export).update(next_attempt_at=again_at, last_error=type(error).__name__):
            enqueue_after(build_export, export.pk, again_at)
        logger.warning("An export waits. export=%s error=%s", export.public_id, type(error).__name__)


def _ours(export: DataExport) -> Any:
    """The row, as long as this attempt is the one that holds it."""
    return DataExport.objects.filter(pk=export.pk, attempts=export.attempts, state=State.BUILDING)


def exports_folder() -> Path:
    """Where archives under way lie: on the filesystem of the finished ones."""
    folder = Path(settings.MEDIA_ROOT) / "incoming"
    folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    return folder


class _Finished(File):  # type: ignore[type-arg]
    """A finished file that storage may move into place instead of copying it."""

    def temporary_file_path(self) -> str:
        return str(self.name)


def _build(export: DataExport) -> None:
    for leftover in exports_folder().glob(f"{export.public_id}-*.zip"):
        leftover.unlink(missing_ok=True)
    part = exports_folder() / f"{export.public_id}-{export.attempts}.zip"
    try:
        with part.open("wb") as into:
            _write_archive(export, into)
            into.flush()
            os.fsync(into.fileno())
        _keep(export, part)
    finally:
        part.unlink(missing_ok=True)


def _write_archive(export: DataExport, into: IO[bytes]) -> None:
    scope = Scope(export.tenant, export.user if export.kind == DataExport.Kind.PERSON else None)
    parts = personal_data.parts()
    progress = _Progress(export)
    progress.total = sum(stored.size_bytes for part in parts for stored in part.files(scope))
    manifest: list[dict[str, Any]] = []
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as archive:
        about = f"about {export.user.email} at" if scope.user else "of"
        _add(archive, "README.txt", [README.format(about=f"{about} {export.tenant.name}").encode()], manifest)
        for part in parts:
            for name, rows in part.tables(scope):
                _add(archive, f"{name}.json", _json_lines(rows, progress), manifest)
        for part in parts:
            for stored in part.files(scope):
                _add_file(archive, stored, manifest, progress)
        facts = {"made_at": timezone.now(), "company": export.tenant.name, "files": manifest}
        archive.writestr("manifest.json", json.dumps(facts, indent=1, cls=DjangoJSONEncoder))


def _json_lines(rows: Iterable[dict[str, Any]], progress: "_Progress") -> Iterator[bytes]:
    """A JSON array, a row a line."""
    separator = "[\n"
    for row in rows:
        yield f"{separator}{json.dumps(row, cls=DjangoJSONEncoder, ensure_ascii=False)}".encode()
        separator = ",\n"
        progress.tick()
    yield b"[]\n" if separator == "[\n" else b"\n]\n"


def _add(
    archive: zipfile.ZipFile,
    path: str,
    pieces: Iterable[bytes],
    manifest: list[dict[str, Any]],
    *,
    stored: bool = False,
) -> None:
    info = zipfile.ZipInfo(path, date_time=time.gmtime()[:6])
    # Video and pictures do not get any smaller.
    info.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    digest, size = hashlib.sha256(), 0
    with archive.open(info, "w", force_zip64=True) as into:
        for piece in pieces:
            into.write(piece)
            digest.update(piece)
            size += len(piece)
    manifest.append({"path": path, "size_bytes": size, "sha256": digest.hexdigest()})


def _add_file(
    archive: zipfile.ZipFile, stored: StoredFile, manifest: list[dict[str, Any]], progress: "_Progress"
) -> None:
    try:
        content = stored.storage.open(stored.name, "rb")
    except FileNotFoundError:
        return  # deleted a moment ago: it is not held any more
    with content:

        def pieces() -> Iterator[bytes]:
            while piece := content.read(PIECE_BYTES):
                yield piece
                progress.done += len(piece)
                progress.tick()

        _add(archive, stored.path, pieces(), manifest, stored=True)


class _Progress:
    """Says how far it is about once a second, and renews the lease with it. Raises LeaseLost."""

    def __init__(self, export: DataExport) -> None:
        self.export = export
        self.done = self.total = 0
        self._said_at = 0.0

    def tick(self) -> None:
        if time.monotonic() - self._said_at < _PROGRESS_EVERY_S:
            return
        self._said_at = time.monotonic()
        if not _ours(self.export).update(
            done_bytes=self.done,
            total_bytes=max(self.total, self.done),
            next_attempt_at=timezone.now() + LEASE,
        ):
            raise LeaseLost


def _sha256_of(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _keep(export: DataExport, part: Path) -> None:
    """Put the archive in place, and say so in the same transaction; tell the person by mail."""
    size, digest = part.stat().st_size, _sha256_of(part)
    with transaction.atomic():
        row = _ours(export).select_for_update().select_related("tenant", "user").first()
        if row is None:
            raise LeaseLost
        now = timezone.now()
        with part.open("rb") as content:
            row.file.save("export.zip", _Finished(content, name=str(part)), save=False)
        row.state = State.READY
        row.size_bytes, row.sha256 = size, digest
        row.done_bytes = row.total_bytes
        row.ready_at, row.expires_at = now, now + KEPT
        row.next_attempt_at = row.expires_at
        row.attempts = 0
        row.save()
        audit(
            tenant=row.tenant,
            actor=None,
            action="export.ready",
            subject=f"export {row.public_id}",
            about_person=row.user,
            size_bytes=size,
        )
        transaction.on_commit(lambda: _tell(row), robust=True)


def _tell(export: DataExport) -> None:
    body = render_to_string(
        "accounts/email/export_ready.txt",
        {
            "tenant": export.tenant,
            "export": export,
            "days": KEPT.days,
            "url": base_url() + reverse("accounts:your_data", args=[export.tenant.slug]),
        },
    )
    send_mail(f"Your data from {export.tenant.name} is ready", body, None, [export.user.email])


def delete_export(export: DataExport) -> None:
    """Delete the file, then say so. Safe to repeat; the row stays, without the file, as part of the person's history."""
    with transaction.atomic():
        row = DataExport.objects.select_for_update().filter(pk=export.pk).first()
        if row is None:
            return
        if row.file:
            row.file.storage.delete(str(row.file.name))
        row.file, row.sha256, row.size_bytes, row.expires_at = "", "", None, None
        row.state = State.GONE
        row.next_attempt_at = None
        row.save()
