import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from httpcore2 import AsyncNetworkStream

from app.errors import InvalidRequest
from app.images.loader import ImageLoader
from app.images.refusals import BAD_URL, FETCHING_IS_OFF
from app.settings import Settings
from schemas.messages import ImageURL
from tests.images.pictures import data_url, load, plain
from tests.images.web import PUBLIC, Script, Web, raw, reply, serving, then_endless

URL = "http://pictures.example/cat.png"
LONG_SECONDS = 600.0
SHORT_SECONDS = 0.2
CAT = plain(4, 3, "red")


@asynccontextmanager
async def loading(web: Web | None = None, **settings: Any) -> AsyncIterator[ImageLoader]:
    """A loader on the real network, or on a stand-in for it."""
    settings = {"image_hosts": ("*",), "image_seconds": LONG_SECONDS, **settings}
    seams = {"resolve": web.resolve, "connect": web.connect} if web else {}
    loader = ImageLoader(Settings(**settings), **seams)  # type: ignore[arg-type]
    try:
        async with asyncio.timeout(30):
            yield loader
    finally:
        await loader.close()


async def refuse(loader: ImageLoader, url: str = URL) -> None:
    """The one error of all URLs, whatever is wrong with them."""
    with pytest.raises(InvalidRequest) as refused:
        await load(loader, [ImageURL(url=url)], param="messages[0]")

    error = refused.value
    assert (error.status, error.code) == (400, "invalid_image_url")
    assert (error.message, error.param) == (BAD_URL, "messages[0]")


async def test_a_picture_of_a_public_host_is_fetched() -> None:
    async with serving(reply(CAT)) as web, loading(web) as loader:
        [found] = await load(loader, [ImageURL(url="http://Pictures.example:8080/a/cat.png?x=1#y")])

        assert (found.mode, found.size, found.getpixel((0, 0))) == ("RGB", (4, 3), (255, 0, 0))
        assert web.resolved == ["pictures.example"]
        assert web.dialled == [(PUBLIC, 8080)]


async def test_a_fetch_says_what_it_must_and_nothing_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving(reply(CAT)) as web, loading(web) as loader:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://user:word@127.0.0.1:{web.port}")
        await load(loader, [ImageURL(url="http://pictures.example/cat.png?x=1")])

    assert web.heads[0].split("\r\n")[:-2] == [
        "GET /cat.png?x=1 HTTP/1.1",
        "Host: pictures.example",
        "User-Agent: slipstream",
        "Accept: image/png, image/jpeg, image/webp, image/gif",
        "Accept-Encoding: identity",
        "Connection: close",
    ]
    assert web.dialled == [(PUBLIC, 80)]


LOOPBACK_URLS = [
    "http://127.0.0.1:{port}/",
    "http://127.1:{port}/",
    "http://127.0.1:{port}/",
    "http://2130706433:{port}/",
    "http://0x7f000001:{port}/",
    "http://0x7F.0.0.1:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://017700000001:{port}/",
    "http://0:{port}/",
    "http://0.0.0.0:{port}/",
    "http://[::1]:{port}/",
    "http://[::]:{port}/",
    "http://[0:0:0:0:0:0:0:1]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/",
    "http://[::127.0.0.1]:{port}/",
    "http://[64:ff9b::7f00:1]:{port}/",
    "http://[64:ff9b::127.0.0.1]:{port}/",
    "http://[2002:7f00:1::]:{port}/",
    "http://[fe80::1%25lo]:{port}/",
    "http://localhost:{port}/",
    "http://LOCALHOST:{port}/",
    "http://localhost.:{port}/",
    "http://①②⑦.⓪.⓪.①:{port}/",
    "http://127。0。0。1:{port}/",
    "http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ:{port}/",
    "http://8.8.8.8\\@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}\\@8.8.8.8/",
    "http://user@127.0.0.1:{port}/",
    "http://8.8.8.8@127.0.0.1:{port}/",
    "http://127.0.0.1\t:{port}/",
    "http://\t127.0.0.1:{port}/",
    "http:/127.0.0.1:{port}/",
    "http:127.0.0.1:{port}/",
    "//127.0.0.1:{port}/",
    "https://127.0.0.1:{port}/",
]


