"""Fetches one thing from an address that nobody here chose: bounded, patient, and only from public hosts."""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urljoin

import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, LocationParseError, NewConnectionError, SSLError
from urllib3.exceptions import TimeoutError as UrllibTimeoutError
from urllib3.util import Timeout, Url, parse_url

from dataset_prep.images.deadline import Deadline, pools

MAX_REDIRECTS = 5
LONGEST_WAIT = 60.0  # seconds before another try, whatever a server asks for
CHUNK = 1 << 16
REDIRECTS = (301, 302, 303, 307, 308)
HEADERS = {"User-Agent": "recbole-mmm4rec", "Accept": "image/*", "Accept-Encoding": "identity"}
# It logs headers that are none as a warning with a traceback; what becomes of the picture stands in the report.
logging.getLogger("urllib3").setLevel(logging.ERROR)
T = TypeVar("T")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class FetchError(Exception):
    """No picture came; the message is the reason.

    Attributes:
        passing: whether another try may succeed.
        wait: seconds that the server asked to wait, or None.
    """

    def __init__(self, reason: str, passing: bool = False, wait: float | None = None):
        super().__init__(reason)
        self.passing, self.wait = passing, wait


@dataclass(frozen=True)
class FetchLimits:
    """What a fetch may cost.

    Attributes:
        max_bytes: of a response's body.
        timeout: seconds for a response, redirects among it; waiting for its turn is not counted.
        retries: further tries after a failure that may pass.
        backoff: seconds before the first further try; doubled for each one after it.
        rate: requests a second over all threads, or None.
        allow_private: also fetch from private, loopback, link-local and reserved addresses.
    """

    max_bytes: int = 20_000_000
    timeout: float = 30.0
    retries: int = 3
    backoff: float = 1.0
    rate: float | None = None
    allow_private: bool = False


