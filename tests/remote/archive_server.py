"""A server on loopback that speaks the interface of the PRIDE Archive, and misbehaves as it is told.

The shapes are those that pridepy reads and that the archive's own server writes: file records with ``fileName``,
``fileSizeBytes``, ``fileCategory.value`` and ``publicFileLocations``; the checksum list as a table of three columns.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import socket
import struct
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import msicube.pride as pride
from msicube.remote import Patience

QUICK = Patience(attempts=5, pause=0.002, longest=0.01, obey=0.2, connect=5, read=5)
ACCESSION = "PXD019653"
ROOT = f"/pride/data/archive/2020/11/{ACCESSION}"
API = "/pride/ws/archive/v3"
FTP = "ftp://ftp.pride.ebi.ac.uk"

PROJECT: dict[str, Any] = {
    "accession": ACCESSION,
    "title": "MALDI imaging of a simulated study: tumour | normal",
    "projectDescription": "Simulated tissue.",
    "sampleProcessingProtocol": "None.",
    "dataProcessingProtocol": "None.",
    "doi": "10.6019/PXD019653",
    "license": "Creative Commons Public Domain (CC0)",
    "submissionType": "PARTIAL",
    "publicationDate": "2020-11-05",
    "organisms": [{"cvLabel": "NEWT", "accession": "9606", "name": "Homo sapiens (human)"}],
    "organismParts": [{"cvLabel": "BTO", "accession": "BTO:0000269", "name": "Colon"}],
    "diseases": [{"cvLabel": "DOID", "accession": "DOID:9256", "name": "Colorectal cancer"}],
    "instruments": [{"cvLabel": "MS", "accession": "MS:1002302", "name": "Rapiflex"}],
    "keywords": ["MALDI imaging"],
    "references": [{"referenceLine": "Somebody et al., A paper. 2021", "pubmedID": 1, "doi": "10.1000/1"}],
}


@dataclass
class Answer:
    """What the server is about to send; a fault may change it."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    #: The connection ends after so many bytes of the body; None for never, -1 for before the head.
    cut: int | None = None
    #: It does not end but is reset: what the client has not read by then is lost.
    reset: bool = False
    #: Seconds before the head and before each block of the body.
    delay: float = 0.0


#: Given the request's path, its number among those of this path (from 1), the request's headers and the answer.
Fault = Callable[[str, int, Mapping[str, str], Answer], Answer]


