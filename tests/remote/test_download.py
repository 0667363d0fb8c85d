"""One file from a server that breaks off, changes, lies and delays: whole and right in the end, or an error."""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import threading
from collections import namedtuple
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from archive_server import ROOT, Answer, Archive, serve

from msicube.errors import DiskSpaceError, DownloadError, RemoteError
from msicube.remote import (
    HttpClient,
    Patience,
    Receipt,
    RemoteFile,
    Servers,
    Token,
    check_space,
    fetch,
    fetch_all,
    find_receipt,
)
from msicube.remote.transfer import PART, RECEIPTS, forget

QUICK = Patience(attempts=4, pause=0.002, longest=0.01, obey=0.3, connect=5, read=5)
BODY = bytes(range(256)) * 2000
MD5 = hashlib.md5(BODY).hexdigest()


@pytest.fixture
def server() -> Iterator[Archive]:
    with serve(Archive({"a.ibd": BODY, "b.ibd": BODY[:1000]})) as archive:
        yield archive


@pytest.fixture
def client() -> Iterator[HttpClient]:
    with HttpClient(QUICK) as client:
        yield client


def remote(server: Archive, name: str = "a.ibd", **kwargs: object) -> RemoteFile:
    known = {"size": len(BODY), "md5": (MD5,), "exact": True}
    return RemoteFile(f"{server.url}{ROOT}/{name}", name, **{**known, **kwargs})  # type: ignore[arg-type]


def get(file: RemoteFile, folder: Path, client: HttpClient) -> Receipt:
    return fetch(file, folder / "in" / file.path, Servers(client).transport(file.url))


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in (folder / "in").rglob("*") if p.is_file())


def test_a_file_comes_whole_with_its_receipt(server: Archive, client: HttpClient, tmp_path: Path) -> None:
    receipt = get(remote(server), tmp_path, client)
    assert receipt.path.read_bytes() == BODY
    assert (receipt.size, receipt.md5, receipt.checked) == (len(BODY), MD5, True)
    assert files(tmp_path) == ["in/.receipts/a.ibd.json", "in/a.ibd"]
    assert find_receipt(remote(server), receipt.path) == receipt
    get(remote(server), tmp_path, client)
    assert len(server.asked) == 1, "a file that is there is not asked for again"


@pytest.mark.parametrize("cut", [-1, 0, 1, 70_000, len(BODY) - 1])
def test_a_broken_connection_is_resumed_where_it_broke_off(
    server: Archive, client: HttpClient, tmp_path: Path, cut: int
) -> None:
    def fault(path: str, number: int, headers: Mapping[str, str], answer: Answer) -> Answer:
        answer.cut = cut if number == 1 else None
        return answer

    server.fault = fault
    assert get(remote(server), tmp_path, client).path.read_bytes() == BODY
    second = server.asked[1][1]
    if cut > 65_536:
        assert int(second["range"].removeprefix("bytes=").rstrip("-")) > 0
        assert "if-range" in second
        assert sum(server.sent.values()) < 1.5 * len(BODY)


def test_many_breaks_with_progress_are_no_reason_to_give_up(
    server: Archive, client: HttpClient, tmp_path: Path
) -> None:
    def fault(path: str, number: int, headers: Mapping[str, str], answer: Answer) -> Answer:
        answer.cut = 2**16 if number < 9 else None
        return answer

    server.fault = fault
    assert get(remote(server), tmp_path, client).md5 == MD5
    assert len(server.asked) > QUICK.attempts


def test_a_server_that_ignores_ranges_starts_anew(
    server: Archive, client: HttpClient, tmp_path: Path
) -> None:
    def fault(path: str, number: int, headers: Mapping[str, str], answer: Answer) -> Answer:
        answer.cut = 300_000 if number == 1 else None
        return answer

    server.ranges, server.fault = False, fault
    assert get(remote(server), tmp_path, client).path.read_bytes() == BODY
    assert "range" in server.asked[1][1]


@pytest.mark.parametrize("validators", [True, False])
def test_a_file_that_changed_in_between_is_not_mixed(
    server: Archive, client: HttpClient, tmp_path: Path, validators: bool
) -> None:
    new = BODY[::-1]

    def fault(path: str, number: int, headers: Mapping[str, str], answer: Answer) -> Answer:
        if number == 1:
            answer.cut = 200_000
            server.files["a.ibd"] = new
        return answer

    server.validators, server.fault = validators, fault
    file = remote(server, md5=(hashlib.md5(new).hexdigest(),))
    assert get(file, tmp_path, client).path.read_bytes() == new


