from __future__ import annotations

import httpx
import pytest

from cuvee.errors import CuveeError, NotFoundError, SpecError, UnavailableError, error_classes


@pytest.mark.parametrize("code", sorted(error_classes()))
def test_every_code_becomes_its_class(client, script, problem, code):
    script.answers = [problem(418, code, "said so", details={"field": "x", "message": "m"})]
    with pytest.raises(CuveeError) as caught:
        client.get_job("j1")
    assert type(caught.value) is error_classes()[code]
    assert str(caught.value) == "said so"
    assert caught.value.details == {"field": "x", "message": "m"}


def test_wrong_fields_are_in_the_details(client, script, problem):
    errors = [{"pointer": "/rungs/0/runs", "message": "too few"}]
    script.answers = [problem(422, "spec_invalid", errors=errors)]
    with pytest.raises(SpecError) as caught:
        client.get_job("j1")
    assert caught.value.details["errors"] == errors


@pytest.mark.parametrize(
    ("status", "expected"),
    [(404, NotFoundError), (413, SpecError), (422, SpecError), (500, UnavailableError)],
)
def test_a_code_of_a_newer_server_goes_by_its_status(client, script, problem, status, expected):
    script.answers = [problem(status, "of_tomorrow")]
    with pytest.raises(expected):
        client.get_job("j1")


@pytest.mark.parametrize("content_type", ["text/html", "application/problem+json"])
def test_an_answer_of_another_server_is_told_as_such(client, script, content_type):
    script.answers = [
        httpx.Response(404, content=b"<html>nginx", headers={"content-type": content_type})
    ]
    with pytest.raises(NotFoundError, match="is the address right") as caught:
        client.get_job("j1")
    assert caught.value.details["body"] == "<html>nginx"