@pytest.mark.parametrize("url", LOOPBACK_URLS, ids=ascii)
async def test_this_machine_is_not_reached_by_any_spelling(url: str) -> None:
    async with serving(reply(CAT)) as web, loading() as loader:
        await refuse(loader, url.format(port=web.port))

        assert web.hits == 0


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/", "http://0x7f.1:{port}/"])
async def test_it_is_the_check_of_addresses_that_keeps_loopback_out(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.images.fetcher.is_public", lambda address: True)
    async with serving(reply(CAT)) as web, loading() as loader:
        await load(loader, [ImageURL(url=url.format(port=web.port))])

        assert web.hits == 1


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["169.254.169.254"],
        ["10.0.0.1"],
        ["::ffff:93.184.215.14"],
        ["64:ff9b::5db8:d70e"],
        [PUBLIC, "127.0.0.1"],
        ["127.0.0.1", PUBLIC],
        [PUBLIC, PUBLIC, PUBLIC, PUBLIC, PUBLIC, "::1"],
        ["not an address"],
        [],
    ],
    ids=str,
)
async def test_a_host_with_an_address_that_is_not_public_is_not_dialled(
    addresses: Sequence[str],
) -> None:
    async with serving(reply(CAT)) as web, loading(web) as loader:
        web.answers = [addresses]
        await refuse(loader)

        assert (web.hits, web.dialled) == (0, [])


async def test_the_address_that_was_checked_is_the_one_that_is_dialled() -> None:
    async with serving(reply(CAT)) as web, loading(web) as loader:
        web.answers = [[PUBLIC], ["127.0.0.1"], [PUBLIC]]
        await load(loader, [ImageURL(url=URL)])
        assert (web.resolved, web.dialled) == (["pictures.example"], [(PUBLIC, 80)])

        await refuse(loader)
        assert web.dialled == [(PUBLIC, 80)]


@pytest.mark.parametrize("status", ["301 X", "302 X", "303 X", "307 X", "308 X"])
async def test_a_redirect_is_not_followed(status: str) -> None:
    async with serving(reply(CAT)) as elsewhere:
        target = f"Location: http://127.0.0.1:{elsewhere.port}/"
        async with serving(reply(CAT, target, status=status)) as web, loading(web) as loader:
            await refuse(loader)

            assert (web.hits, elsewhere.hits, len(web.dialled)) == (1, 0, 1)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n"