def test_without_validator_and_checksum_nothing_is_resumed(
    server: Archive, client: HttpClient, tmp_path: Path
) -> None:
    def fault(path: str, number: int, headers: Mapping[str, str], answer: Answer) -> Answer:
        answer.cut = 200_000 if number == 1 else None
        return answer

    server.validators, server.fault = False, fault
    receipt = get(remote(server, md5=(), exact=False), tmp_path, client)
    assert receipt.path.read_bytes() == BODY
    assert not receipt.checked
    assert "range" not in server.asked[1][1]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(
    server: Archive, client: HttpClient, tmp_path: Path, status: int
) -> None:
    server.fault = lambda path, number, headers, answer: answer if number > 2 else Answer(status)
    assert get(remote(server), tmp_path, client).md5 == MD5
    assert len(server.asked) == 3


def test_retry_after_is_obeyed_within_a_bound() -> None:
    patience = Patience(pause=1, longest=8, obey=20)
    assert patience.seconds(1, 7.0) == 7.0
    assert patience.seconds(1, 1e9) == 20
    assert patience.seconds(1, -3.0) == 0
    for attempt, bound in ((1, 1), (3, 4), (30, 8)):
        assert bound / 2 <= patience.seconds(attempt, None) <= bound


@pytest.mark.parametrize("value", ["0", "Wed, 21 Oct 2015 07:28:00 GMT", "soon", "-1", "nan"])
def test_any_retry_after_can_be_read(server: Archive, client: HttpClient, tmp_path: Path, value: str) -> None:
    server.fault = lambda path, number, headers, answer: (
        answer if number > 1 else Answer(503, {"retry-after": value})
    )
    assert get(remote(server), tmp_path, client).md5 == MD5


def test_it_gives_up_and_says_where_it_stands(server: Archive, client: HttpClient, tmp_path: Path) -> None:
    def fault(path: str, number: int, headers: Mapping[str, str], answer: Answer) -> Answer:
        if number == 1:
            answer.cut = 300_000
            return answer
        return Answer(503)

    server.fault = fault
    with pytest.raises(DownloadError, match=r"a\.ibd: .*503.*gave up after 4 attempts .* are here") as caught:
        get(remote(server), tmp_path, client)
    assert str(tmp_path) not in str(caught.value)
    assert (tmp_path / "in" / f"a.ibd{PART}").stat().st_size > 0
    assert not (tmp_path / "in" / "a.ibd").exists()
    server.fault = None
    assert get(remote(server), tmp_path, client).md5 == MD5
    assert "range" in server.asked[-1][1], "another run goes on from there"


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_final(server: Archive, client: HttpClient, tmp_path: Path, status: int) -> None:
    server.fault = lambda path, number, headers, answer: Answer(status)
    with pytest.raises(DownloadError, match=str(status)):
        get(remote(server), tmp_path, client)
    assert len(server.asked) == 1


def test_a_wrong_checksum_is_downloaded_again_and_then_reported(
    server: Archive, client: HttpClient, tmp_path: Path
) -> None:
    with pytest.raises(DownloadError, match=f"its MD5 is {MD5}, the archive's list says {'0' * 32}, 2 times"):
        get(remote(server, md5=("0" * 32,)), tmp_path, client)
    assert len(server.asked) == 2
    assert files(tmp_path) in (["in/.receipts/a.ibd.lock"], [])


def test_a_checksum_that_is_wrong_once_is_no_error(
    server: Archive, client: HttpClient, tmp_path: Path
) -> None:
    def fault(path: str, number: int, headers: Mapping[str, str], answer: Answer) -> Answer:
        if number == 1:
            answer.body = answer.body[:-1] + b"!"
        return answer

    server.fault = fault
    assert get(remote(server), tmp_path, client).md5 == MD5


def test_a_wrong_size_is_told_before_the_bytes_come(
    server: Archive, client: HttpClient, tmp_path: Path
) -> None:
    with pytest.raises(DownloadError, match=f"the server has {len(BODY)} bytes, the archive's list says 77"):
        get(remote(server, size=77), tmp_path, client)
    assert not (tmp_path / "in" / "a.ibd").exists()


