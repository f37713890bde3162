"""Transfers: one attempt to get the bytes of a file from one address, going on where the last attempt ended."""

from __future__ import annotations

import ftplib
import http
import http.client
import logging
import os
import re
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urljoin, urlsplit, urlunsplit
from urllib.request import url2pathname

import pooch
import requests
import urllib3

from foldwise.artifacts import writing
from foldwise.errors import DataError, Words
from foldwise.tasks.budget import Pace, room_on

VARIABLE = re.compile(r"\$\{(\w+)\}")
BUSY = (408, 425, 429)  # these and all from 500 on may pass
LOCKED = (401, 403, 407)
PIECE = 2**16  # what is lost at most if a connection breaks
TIMEOUTS = (requests.Timeout, TimeoutError, urllib3.exceptions.TimeoutError)
REFUSALS: dict[type[BaseException], str] = {
    requests.TooManyRedirects: "too many redirects",
    http.client.InvalidURL: "an address that cannot be understood",
    ValueError: "an address that cannot be understood",
}
SECRETIVE = logging.CRITICAL + 1


class Failed(Exception):
    """An attempt failed in a way that another attempt may not.

    The text never holds an address: it may have been expanded from the environment.
    """


class Refused(Failed):
    """An address will fail however often it is asked."""


EXPECTED: tuple[type[BaseException], ...] = (
    Failed, ValueError, requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException,
    *ftplib.all_errors,
)  # fmt: skip


@dataclass(frozen=True)
class Address:
    """Where a file is, as written in the configuration; ``${NAME}`` stands for a variable of the environment."""

    written: str

    @property
    def shown(self) -> str:
        """The address for messages: without what follows the path, as that often grants access."""
        return re.split(r"[?#]", self.written, maxsplit=1)[0]

    @property
    def scheme(self) -> str:
        """The scheme; nothing for a path."""
        return urlsplit(self.written).scheme

    def expand(self, text: str | None) -> str:
        """Put in the values of variables.

        Raises
        ------
        DataError
            If a variable is not set.
        """
        for name in VARIABLE.findall(text or ""):
            if name not in os.environ:
                raise DataError(
                    self.shown, Words(f"no environment variable {name}"), "it to be set", f"export {name}=..."
                )
        return VARIABLE.sub(lambda match: os.environ[match[1]], text or "")

    def local(self) -> Path | None:
        """Return the file on this machine that the address names, None if it is on another."""
        if self.scheme in ("http", "https", "ftp"):
            return None
        if self.scheme == "file":
            return Path(self.expand(url2pathname(urlsplit(self.written).path)))
        return Path(self.expand(self.written))

    def remote(self) -> tuple[SplitResult, str, str]:
        """Return the expanded address without user and password, and these."""
        parts = urlsplit(self.written)
        user, password = (self.expand(unquote(word or "")) for word in (parts.username, parts.password))
        bare = parts._replace(netloc=parts.netloc.rpartition("@")[2])
        return urlsplit(self.expand(urlunsplit(bare))), user, password


class CheckedSession(requests.Session):
    """A session that follows redirects to no other scheme than http and https, and never from https to http."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return where a response leads.

        Raises
        ------
        Refused
            If that is no place to go.
        """
        target = super().get_redirect_target(resp)
        if target is not None:
            old, new = (urlsplit(place).scheme.lower() for place in (resp.url, urljoin(resp.url, target)))
            if new not in ("http", "https") or (old, new) == ("https", "http"):
                raise Refused(f"a redirect from {old}: to {new}:")
        return target


class ResumingDownloader:
    """Downloads over HTTP in the way of a downloader of pooch, and appends to what is there already.

    Parameters
    ----------
    auth : tuple of str, optional
        User and password.
    timeout : float
        Seconds without an answer or a byte after which an attempt fails.
    label : str
        Name of the file, for lines of progress.
    pace : Pace
        Takes lines of progress.
    """

    def __init__(self, auth: tuple[str, str] | None, timeout: float, label: str, pace: Pace) -> None:
        self.auth = auth
        self.timeout = timeout
        self.label = label
        self.pace = pace

    def __call__(self, url: str, output_file: str, pooch: Any = None) -> None:
        """Append to `output_file` what of `url` is missing in it, or write it anew.

        Raises
        ------
        Failed, Refused, or what `requests` raises
        """
        path = Path(output_file)
        held = path.stat().st_size if path.exists() else 0
        headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={held}-"} if held else {})}
        with (
            CheckedSession() as session,
            session.get(url, headers=headers, auth=self.auth, timeout=self.timeout, stream=True) as response,
        ):
            if response.status_code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and held:
                if response.headers.get("Content-Range") == f"bytes */{held}":
                    return
                path.unlink()
                raise Failed("a shorter file than before")
            check_status(response.status_code)
            if response.status_code == http.HTTPStatus.OK:  # not every server gives parts of files
                held = 0
            elif not response.headers.get("Content-Range", "").startswith(f"bytes {held}-"):
                path.unlink(missing_ok=True)
                raise Failed("another part of the file than was asked for")
            self.append(response, path, held)

    def append(self, response: requests.Response, path: Path, held: int) -> None:
        """Write the body of a response behind the bytes that are held."""
        length = response.headers.get("Content-Length", "")
        total = held + int(length) if length.isdigit() else None
        check_room(path, (total or held) - held)
        started, first = time.monotonic(), held
        with open(path, "ab" if held else "wb") as handle:
            while chunk := response.raw.read(PIECE, decode_content=False):
                handle.write(chunk)
                held += len(chunk)
                rate = (held - first) / max(time.monotonic() - started, 1e-3)
                self.pace.tell(partial(describe_progress, self.label, held, total, rate))
        if total is not None and held != total:
            raise Failed(f"{held} of {total} bytes")


