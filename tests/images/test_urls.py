import pytest

from app.errors import InvalidRequest
from app.images.refusals import BAD_URL
from app.images.urls import DataURL, WebURL, parse_url
from tests.images.pictures import data_url, plain

BAD = [
    "",
    " ",
    "cat.png",
    "/cat.png",
    "//pictures.example/cat.png",
    "C:\\cat.png",
    "file:///etc/passwd",
    "file://localhost/etc/passwd",
    "ftp://pictures.example/cat.png",
    "gopher://pictures.example/cat.png",
    "javascript:alert(1)",
    "s3://bucket/cat.png",
    "http:pictures.example/cat.png",
    "http:/pictures.example/cat.png",
    "http:///cat.png",
    "http://",
    "http://:80/",
    "http://pictures.example:0/",
    "http://pictures.example:65536/",
    "http://pictures.example:/",
    "http://pictures.example:8x/",
    "http://pictures.example:+80/",
    "http://pictures.example./",
    "http://.pictures.example/",
    "http://pictures..example/",
    "http://user@pictures.example/",
    "http://user:word@pictures.example/",
    "http://pictures.example\\@127.0.0.1/",
    "http://127.0.0.1\\@pictures.example/",
    "http://pictures.example/cat\\dog.png",
    "http:\\\\pictures.example/",
    "http://pictures.example /",
    "http://pictures.example/a cat.png",
    "http://pictures.example/\tcat.png",
    "ht\ttp://pictures.example/",
    "http://pictures.\nexample/",
    "http://pictures.example/\r\nHost: 127.0.0.1",
    "http://pictures.example\x00.evil/",
    " http://pictures.example/",
    "http://pictures.example/\n",
    "http://пример.example/",
    "http://①②⑦.⓪.⓪.①/",
    "http://127。0。0。1/",
    "http://\u212aelvin.example/",
    "http://pictures.example/猫.png",
    "http://%31%32%37.0.0.1/",
    "http://pictures.example,evil/",
    "http://[::1/",
    "http://::1/",
    "http://[127.0.0.1]/",
    "http://[1.1::1]/",
    "http://[:]/",
    "http://[1:2:3:4:5:6:7:8:9]/",
    "http://[fe80::1%25eth0]/",
    "http://[::1].pictures.example/",
    "http://" + "a" * 64 + ".example/",
    "http://" + ".".join(["a" * 60] * 5) + "/",
    "http://pictures.example/" + "a" * 8192,
    "data:",
    "data:,",
    "data:image/png;base64",
    "data:image/png;base64,",
    "data:image/png,abc",
    "data:image/png;charset=utf-8,abc",
    "data:;base64,AAAA",
    "data:text/plain;base64,AAAA",
    "data:image/svg+xml;base64,PHN2Zy8+",
    "data:image/tiff;base64,AAAA",
    "data:image/bmp;base64,AAAA",
    "data:application/octet-stream;base64,AAAA",
    "data:image/png;base64 ,AAAA",
    "data:image/png;" + "a" * 1000 + ";base64,AAAA",
]


@pytest.mark.parametrize("url", BAD, ids=ascii)
def test_a_url_that_cannot_be_used_is_refused_in_one_sentence(url: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_url(url)

    assert (refused.value.message, refused.value.code) == (BAD_URL, "invalid_image_url")
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("url", "parts", "authority"),
    [
        ("http://a.example", ("http", "a.example", 80, "/"), "a.example"),
        ("HTTPS://A.Example/Cat.PNG", ("https", "a.example", 443, "/Cat.PNG"), "a.example"),
        ("https://a.example:443/", ("https", "a.example", 443, "/"), "a.example"),
        ("https://a.example:80/", ("https", "a.example", 80, "/"), "a.example:80"),
        ("http://a_b.c-d.example?x=1/2#y z", ("http", "a_b.c-d.example", 80, "/?x=1/2"), None),
        ("http://a.example/x@y/%00?u=http://b", ("http", "a.example", 80, None), None),
        ("http://[2001:DB8::1]:8080/", ("http", "2001:db8::1", 8080, "/"), "[2001:db8::1]:8080"),
        ("http://8.8.8.8#@127.0.0.1/", ("http", "8.8.8.8", 80, "/"), "8.8.8.8"),
        ("http://127.1/", ("http", "127.1", 80, "/"), "127.1"),
    ],
)
def test_a_url_is_taken_apart_once(
    url: str, parts: tuple[str, str, int, str | None], authority: str | None
) -> None:
    found = parse_url(url)

    assert isinstance(found, WebURL)
    assert found[:3] == parts[:3]
    assert parts[3] in (None, found.target)
    assert authority in (None, found.authority)


@pytest.mark.parametrize(
    ("hosts", "allowed"),
    [
        ((), False),
        (("*",), True),
        (("a.b.example",), True),
        (("A.B.Example",), True),
        (("*.b.example",), True),
        (("*.example",), True),
        (("c.example", "*.b.example"), True),
        (("b.example",), False),
        (("*.a.b.example",), False),
        (("*b.example",), False),
        (("a.b.example.evil",), False),
        (("a.b",), False),
    ],
)
def test_a_host_is_allowed_by_its_name_or_by_a_star(hosts: tuple[str, ...], allowed: bool) -> None:
    assert WebURL("http", "a.b.example", 80, "/").is_of(hosts) is allowed


def test_a_star_before_a_name_does_not_allow_names_that_only_end_alike() -> None:
    assert not WebURL("http", "evilb.example", 80, "/").is_of(("*.b.example",))
    assert not WebURL("http", "b.example", 80, "/").is_of(("*.b.example",))


@pytest.mark.parametrize(
    "kind", ["image/png", "image/jpeg", "image/jpg", "IMAGE/WebP", "image/gif"]
)
def test_a_data_url_of_a_kind_that_is_read_gives_its_bytes(kind: str) -> None:
    picture = plain()

    found = parse_url(data_url(picture, kind))

    assert isinstance(found, DataURL)
    assert found.decode() == picture


@pytest.mark.parametrize(
    "payload",
    ["A", "AAA", "AA=A", "AAAA=", "AAAA====", "====", "AA\nAA", "AA AA", "AA-_", "AAAé", "AA%3D"],
)
def test_base64_that_is_not_right_to_the_letter_is_refused(payload: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        DataURL(payload).decode()

    assert refused.value.message == BAD_URL


@pytest.mark.parametrize(("size", "limit"), [(1024, 1024), (1025, 1025), (1026, 1026), (1, 1)])
def test_the_size_of_base64_is_known_to_the_byte_before_it_is_decoded(
    size: int, limit: int
) -> None:
    found = parse_url(data_url(bytes(size)))
    assert isinstance(found, DataURL)

    found.check_size(limit)
    with pytest.raises(InvalidRequest, match=f"at most {limit - 1} bytes"):
        found.check_size(limit - 1)