def test_a_size_that_is_not_certain_may_be_wrong(server: Archive, client: HttpClient, tmp_path: Path) -> None:
    assert get(remote(server, size=77, exact=False), tmp_path, client).size == len(BODY)


def test_a_web_page_is_no_file(server: Archive, client: HttpClient, tmp_path: Path) -> None:
    page = Answer(headers={"content-type": "text/html; charset=utf-8"}, body=b"<html>Sign in</html>")
    server.fault = lambda path, number, headers, answer: page
    with pytest.raises(DownloadError, match="a web page in place of the file"):
        get(remote(server, md5=(), exact=False), tmp_path, client)
    server.fault = lambda path, number, headers, answer: page if number < 7 else answer
    assert get(remote(server, md5=(), exact=False), tmp_path, client).md5 == MD5


def test_what_is_compressed_on_the_way_is_refused(
    server: Archive, client: HttpClient, tmp_path: Path
) -> None:
    server.fault = lambda path, number, headers, answer: Answer(
        headers={"content-encoding": "gzip"}, body=b"\x1f\x8b"
    )
    with pytest.raises(DownloadError, match=r"compressed \(gzip\)"):
        get(remote(server), tmp_path, client)


def test_silence_is_a_break(server: Archive, tmp_path: Path) -> None:
    def fault(path: str, number: int, headers: Mapping[str, str], answer: Answer) -> Answer:
        answer.delay = 1.0 if number == 1 else 0.0
        return answer

    server.fault = fault
    with HttpClient(Patience(attempts=3, pause=0.01, read=0.2)) as client:
        assert get(remote(server), tmp_path, client).md5 == MD5
    assert len(server.asked) == 2


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with HttpClient(QUICK) as client, pytest.raises(DownloadError, match="no connection"):
        get(RemoteFile("http://127.0.0.1:9/x.ibd", "x.ibd"), tmp_path, client)


def redirect(location: str, status: int = 302) -> Answer:
    return Answer(status, {"location": location})


def test_redirects_are_followed_to_http_servers_only(
    server: Archive, client: HttpClient, tmp_path: Path
) -> None:
    with serve(Archive({"a.ibd": BODY})) as other:
        target = f"{other.url}{ROOT}/a.ibd"
        server.fault = lambda path, number, headers, answer: redirect(target)
        assert get(remote(server), tmp_path, client).path.read_bytes() == BODY
    forget(tmp_path / "in" / "a.ibd")
    for bad in ("ftp://127.0.0.1/a.ibd", "file:///etc/passwd"):
        server.fault = lambda path, number, headers, answer, bad=bad: redirect(bad)
        with pytest.raises(DownloadError, match="only http and https"):
            get(remote(server), tmp_path, client)
    server.fault = lambda path, number, headers, answer: redirect("http://[half")
    with pytest.raises(DownloadError, match="no valid address"):
        get(remote(server), tmp_path, client)
    server.fault = lambda path, number, headers, answer: redirect(path)
    with pytest.raises(DownloadError, match="redirects more than"):
        get(remote(server), tmp_path, client)