BAD_REPLIES = {
    "not found": reply(CAT, status="404 Not Found"),
    "no content": reply(b"", status="204 No Content"),
    "partial": reply(CAT, status="206 Partial Content"),
    "failure": reply(CAT, status="500 Internal Server Error"),
    "switching": raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
    "text": reply(CAT, kind="text/html"),
    "bytes": reply(CAT, kind="application/octet-stream"),
    "no type": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"),
    "two types": reply(CAT, "Content-Type: text/html"),
    "gzip": reply(CAT, "Content-Encoding: gzip"),
    "gzip twice": reply(CAT, "Content-Encoding: identity", "Content-Encoding: gzip"),
    "brotli": reply(CAT, "Content-Encoding: br"),
    "gzip transfer": raw(HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "empty": reply(b""),
    "too long": reply(CAT + bytes(2000)),
    "claims too much": then_endless(HEAD + b"Content-Length: 1025\r\n\r\n"),
    "claims far too much": then_endless(HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n"),
    "claims more": raw(HEAD + b"Content-Length: 1000\r\n\r\n" + CAT),
    "claims nonsense": raw(HEAD + b"Content-Length: -1\r\n\r\n" + CAT),
    "contradicts itself": raw(HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n" + CAT),
    "broken chunks": raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n"),
    "endless": then_endless(HEAD + b"\r\n", b"x" * 65536),
    "endless chunks": then_endless(
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + b"x" * 0x1000 + b"\r\n"
    ),
    "endless head": then_endless(HEAD, b"X: " + b"x" * 8000 + b"\r\n"),
    "no HTTP": raw(b"SSH-2.0-OpenSSH_9.9\r\n"),
    "silence": raw(b""),
}


@pytest.mark.parametrize("script", BAD_REPLIES.values(), ids=BAD_REPLIES.keys())
async def test_an_answer_that_is_no_picture_is_the_same_error(script: Script) -> None:
    async with serving(script) as web, loading(web, max_image_bytes=1024) as loader:
        await refuse(loader)

        assert web.hits == 1


@pytest.mark.parametrize("url", [URL, "https://pictures.example/cat.png"], ids=["http", "https"])
@pytest.mark.parametrize(
    "script",
    [
        then_endless(b""),
        then_endless(b"HTTP/1.1 200 OK\r\n"),
        then_endless(HEAD + b"Content-Length: 100\r\n\r\n", b"x", 0.02),
        then_endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.02),
    ],
    ids=["silence", "half a head", "drip", "100 Continue for ever"],
)
async def test_a_slow_server_is_left_when_the_time_is_over(script: Script, url: str) -> None:
    async with serving(script) as web, loading(web, image_seconds=SHORT_SECONDS) as loader:
        await refuse(loader, url)
        await web.all_closed()

        assert web.hits == 1


async def test_the_time_is_for_all_pictures_of_a_request_together() -> None:
    drip = then_endless(HEAD + b"Content-Length: 100\r\n\r\n", b"x", 0.02)
    async with serving(drip) as web, loading(web, image_seconds=SHORT_SECONDS) as loader:
        with pytest.raises(InvalidRequest):
            await load(loader, [ImageURL(url=f"{URL}?{number}") for number in range(8)])

        await web.all_closed()
        assert web.hits <= 8


async def test_resolving_and_connecting_are_under_the_time_limit() -> None:
    async def never(*_: Any) -> Any:
        await asyncio.Event().wait()

    async def public(*_: Any) -> list[str]:
        return [PUBLIC]

    settings = Settings(image_hosts=("*",), image_seconds=SHORT_SECONDS)
    for resolve, connect in ((never, never), (public, never)):
        loader = ImageLoader(settings, resolve=resolve, connect=connect)
        await refuse(loader)
        await loader.close()


async def test_a_closed_port_and_an_unknown_name_are_the_same_error() -> None:
    async with serving(reply(CAT)) as web:
        pass

    async def unknown(host: str, port: int) -> list[str]:
        raise OSError("Name or service not known")

    async with loading(web) as loader:
        await refuse(loader)
        assert web.dialled == [(PUBLIC, 80)]
    async with loading() as loader:
        await refuse(loader, "http://no-such-name.invalid/")
    loader = ImageLoader(Settings(image_hosts=("*",)), resolve=unknown)
    await refuse(loader)
    await loader.close()


async def test_when_an_address_does_not_answer_the_next_one_is_dialled() -> None:
    async with serving(reply(CAT)) as web:

        async def connect(address: str, port: int) -> AsyncNetworkStream:
            stream = await web.connect(address, port)
            if address == PUBLIC:
                return stream
            await stream.aclose()
            raise ConnectionRefusedError

        web.answers = [["2606:2800:21f:cb07:6820:80da:af6b:8b2c", "1.0.0.1", PUBLIC, "1.1.1.1"]]
        loader = ImageLoader(Settings(image_hosts=("*",)), resolve=web.resolve, connect=connect)
        await load(loader, [ImageURL(url=URL)])
        await loader.close()

        assert [address for address, _ in web.dialled][1:] == ["1.0.0.1", PUBLIC]


@pytest.mark.parametrize("url", [URL, "https://pictures.example/cat.png"], ids=["http", "https"])
async def test_a_cancelled_request_leaves_no_socket_open(url: str) -> None:
    async with serving(then_endless(b"")) as web, loading(web) as loader:
        request = asyncio.create_task(load(loader, [ImageURL(url=url)]))
        while not web.hits:
            await asyncio.sleep(0.01)

        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request

        await web.all_closed()


async def test_where_no_host_is_allowed_http_urls_are_refused_by_name() -> None:
    async with serving(reply(CAT)) as web, loading(web, image_hosts=()) as loader:
        for url in (URL, "https://127.0.0.1/"):
            with pytest.raises(InvalidRequest) as refused:
                await load(loader, [ImageURL(url=url)])
            assert refused.value.message == FETCHING_IS_OFF
            assert (refused.value.status, refused.value.code) == (400, "invalid_image_url")
        await refuse(loader, "file:///etc/passwd")
        assert len(await load(loader, [ImageURL(url=data_url(CAT))])) == 1

        assert (web.hits, web.resolved) == (0, [])


@pytest.mark.parametrize("hosts", [("other.example",), ("*.pictures.example",), ("example",)])
async def test_a_host_that_is_not_allowed_is_not_even_resolved(hosts: tuple[str, ...]) -> None:
    async with serving(reply(CAT)) as web, loading(web, image_hosts=hosts) as loader:
        await refuse(loader)

        assert (web.hits, web.resolved) == (0, [])


async def test_an_allowed_name_does_not_allow_a_private_address() -> None:
    hosts = ("pictures.example",)
    async with serving(reply(CAT)) as web, loading(web, image_hosts=hosts) as loader:
        web.answers = [["192.168.0.7"]]
        await refuse(loader)

        assert web.hits == 0


async def test_a_url_that_is_there_several_times_is_fetched_once() -> None:
    async with serving(reply(plain(1024, 512))) as web, loading(web) as loader:
        found = await load(
            loader,
            [
                ImageURL(url=URL),
                ImageURL(url=URL.replace("http", "HTTP") + "#again", detail="low"),
                ImageURL(url=URL),
            ],
        )

        assert [picture.size for picture in found] == [(1024, 512), (512, 256), (1024, 512)]
        assert web.hits == 1


async def test_a_request_with_one_bad_url_fetches_nothing() -> None:
    async with serving(reply(CAT)) as web, loading(web) as loader:
        with pytest.raises(InvalidRequest):
            await load(loader, [ImageURL(url=URL), ImageURL(url="ftp://pictures.example/")])

        assert (web.hits, web.resolved) == (0, [])


async def test_a_fetch_that_fails_ends_the_others() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if "bad" in web.heads[-1]:
            writer.write(b"HTTP/1.1 404 Not Found\r\n\r\n")
            await writer.drain()
        else:
            await reader.read()

    async with serving(script) as web, loading(web) as loader:
        with pytest.raises(InvalidRequest):
            await load(loader, [ImageURL(url=URL), ImageURL(url=URL + "?bad")])

        await web.all_closed()


def certificate(folder: Path, name: str | ipaddress.IPv4Address) -> tuple[Path, ssl.SSLContext]:
    """A throwaway certificate that signs itself, as a file to trust and a context to serve with."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "throwaway")])
    now = datetime.datetime.now(datetime.UTC)
    alternative = x509.DNSName(name) if isinstance(name, str) else x509.IPAddress(name)
    signed = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, both = folder / "trusted.pem", folder / "served.pem"
    public.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    both.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + public.read_bytes()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return public, context


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("pictures.example", "https://pictures.example/cat.png"),
        (ipaddress.IPv4Address(PUBLIC), f"https://{PUBLIC}:8443/cat.png"),
    ],
    ids=["name", "address"],
)
async def test_over_https_the_name_in_the_url_is_what_the_certificate_must_have(
    name: str | ipaddress.IPv4Address, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted, tls = certificate(tmp_path, name)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    async with serving(reply(CAT), tls) as web, loading(web) as loader:
        [found] = await load(loader, [ImageURL(url=url)])
        assert (found.size, web.hits) == ((4, 3), 1)

        await refuse(loader, "https://other.example/cat.png")
        assert (len(web.dialled), len(web.heads)) == (2, 1)


async def test_over_https_an_unknown_certificate_is_the_same_error(tmp_path: Path) -> None:
    _, tls = certificate(tmp_path, "pictures.example")
    async with serving(reply(CAT), tls) as web, loading(web) as loader:
        await refuse(loader, "https://pictures.example/cat.png")

        assert (len(web.dialled), web.heads) == (1, [])
