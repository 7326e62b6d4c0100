"""Which part of an address is a signature, and that none shows."""

import copy
import json

import pytest

from reelwright.curation.ingest.resolve import list_inputs
from reelwright.curation.signed import address, is_signed, link_of, without_signatures

SECRET = "5ecre7"
FILM = "https://bucket.example.org/a%20b/film.mp4"
AMAZON = (
    f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AK{SECRET}%2F20260101%2Fus-east-1%2Fs3%2Faws4_request"
    f"&X-Amz-Date=20260101T000000Z&X-Amz-Expires=3600&X-Amz-SignedHeaders=host&X-Amz-Signature={SECRET}"
)
SIGNED = {
    "S3": AMAZON,
    "S3, for a session": f"{AMAZON}&X-Amz-Security-Token=t%2F{SECRET}",
    "S3, version 2": f"AWSAccessKeyId=AK&Signature=a%2F{SECRET}%3D&Expires=1700000000",
    "CloudFront": f"Expires=1700000000&Signature=a~{SECRET}_&Key-Pair-Id=K1",
    "Google Cloud": f"X-Goog-Algorithm=GOOG4&X-Goog-Credential=a%40b&X-Goog-Date=1&X-Goog-Signature={SECRET}",
    "Azure": f"sv=2024-11-04&se=2026-01-01T00%3A00%3A00Z&sr=b&sp=r&sig={SECRET}%2Fab%3D",
}


@pytest.mark.parametrize("query", SIGNED.values(), ids=SIGNED)
def test_a_file_s_name_has_no_signature_and_its_link_is_kept(query):
    name = address(f"{FILM}?{query}")
    assert (name, link_of(name)) == (FILM, f"{FILM}?{query}")
    assert hash(name) == hash(FILM)
    assert SECRET not in f"{name} {name!r} {json.dumps(name)}"
    again = copy.deepcopy(name)  # by the way that carries it to a worker
    assert (again, link_of(again)) == (name, link_of(name))


@pytest.mark.parametrize("query", SIGNED.values(), ids=SIGNED)
def test_what_is_no_signature_stays_in_the_name(query):
    assert address(f"{FILM}?versionId=7&{query}&part=b#t=3") == f"{FILM}?versionId=7&part=b#t=3"


@pytest.mark.parametrize("uri", [
    FILM, f"{FILM}?versionId=7", f"{FILM}?Expires=7&sp=r", f"{FILM}?signatures=7", "/films/a?sig=b.mp4",
    "s3://bucket/a?Signature=b.mp4",
])  # fmt: skip
def test_an_address_without_a_signature_is_left_as_it_is(uri):
    assert address(uri) == uri
    assert not is_signed(address(uri))


@pytest.mark.parametrize("query", SIGNED.values(), ids=SIGNED)
def test_messages_of_libraries_lose_signatures(query):
    said = without_signatures(f"403, message='Forbidden', url='{FILM}?{query}', headers={{}}")
    assert SECRET not in said
    assert said.startswith(f"403, message='Forbidden', url='{FILM}?")
    assert said.endswith("', headers={}")


def test_a_file_of_a_list_with_two_signatures_is_one(tmp_path):
    rows = [{"uri": f"{FILM}?{SIGNED['S3']}", "caption": "one"}, {"uri": f"{FILM}?{SIGNED['Azure']}", "caption": "two"},
            {"uri": FILM + "x"}]  # fmt: skip
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    films = list_inputs([str(tmp_path / "list.jsonl")], allow_http=True).files
    assert [film.uri for film in films] == [FILM, FILM + "x"]
    assert films[0].captions == ("one", "two")
    assert [is_signed(film.uri) for film in films] == [True, False]
    with pytest.raises(ValueError, match="is on the web") as refused:
        list_inputs([str(tmp_path / "list.jsonl")])
    assert SECRET not in str(refused.value)