def test_a_token_goes_to_its_own_server_only_and_is_never_shown(
    server: Archive, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token = Token("s3cret-t0ken", server.url)
    with serve(Archive({"a.ibd": BODY})) as other, HttpClient(QUICK, token) as client:
        server.fault = lambda path, number, headers, answer: redirect(f"{other.url}{path}")
        get(remote(server), tmp_path, client)
        assert server.asked[0][1]["authorization"] == "Bearer s3cret-t0ken"
        assert "authorization" not in other.asked[0][1]
        server.fault = lambda path, number, headers, answer: Answer(401)
        with pytest.raises(DownloadError) as caught:
            get(remote(server, "b.ibd", size=1000, md5=()), tmp_path, client)
        assert "s3cret" not in repr(client) + str(caught.value) + caplog.text + repr(token)
        assert pickle.loads(pickle.dumps(client)).token == token
    assert Token("s3cret", "http://example.org").headers("http://example.org/x") == {}, "never in the clear"
    assert Token("s3cret", "https://example.org").headers("https://example.org:8443/x") == {}
    assert Token("s3cret", "https://example.org").headers("https://example.org/x")
    for path in (tmp_path / "in" / RECEIPTS).rglob("*"):
        assert "s3cret" not in path.read_text()


def test_a_query_with_a_secret_is_kept_out_of_receipts(
    server: Archive, client: HttpClient, tmp_path: Path
) -> None:
    file = RemoteFile(f"{server.url}{ROOT}/a.ibd?signature=s3cret", "a.ibd", md5=(MD5,))
    receipt = get(file, tmp_path, client)
    assert receipt.url == f"{server.url}{ROOT}/a.ibd"


def test_a_file_that_was_changed_here_is_downloaded_again(
    server: Archive, client: HttpClient, tmp_path: Path
) -> None:
    path = get(remote(server), tmp_path, client).path
    path.write_bytes(BODY[:-1] + b"!")
    assert get(remote(server), tmp_path, client).path.read_bytes() == BODY


def test_a_file_of_somebody_else_is_taken_if_it_is_the_right_one(
    server: Archive, client: HttpClient, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / RECEIPTS).mkdir()
    (tmp_path / "in" / "a.ibd").write_bytes(BODY)
    assert get(remote(server), tmp_path, client).checked
    assert server.asked == []


def test_a_link_in_the_place_of_the_part_is_not_written_through(
    server: Archive, client: HttpClient, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / f"a.ibd{PART}").symlink_to(outside)
    assert get(remote(server), tmp_path, client).path.read_bytes() == BODY
    assert outside.read_bytes() == b"mine"


def test_two_processes_do_not_write_one_part(server: Archive, client: HttpClient, tmp_path: Path) -> None:
    import fcntl

    folder = tmp_path / "in" / RECEIPTS
    folder.mkdir(parents=True)
    handle = os.open(folder / "a.ibd.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(DownloadError, match="by another process"):
        get(remote(server), tmp_path, client)
    os.close(handle)
    assert get(remote(server), tmp_path, client).md5 == MD5


def test_several_at_once_within_the_limit(server: Archive, tmp_path: Path) -> None:
    server.files = {f"{i}.ibd": BODY for i in range(12)}

    def fault(path: str, number: int, headers: Mapping[str, str], answer: Answer) -> Answer:
        answer.delay = 0.02
        return answer

    server.fault = fault
    work = [(remote(server, name), tmp_path / name) for name in server.files]
    with HttpClient(QUICK) as client:
        outcomes = list(fetch_all(work, Servers(client), connections=3))
    assert all(outcome.receipt for outcome in outcomes)
    assert 2 <= server.most_connections <= 3


def test_one_failing_file_does_not_stop_the_rest(server: Archive, tmp_path: Path) -> None:
    work = [(remote(server, name, md5=()), tmp_path / name) for name in ("none.ibd", "a.ibd")]
    with HttpClient(QUICK) as client:
        found = {o.remote.path: o for o in fetch_all(work, Servers(client))}
    assert isinstance(found["none.ibd"].error, DownloadError)
    assert found["a.ibd"].receipt is not None


def test_room_on_the_disk_is_checked_before_the_first_byte(server: Archive, tmp_path: Path) -> None:
    usage = namedtuple("usage", "free")
    work = [(remote(server, size=2**40), tmp_path / "a.ibd")]
    with pytest.raises(DiskSpaceError, match=r"1 TiB are still to be downloaded .* 5 GiB are free"):
        check_space(work, usage=lambda _: usage(5 * 2**30))
    (tmp_path / f"a.ibd{PART}").write_bytes(BODY)
    assert check_space(work, usage=lambda _: usage(2**41)) == 2**40 - len(BODY)


def test_what_was_stopped_ends_soon(server: Archive, tmp_path: Path) -> None:
    with HttpClient(Patience(attempts=5, pause=60, longest=60)) as client:
        server.fault = lambda path, number, headers, answer: Answer(503)
        threading.Timer(0.2, client.stop).start()
        with pytest.raises(DownloadError, match="stopped"):
            get(remote(server), tmp_path, client)


def test_html_instead_of_json_is_one_clear_error(server: Archive, client: HttpClient) -> None:
    server.fault = lambda path, number, headers, answer: Answer(
        headers={"content-type": "text/html"}, body=b"<html>Sign in</html>"
    )
    with pytest.raises(RemoteError, match=r"answers with text/html that begins '<html>Sign in"):
        client.get_json(f"{server.api}/projects/PXD019653")
