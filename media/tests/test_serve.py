"""The clip's bytes over HTTP: ranges, conditions, who may have them."""

from http import HTTPStatus

from django.test import AsyncClient, Client
from django.urls import reverse

import pytest

from accounts.models import ApiToken, Membership
from media.models import Clip
from tests.support.cast import TenantCast, make_cast


def url_of(clip: Clip) -> str:
    return reverse("media:clip_video", args=[clip.tenant.slug, clip.public_id])


def client_of(membership: Membership) -> Client:
    client = Client()
    client.force_login(membership.user)
    return client


async def body_of(response) -> bytes:
    return b"".join([piece async for piece in response.streaming_content])


@pytest.fixture
def ada(cast: TenantCast) -> AsyncClient:
    client = AsyncClient()
    client.force_login(cast.ada.user)
    return client


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("header", "first", "last"),
    [("bytes=0-", 0, None), ("bytes=10-19", 10, 19), ("bytes=-7", -7, None), ("bytes=5-9, 20-30", 5, 9)],
)
async def test_a_range_gives_exactly_its_bytes(
    ada: AsyncClient, ready_clip: Clip, video: bytes, header: str, first: int, last: int | None
) -> None:
    response = await ada.get(url_of(ready_clip), headers={"Range": header})

    expected = video[first:] if last is None else video[first : last + 1]
    assert response.status_code == HTTPStatus.PARTIAL_CONTENT
    assert await body_of(response) == expected
    begin = first % len(video)
    assert response["Content-Range"] == f"bytes {begin}-{begin + len(expected) - 1}/{len(video)}"
    assert response["Content-Length"] == str(len(expected))


@pytest.mark.django_db(transaction=True)
async def test_the_whole_clip_comes_with_its_hash_a_good_name_and_is_not_to_be_stored(
    ada: AsyncClient, ready_clip: Clip, video: bytes
) -> None:
    response = await ada.get(url_of(ready_clip) + "?download")

    assert response.status_code == HTTPStatus.OK
    assert await body_of(response) == video
    assert response["ETag"] == f'"{ready_clip.sha256}"'
    assert response["Accept-Ranges"] == "bytes"
    assert response["Cache-Control"] == "private, no-store"
    assert response["Content-Type"] == "video/mp4"
    assert response["Content-Disposition"].startswith('attachment; filename="Front Door ')


@pytest.mark.django_db(transaction=True)
async def test_a_range_outside_the_clip_is_416_and_names_the_size(
    ada: AsyncClient, ready_clip: Clip, video: bytes
) -> None:
    response = await ada.get(url_of(ready_clip), headers={"Range": f"bytes={len(video)}-"})

    assert response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
    assert response["Content-Range"] == f"bytes */{len(video)}"


@pytest.mark.django_db(transaction=True)
async def test_if_range_of_another_file_gives_the_whole(
    ada: AsyncClient, ready_clip: Clip, video: bytes
) -> None:
    for tag, status in [
        (f'"{ready_clip.sha256}"', HTTPStatus.PARTIAL_CONTENT),
        (f'W/"{ready_clip.sha256}"', HTTPStatus.OK),
        ('"another"', HTTPStatus.OK),
        ("Sun, 06 Nov 1994 08:49:37 GMT", HTTPStatus.OK),
    ]:
        response = await ada.get(url_of(ready_clip), headers={"Range": "bytes=0-1", "If-Range": tag})
        assert response.status_code == status
        assert len(await body_of(response)) == (2 if status == HTTPStatus.PARTIAL_CONTENT else len(video))


def test_a_known_clip_is_304_and_a_wrong_if_match_412(cast: TenantCast, ready_clip: Clip) -> None:
    client = client_of(cast.ada)

    same = client.get(url_of(ready_clip), headers={"If-None-Match": f'W/"{ready_clip.sha256}", "x"'})
    other = client.get(url_of(ready_clip), headers={"If-Match": '"x"'})

    assert same.status_code == HTTPStatus.NOT_MODIFIED
    assert same["ETag"] == f'"{ready_clip.sha256}"'
    assert other.status_code == HTTPStatus.PRECONDITION_FAILED


def test_head_tells_the_length_whatever_range_is_asked_for(
    cast: TenantCast, ready_clip: Clip, video: bytes
) -> None:
    response = client_of(cast.ada).head(url_of(ready_clip), headers={"Range": "bytes=0-1"})

    assert response.status_code == HTTPStatus.OK
    assert response["Content-Length"] == str(len(video))
    assert response.content == b""


def test_a_clip_whose_file_is_gone_is_404(cast: TenantCast, ready_clip: Clip) -> None:
    ready_clip.file.storage.delete(str(ready_clip.file.name))

    assert client_of(cast.ada).get(url_of(ready_clip)).status_code == HTTPStatus.NOT_FOUND


def test_only_who_sees_the_device_gets_its_clips(cast: TenantCast, ready_clip: Clip) -> None:
    outsider = make_cast("globex")
    for membership, status in [
        (cast.ada, HTTPStatus.OK),
        (cast.operator, HTTPStatus.OK),
        (cast.owner, HTTPStatus.OK),
        (cast.ben, HTTPStatus.NOT_FOUND),
        (outsider.owner, HTTPStatus.NOT_FOUND),
    ]:
        client = client_of(membership)
        assert client.head(url_of(ready_clip)).status_code == status, membership
        for name in ("clip", "clip_poster", "delete_clip"):
            page = client.get(reverse(f"media:{name}", args=["acme", ready_clip.public_id]), follow=False)
            assert (page.status_code == HTTPStatus.NOT_FOUND) == (status == HTTPStatus.NOT_FOUND), (
                membership,
                name,
            )
    own = reverse("media:clip_video", args=["globex", ready_clip.public_id])
    assert client_of(outsider.owner).get(own).status_code == HTTPStatus.NOT_FOUND


def test_a_token_of_the_tenant_reads_and_another_tenants_finds_nothing(
    cast: TenantCast, ready_clip: Clip
) -> None:
    other = make_cast("globex")
    _, ours = ApiToken.issue(tenant=cast.tenant, name="a", scopes=["read"])
    _, theirs = ApiToken.issue(tenant=other.tenant, name="b", scopes=["read"])
    _, writer = ApiToken.issue(tenant=cast.tenant, name="c", scopes=["write"])
    for token, status in [
        (ours, HTTPStatus.OK),
        (theirs, HTTPStatus.NOT_FOUND),
        (writer, HTTPStatus.FORBIDDEN),
        ("ppt_wrong", HTTPStatus.UNAUTHORIZED),
    ]:
        response = Client().head(url_of(ready_clip), headers={"Authorization": f"Bearer {token}"})
        assert response.status_code == status, status
    anonymous = Client().get(url_of(ready_clip))
    assert anonymous.status_code == HTTPStatus.FOUND
    assert anonymous["Location"].startswith(reverse("account_login"))