def describe_progress(label: str, held: int, total: int | None, rate: float) -> str:
    """Say how much of a file is there and how fast it comes."""
    of = f" of {total / 2**20:.1f}" if total else ""
    return f"{label}: {held / 2**20:.1f}{of} MiB, {rate / 2**20:.1f} MiB/s"


def check_status(status: int) -> None:
    """Raise if a server does not send the file: `Failed` if it may do so later, `Refused` otherwise."""
    if status in (http.HTTPStatus.OK, http.HTTPStatus.PARTIAL_CONTENT):
        return
    phrase = http.HTTPStatus(status).phrase if status in {known.value for known in http.HTTPStatus} else "unknown"
    hint = ", the server wants a user, password or token" if status in LOCKED else ""
    kind = Failed if status in BUSY or status >= http.HTTPStatus.INTERNAL_SERVER_ERROR else Refused
    raise kind(f"HTTP status {status} ({phrase}){hint}")


def check_room(path: Path, size: int) -> None:
    """Raise `Refused` if bytes that are announced do not fit onto the disk."""
    free = room_on(path.parent)
    if size > free:
        raise Refused(f"{size / 2**20:.1f} MiB to come and a disk with room for {max(free, 0) / 2**20:.1f} MiB")


def attempt(address: Address, part: Path, timeout: float, label: str, pace: Pace) -> None:
    """Try once to complete a partial file from an address of another machine.

    Notes
    -----
    FTP always begins anew.

    Raises
    ------
    Failed, Refused
        With the reason in words. No other exception hangs on it, as that could show the expanded address.
    DataError
        If a variable of the environment is missing, or the disk is full.
    """
    try:
        with quiet(), writing(part):
            transfer(address, part, timeout, label, pace)
            return
    except EXPECTED as error:
        failure = describe(error)
    raise failure


def transfer(address: Address, part: Path, timeout: float, label: str, pace: Pace) -> None:
    """Get a file by the protocol that its address names."""
    url, user, password = address.remote()
    if url.scheme == "ftp":
        login = {"username": user, "password": password} if user else {}
        download = pooch.FTPDownloader(port=url.port or ftplib.FTP_PORT, timeout=timeout, chunk_size=PIECE, **login)
        download(urlunsplit(url._replace(netloc=url.hostname or "")), str(part), None)
    elif url.scheme in ("http", "https"):
        auth = (user, password) if user or password else None
        ResumingDownloader(auth, timeout, label, pace)(urlunsplit(url), str(part))
    else:
        raise Refused(f"an address that begins with {address.scheme}:")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the HTTP library from writing addresses into the log."""
    logger = logging.getLogger("urllib3")
    level = logger.level
    logger.setLevel(SECRETIVE)
    try:
        yield
    finally:
        logger.setLevel(level)


def describe(error: BaseException) -> Failed:
    """Say why an attempt failed, without any text that could hold an address."""
    if isinstance(error, Failed):
        return type(error)(*error.args)
    if isinstance(error, ftplib.Error):
        return (Refused if isinstance(error, ftplib.error_perm) else Failed)(f"FTP status {str(error)[:3]}")
    for kind, refusal in REFUSALS.items():
        if isinstance(error, kind):
            return Refused(refusal)
    if isinstance(error, TIMEOUTS):
        return Failed("no answer in time")
    return describe_connection(error)


def describe_connection(error: BaseException) -> Failed:
    """Say why a connection failed, in the words of the operating system."""
    causes = list(chain(error))
    certificate = next((cause for cause in causes if isinstance(cause, ssl.SSLCertVerificationError)), None)
    if certificate:
        return Refused(f"a certificate that is not trusted ({certificate.verify_message})")
    told = next((cause.strerror for cause in causes if isinstance(cause, OSError) and cause.strerror), None)
    return Failed(str(told).lower() if told else "a connection that broke off")


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that led to it, the first one last."""
    while error is not None:
        yield error
        inner = [word for word in (*error.args, getattr(error, "reason", None)) if isinstance(word, BaseException)]
        error = inner[0] if inner else error.__cause__ or error.__context__