class Client:
    """Asks by HTTP and HTTPS; safe to use from several threads.

    Every name is resolved here, its addresses are checked, and the connection goes to a checked address: a name that
    resolves to something else a moment later gains nothing. Proxies of the environment are not used for this reason.

    Args:
        limits: what a fetch may cost.
        connections: threads that use the client.
    """

    def __init__(self, limits: FetchLimits, connections: int):
        self._limits = limits
        self._stopped = threading.Event()
        self._deadline = Deadline(self._stopped)
        self._pools = pools(self._deadline, num_pools=64, maxsize=connections)
        self._addresses: dict[tuple[str, int], list[str]] = {}
        self._lock = threading.Lock()
        self._next_start = 0.0

    def stop(self) -> None:
        """Ends waits between tries; what is under way fails within half a second."""
        self._stopped.set()

    def patiently(self, once: Callable[[], T], come: Callable[[], int] = lambda: 0) -> T:
        """What a try gives, after further tries where that may help.

        Args:
            once: a try.
            come: bytes that are here; a try after which there are more than ever was not in vain, and does not count.
                Fewer, once: what was here before has been thrown away, and is no measure.

        Raises:
            FetchError: of the last try.
        """
        vain, most, anew = 0, come(), False
        while True:
            try:
                return once()
            except FetchError as error:
                here = come()
                if here < most and not anew:
                    most, anew = here, True
                vain, most = (0, here) if here > most else (vain, most)
                if not error.passing or vain == self._limits.retries or self._stopped.is_set():
                    raise
                wait = self._limits.backoff * 2**vain if error.wait is None else error.wait
                self._stopped.wait(min(wait, LONGEST_WAIT))
                vain += 1

    def follow(self, url: str, headers: Mapping[str, str], take: Callable[[urllib3.BaseHTTPResponse], T]) -> T:
        """What is taken from the response at the end of all redirects.

        Args:
            url: http or https.
            headers: of the request.
            take: reads a response, whose body it must not decode.

        Raises:
            FetchError: nothing came within the limits, or the address is not to be asked.
        """
        self._deadline.at = time.monotonic() + self._limits.timeout
        for _ in range(MAX_REDIRECTS + 1):
            parts = _parse(url)
            try:
                response = self._open(parts, headers)
                try:
                    location = response.headers.get("Location")
                    if response.status not in REDIRECTS or location is None:
                        return take(response)
                    url = _join(parts.url, location)
                finally:
                    response.close()
            except SSLError as error:
                raise FetchError(f"TLS: {_first_line(error)}") from None
            except NewConnectionError:  # before the time-outs: urllib3 counts it among them
                raise FetchError("no connection", passing=True) from None
            except (TimeoutError, UrllibTimeoutError):
                raise FetchError(f"no end within {self._limits.timeout:g} s", passing=True) from None
            except HTTPError as error:
                raise FetchError(f"broken off ({type(error).__name__})", passing=True) from None
        raise FetchError(f"more than {MAX_REDIRECTS} redirects")

    def _open(self, parts: Url, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        assert parts.host is not None  # checked by _parse
        host, secure = parts.host.strip("[]"), parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        tls = {"server_hostname": host, "assert_hostname": host} if secure else {}
        addresses = self._resolve(host, port)
        for position, address in enumerate(addresses, start=1):
            self._deadline.at += self._pace()
            left = self._deadline.left()
            pool = self._pools.connection_from_host(address, port, parts.scheme, pool_kwargs=tls)
            try:
                return pool.urlopen(
                    "GET",
                    parts.request_uri,
                    headers={**headers, "Host": parts.netloc or parts.host},
                    timeout=Timeout(connect=left / (len(addresses) - position + 1), read=left),
                    retries=False,
                    redirect=False,
                    assert_same_host=False,
                    preload_content=False,
                )
            except (NewConnectionError, ConnectTimeoutError):
                if position == len(addresses):
                    raise
        raise AssertionError("a name has at least one address")

    def patience(self) -> None:
        """Give what comes next the time of a response once more, since something has come."""
        self._deadline.at = time.monotonic() + self._limits.timeout

    def _resolve(self, host: str, port: int) -> list[str]:
        known = self._addresses.get((host, port))
        if known is None:
            try:
                infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            except (socket.gaierror, UnicodeError) as error:
                raise FetchError(f"{host}: name not found ({_first_line(error)})", passing=True) from None
            known = list(dict.fromkeys(str(info[4][0]) for info in infos))
            for address in known:
                if not (self._limits.allow_private or is_public(address)):
                    raise FetchError(f"{host} is at {address}, no public address (see --allow-private-addresses)")
            self._addresses[host, port] = known
        return known

    def _pace(self) -> float:
        """Waits for this request's turn; how many seconds."""
        if self._limits.rate is None:
            return 0.0
        with self._lock:
            start = max(self._next_start, time.monotonic())
            self._next_start = start + 1 / self._limits.rate
        before = time.monotonic()
        self._stopped.wait(max(0.0, start - before))
        return time.monotonic() - before


class PictureClient(Client):
    """Fetches what fits into memory."""

    def get(self, url: str) -> bytes:
        """The body of a response.

        Args:
            url: http or https.

        Raises:
            FetchError: nothing came within the limits, or the address is not to be asked.
        """
        return self.patiently(lambda: self.follow(url, HEADERS, self._body))

    def _body(self, response: urllib3.BaseHTTPResponse) -> bytes:
        refuse(response)
        too_large = FetchError(f"more than {self._limits.max_bytes:,} bytes")
        length = response.headers.get("Content-Length", "")
        if length.isascii() and length.isdigit() and int(length[:20]) > self._limits.max_bytes:
            raise too_large
        body = bytearray()
        # Undecoded: a few kilobytes of gzip could swell to gigabytes.
        while chunk := response.read1(CHUNK, decode_content=False):
            body += chunk
            if len(body) > self._limits.max_bytes:
                raise too_large
        return bytes(body)


def refuse(response: urllib3.BaseHTTPResponse) -> None:
    """Raise a :class:`FetchError` for a response of another status than 200."""
    if response.status != 200:
        retry_after = response.headers.get("Retry-After", "")
        wait = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else None
        raise FetchError(f"HTTP {response.status}", response.status == 429 or response.status >= 500, wait)


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public Internet, seen through the ways of writing IPv4 as IPv6.

    Args:
        address: numeric, with or without a zone (``fe80::1%eth0``).
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(ip.packed[-4:])
        if inner is not None:
            return is_public(str(inner))
        if ip.teredo is not None:
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def _parse(url: str) -> Url:
    try:
        parts = parse_url(url)
    except LocationParseError:
        raise FetchError(f"no URL: {url[:200]}") from None
    if parts.scheme not in ("http", "https"):
        raise FetchError(f"scheme '{parts.scheme}': only http and https are fetched")
    if not parts.host or parts.auth:
        raise FetchError("a URL with a host and without a password is wanted")
    return parts


def _join(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        raise FetchError(f"redirected to no URL: {location[:200]}") from None


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
