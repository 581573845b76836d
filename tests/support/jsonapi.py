"""Is this a JSON:API 1.1 document? Checked by hand after https://jsonapi.org/format/1.1/#document-structure."""

import re
from typing import Any

MEDIA_TYPE = "application/vnd.api+json"
MEMBER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TOP = {"data", "errors", "meta", "jsonapi", "links", "included"}
ERROR = {"id", "links", "status", "code", "title", "detail", "source", "meta"}


def document_of(response: Any) -> dict[str, Any]:
    """The document of an answer, checked. Raises AssertionError for the first rule it breaks."""
    assert response["Content-Type"] == MEDIA_TYPE, response["Content-Type"]
    document: dict[str, Any] = response.json()
    assert isinstance(document, dict)
    assert set(document) <= TOP
    assert set(document) & {"data", "errors", "meta"}
    assert not ("data" in document and "errors" in document)
    assert "included" not in document or "data" in document
    if "errors" in document:
        assert response.status_code >= 400
        _check_errors(document["errors"], response.status_code)
        return document
    assert response.status_code < 300
    _check_links(document.get("links", {}))
    if "data" in document:
        data = document["data"]
        primary = data if isinstance(data, list) else [data]
        for resource in [*primary, *document.get("included", [])]:
            check_resource(resource)
        names = [(item["type"], item["id"]) for item in [*primary, *document.get("included", [])]]
        assert len(set(names)) == len(names), "a resource stands twice in the document"
        linked = {
            (linkage["type"], linkage["id"])
            for resource in [*primary, *document.get("included", [])]
            for relationship in resource.get("relationships", {}).values()
            for linkage in _linkages(relationship)
        }
        for item in document.get("included", []):
            assert (item["type"], item["id"]) in linked, "full linkage: an included resource nobody links to"
    return document


def check_resource(resource: dict[str, Any]) -> None:
    assert {"type", "id"} <= set(resource) <= {"type", "id", "attributes", "relationships", "links", "meta"}
    assert MEMBER.fullmatch(resource["type"])
    assert UUID.fullmatch(resource["id"]), "an id that is no public id"
    fields = [*resource.get("attributes", {}), *resource.get("relationships", {})]
    assert len(set(fields)) == len(fields), "attributes and relationships share a namespace"
    assert not {"id", "type"} & set(fields)
    for name in fields:
        assert MEMBER.fullmatch(name)
    for relationship in resource.get("relationships", {}).values():
        assert set(relationship) & {"links", "data", "meta"}
        for linkage in _linkages(relationship):
            assert set(linkage) <= {"type", "id", "meta"}
            assert UUID.fullmatch(linkage["id"])
        _check_links(relationship.get("links", {}))
    _check_links(resource.get("links", {}))
    # "a resource can not contain its foreign keys" (JSON:API recommends; we promise).
    assert not [
        name for name in resource.get("attributes", {}) if name.endswith("_pk") or name == "tenant_id"
    ]


def _linkages(relationship: dict[str, Any]) -> list[dict[str, Any]]:
    data = relationship.get("data")
    return data if isinstance(data, list) else [data] if data else []


def _check_links(links: dict[str, Any]) -> None:
    for link in links.values():
        assert link is None or (isinstance(link, str) and link.startswith("http")), link


def _check_errors(errors: Any, status: int) -> None:
    assert isinstance(errors, list) and errors
    for error in errors:
        assert set(error) <= ERROR
        assert error["status"] == str(status)
        assert error["title"] and error["detail"] and error["code"]
        assert set(error.get("source", {})) <= {"pointer", "parameter", "header"}
        for place in error.get("source", {}).values():
            assert isinstance(place, str) and place