@dataclass
class Archive:
    """What the server has, and what it was asked.

    Attributes
    ----------
    files
        Path below the project to its bytes.
    categories
        By path; RAW where nothing is said.
    checksums
        What the checksum list says by path instead of the truth: (name, MD5, size), or None to leave the file out.
    sizes
        What file records say instead of the truth.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    categories: dict[str, str] = field(default_factory=dict)
    checksums: dict[str, tuple[str, str, int] | None] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    unlisted: set[str] = field(default_factory=set)
    ranges: bool = True
    validators: bool = True
    fault: Fault | None = None
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    connections: int = 0
    most_connections: int = 0
    sent: Counter[str] = field(default_factory=Counter)
    url: str = ""
    _counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, folder: Path) -> Archive:
        """Return an archive of the imzML pairs in a folder; the two files of a pair are in different categories."""
        files = {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.suffix in (".imzML", ".ibd")}
        return cls(files, {name: "OTHER" for name in files if name.endswith(".ibd")})

    @property
    def api(self) -> str:
        return self.url + API

    def environment(self) -> dict[str, str]:
        """Return the variables that make msicube ask this archive."""
        return {"MSICUBE_PRIDE_API": self.api, "MSICUBE_PRIDE_FILES": self.url}

    def records(self) -> list[dict[str, Any]]:
        return [
            {
                "projectAccessions": [ACCESSION],
                "accession": hashlib.sha256(path.encode()).hexdigest(),
                "fileCategory": {
                    "@type": "CvParam",
                    "cvLabel": "PRIDE",
                    "accession": "PRIDE:0000404",
                    "name": "Associated raw file URI",
                    "value": self.categories.get(path, "RAW"),
                },
                "fileSizeBytes": self.sizes.get(path, len(body)),
                "fileName": path.rsplit("/", 1)[-1],
                "compress": False,
                "publicFileLocations": [
                    {
                        "@type": "CvParam",
                        "cvLabel": "PRIDE",
                        "accession": "PRIDE:0000468",
                        "name": "Aspera Protocol",
                        "value": f"prd_ascp@fasp.ebi.ac.uk:pride/data{ROOT}/{path}",
                    },
                    {
                        "@type": "CvParam",
                        "cvLabel": "PRIDE",
                        "accession": "PRIDE:0000469",
                        "name": "FTP Protocol",
                        "value": f"{FTP}{ROOT}/{path}",
                    },
                ],
                "submissionDate": "2020-06-08",
            }
            for path, body in self.files.items()
            if path not in self.unlisted
        ]

    def checksum_list(self) -> str:
        lines = ["File-Name\tFile-MD5Checksum\tFile-Size"]
        for path, body in self.files.items():
            true = (path.rsplit("/", 1)[-1], hashlib.md5(body).hexdigest(), len(body))
            entry = self.checksums.get(path, true)
            if entry is not None:
                lines.append("\t".join(map(str, entry)))
        return "\n".join(lines) + "\n"

    def answer(self, path: str, headers: Mapping[str, str]) -> Answer:
        """Return the right answer to a request, ranges included."""
        parts = urlsplit(path)
        plain = unquote(parts.path)
        if plain.startswith(f"{ROOT}/"):
            return self.file(plain.removeprefix(f"{ROOT}/"), headers)
        document: Any = None
        if plain == f"{API}/projects/{ACCESSION}":
            document = PROJECT
        elif plain == f"{API}/projects/{ACCESSION}/files/all":
            document = self.records()
        elif plain == f"{API}/projects/{ACCESSION}/files/count":
            document = len(self.records())
        elif plain == f"{API}/projects/{ACCESSION}/files":
            query = parse_qs(parts.query)
            size, page = min(100, int(query["pageSize"][0])), int(query["page"][0])
            document = self.records()[page * size : (page + 1) * size]
        elif plain == f"{API}/files/checksum/{ACCESSION}":
            if "json" in headers.get("accept", ""):
                return Answer(406)
            return Answer(headers={"content-type": "text/plain"}, body=self.checksum_list().encode())
        if document is None:
            return Answer(404)
        return Answer(headers={"content-type": "application/json"}, body=json.dumps(document).encode())

    def file(self, name: str, headers: Mapping[str, str]) -> Answer:
        if name.endswith("/") or name == "":
            return self.index(name)
        body = self.files.get(name)
        if body is None:
            return Answer(404)
        found = {"content-type": "application/octet-stream"}
        tag = f'"{hashlib.md5(body).hexdigest()[:12]}"'
        if self.validators:
            found["etag"] = tag
        asked = re.fullmatch(r"bytes=(\d+)-", headers.get("range", ""))
        if self.ranges:
            found["accept-ranges"] = "bytes"
        if not self.ranges or asked is None or headers.get("if-range", tag) != tag:
            return Answer(headers=found, body=body)
        start = int(asked[1])
        if start >= len(body):
            return Answer(416, {**found, "content-range": f"bytes */{len(body)}"})
        found["content-range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        return Answer(206, found, body[start:])

    def index(self, prefix: str) -> Answer:
        """Return the page with which a web server lists a folder."""
        below = [path.removeprefix(prefix) for path in self.files if path.startswith(prefix)]
        names = sorted({path.split("/")[0] + ("/" if "/" in path else "") for path in below})
        links = "".join(f'<a href="{quote(name)}">{name}</a>\n' for name in names)
        page = f'<html><a href="?C=N;O=D">Name</a> <a href="../">Parent Directory</a>\n{links}</html>'
        return Answer(headers={"content-type": "text/html;charset=UTF-8"}, body=page.encode())

    def respond(self, path: str, headers: Mapping[str, str]) -> Answer:
        lower = {key.lower(): value for key, value in headers.items()}
        with self._lock:
            self._counts[path] += 1
            number = self._counts[path]
            self.asked.append((path, lower))
        answer = self.answer(path, lower)
        return self.fault(path, number, lower, answer) if self.fault else answer

    def requests_of(self, ending: str) -> list[dict[str, str]]:
        """Return the headers of the requests whose path ends so."""
        return [headers for path, headers in self.asked if path.endswith(ending)]

    @contextmanager
    def counted(self) -> Iterator[None]:
        with self._lock:
            self.connections += 1
            self.most_connections = max(self.most_connections, self.connections)
        try:
            yield
        finally:
            with self._lock:
                self.connections -= 1


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    archive: Archive

    def do_GET(self) -> None:
        answer = self.archive.respond(self.path, dict(self.headers.items()))
        is_file = self.path.startswith(ROOT)
        if is_file:
            with self.archive.counted():
                self.send_answer(answer)
        else:
            self.send_answer(answer)

    def send_answer(self, answer: Answer) -> None:
        time.sleep(answer.delay)
        try:
            if answer.cut == -1:  # not even a head
                self.reset()
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if "transfer-encoding" not in answer.headers and "content-length" not in answer.headers:
                self.send_header("content-length", str(len(answer.body)))
            self.end_headers()
            body = answer.body if answer.cut is None else answer.body[: answer.cut]
            for start in range(0, len(body), 2**16):
                if start:
                    time.sleep(answer.delay)
                self.wfile.write(body[start : start + 2**16])
                self.archive.sent[self.path] += len(body[start : start + 2**16])
            if answer.cut is not None:
                self.wfile.flush()
                self.reset() if answer.reset else self.end()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def end(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Break the connection off, as a cable that is pulled would."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that was killed is no error of the server."""


@contextmanager
def serve(archive: Archive) -> Iterator[Archive]:
    """Serve an archive on a port of its own until the block ends."""
    handler = type("Handler", (_Handler,), {"archive": archive})
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    archive.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield archive
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def ask(archive: Archive, *, patience: Patience = QUICK, token: str | None = None) -> pride.Archive:
    """Return a client of the archive that does not wait."""
    return pride.Archive.of(api=archive.api, files=archive.url, token=token, patience=patience)


def listed(archive: Archive) -> pride.Project:
    """Return the project as the archive lists it."""
    with ask(archive) as client:
        return pride.list_project(ACCESSION, client)


def is_file(path: str) -> bool:
    """Return whether a request is for a file rather than for the interface."""
    return path.startswith(ROOT)


def troubles(seed: int, share: float = 0.3) -> Fault:
    """Return a fault that meets a share of all requests, at most twice each path: everything that can go wrong."""
    rng = random.Random(seed)
    met: Counter[str] = Counter()

    def fault(path: str, number: int, headers: Mapping[str, str], answer: Answer) -> Answer:
        if rng.random() > share or met[path] == 2:
            return answer
        met[path] += 1
        kind = rng.randrange(6)
        if kind == 0:
            return Answer(429, {"retry-after": "0"})
        if kind == 1:
            return Answer(503)
        if kind == 2:
            answer.cut = -1
        elif kind == 3:
            answer.cut, answer.reset = rng.randrange(max(1, len(answer.body))), rng.random() < 0.5
        elif kind == 4:
            answer.delay = 0.05
        elif is_file(path):
            return Answer(headers={"content-type": "text/html"}, body=b"<html>Under maintenance</html>")
        return answer

    return fault
