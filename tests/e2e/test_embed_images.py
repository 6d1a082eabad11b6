"""Texts and pictures in one space: a small CLIP model beside a generating one, by gRPC, HTTP, the Python package and
tandemctl."""

import asyncio
import base64
import json
import zlib

import grpc
import pytest

from gateway_rig import Gateway
from harness import ROOT, Cluster, inference
from test_embed import ENCODERS, distance, embed, folder_of, refusal, tensors, values

MODEL = ENCODERS / "clip"
IMAGES = ROOT / "tests" / "golden" / "images"
GOLDEN = json.loads((MODEL / "golden.json").read_text())
IMAGE_TOKENS = 17  # 4 x 4 patches and the class token


def read(name):
    return (IMAGES / name).read_bytes()


def data_url(name):
    kind = "jpeg" if name.endswith(".jpg") else "png"
    return f"data:image/{kind};base64,{base64.b64encode(read(name)).decode()}"


def embed_images(cluster, *files, **fields):
    request = inference.EmbedRequest(model="clip", inputs=[inference.EmbedInput(image=f) for f in files], **fields)
    return cluster.inference().Embed(request, timeout=60)


@pytest.fixture(scope="module")
def vectors():
    found = tensors(MODEL / "golden.safetensors")
    return {"texts": found["texts"], "images": dict(zip(GOLDEN["images"], found["images"]))}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    tmp = tmp_path_factory.mktemp("clip")
    extra = (f"  - {{name: clip, path: {MODEL}, task: embed}}\n"
             f"  - {{name: small-embed, path: {folder_of(tmp, 'bert-mean')}, task: embed}}")
    with Cluster(tmp, tensor_parallel=2, extra=extra) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(cluster):
    with Gateway(cluster.tmp, cluster.clients) as running:
        yield running


def test_every_picture_has_the_references_vector(cluster, vectors):
    answer = embed_images(cluster, *(read(name) for name in GOLDEN["images"]))
    for name, got in zip(GOLDEN["images"], answer.embeddings):
        assert distance(got.values, vectors["images"][name]) <= 1e-5, name
        assert got.prompt_tokens == IMAGE_TOKENS and not got.truncated
    assert answer.usage.prompt_tokens == IMAGE_TOKENS * len(GOLDEN["images"])


def test_texts_and_ids_have_the_references_vectors(cluster, vectors):
    texts = [(each["text"], vector) for each, vector in zip(GOLDEN["texts"], vectors["texts"]) if each["text"]]
    for got, (text, wanted) in zip(values(embed(cluster, [t for t, _ in texts], model="clip", truncate_tokens=0)), texts):
        assert distance(got, wanted) <= 1e-5, text
    by_ids = values(embed(cluster, ids=[each["ids"] for each in GOLDEN["texts"]], model="clip"))
    assert all(distance(got, wanted) <= 1e-5 for got, wanted in zip(by_ids, vectors["texts"]))


def test_many_of_both_kinds_in_one_call_keep_their_order_and_bits(cluster):
    names = [GOLDEN["images"][i % len(GOLDEN["images"])] for i in range(70)]
    inputs = []
    for i, name in enumerate(names):
        inputs += [inference.EmbedInput(image=read(name)), inference.EmbedInput(text=f"picture {i % 5}".encode())]
    together = values(cluster.inference().Embed(inference.EmbedRequest(model="clip", inputs=inputs), timeout=60))
    for i in (0, 1, 48, 49, 138, 139):
        alone = cluster.inference().Embed(inference.EmbedRequest(model="clip", inputs=[inputs[i]]), timeout=60)
        assert values(alone) == [together[i]]


def chunk(kind, data):
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def png_of(width, height):
    """A file of a hundred bytes that claims this size, and has checksums that are right."""
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\0\0\0"
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("file, part", [
    (b"", "neither a PNG nor a JPEG"),
    (b"GIF89a" + b"x" * 100, "neither a PNG nor a JPEG"),
    (b"http://127.0.0.1:1/a.png", "neither a PNG nor a JPEG"),
    (b"\x80\x04\x95" + b"x" * 100, "neither a PNG nor a JPEG"),
    (read("rgb.png")[:900], "cannot be decoded"),
    (read("half.jpg")[:600], "cannot be decoded"),
    (read("grey_16bit.png"), "grey with 16 bits"),
    (png_of(16000, 16000), "16000 x 16000 pixels; allowed are"),
    (png_of(60000, 60000), "cannot be decoded"),
    (read("rgb.png") + b"\0" * (8 << 20), "allowed are 8388608"),
], ids=["empty", "gif", "url", "pickle", "cut_png", "cut_jpeg", "grey_16bit", "too_large", "much_too_large", "too_many_bytes"])
def test_a_bad_picture_is_its_senders_fault_and_nobody_elses(cluster, file, part):
    good = read("rgb.jpg")
    code, reason, said = refusal(lambda: embed_images(cluster, good, file, good))
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PARAMETER"), said
    assert part in said and "inputs[1]" in said
    assert len(embed_images(cluster, good).embeddings) == 1
    assert cluster.ctl("wait", "ready", "--timeout", "5s").returncode == 0


def test_a_model_of_texts_reads_no_pictures(cluster):
    request = inference.EmbedRequest(model="small-embed", inputs=[inference.EmbedInput(image=read("rgb.png"))])
    assert "reads text only" in refusal(lambda: cluster.inference().Embed(request, timeout=10))[2]


# ---- over HTTP


@pytest.mark.parametrize("form", [
    lambda url: {"input": url},
    lambda url: {"input": [url]},
    lambda url: {"input": {"image": url}},
    lambda url: {"input": [{"image": url}]},
    lambda url: {"input": [{"image": url.split(",")[1]}]},
    lambda url: {"input": [{"type": "image_url", "image_url": {"url": url}}]},
    lambda url: {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]},
])
@pytest.mark.parametrize("name", ["rgb.png", "turned_6.jpg"])
def test_a_data_url_is_read_in_every_form_that_clients_send(gateway, vectors, form, name):
    status, _, body = gateway.ask("/v1/embeddings", {"model": "clip", "encoding_format": "float", **form(data_url(name))})
    assert status == 200, body
    assert distance(body["data"][0]["embedding"], vectors["images"][name]) <= 1e-5
    assert body["usage"]["prompt_tokens"] == IMAGE_TOKENS


def test_texts_and_pictures_in_one_request(gateway, vectors):
    asked = {"model": "clip", "input": [{"text": "a photo of a cat"}, {"image": data_url("rgb.jpg")}, "a diagram"]}
    body = gateway.ask("/v1/embeddings", asked)[2]
    wanted = [vectors["texts"][0], vectors["images"]["rgb.jpg"], vectors["texts"][1]]
    assert [item["index"] for item in body["data"]] == [0, 1, 2]
    assert all(distance(item["embedding"], vector) <= 1e-5 for item, vector in zip(body["data"], wanted))


@pytest.mark.parametrize("sent, part", [
    ([{"image": "http://127.0.0.1:1/a.png"}], "nothing is fetched"),
    ([{"image": "file:///etc/passwd"}], "nothing is fetched"),
    ([{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}], "nothing is fetched"),
    ([{"image": "data:image/webp;base64,AAAA"}], "image/png and image/jpeg"),
    (["data:image/png,abc"], "not base64"),
    ([{"image": "data:image/png;base64,!!!!"}], "no picture in base64"),
    ([{"image": "data:image/png;base64," + base64.b64encode(b"GIF89a......").decode()}], "neither a PNG nor a JPEG"),
    ([{"image": "data:image/png;base64," + base64.b64encode(read("rgb.png")[:500]).decode()}], "cannot be decoded"),
    ([{"image": 5}], "must be a string"),
    ([{}], "must be a string"),
])
def test_what_is_no_picture_is_a_bad_request(gateway, sent, part):
    status, _, body = gateway.ask("/v1/embeddings", {"model": "clip", "input": sent})
    assert status == 400 and part in body["error"]["message"], body


# ---- clients


def test_the_python_package(package, cluster, vectors):
    with package.Client(f"127.0.0.1:{cluster.clients}") as client:
        of_file, of_bytes = client.embed("clip", image=[IMAGES / "rgb.png", read("rgb.jpg")])
        assert distance(of_file, vectors["images"]["rgb.png"]) <= 1e-5
        assert distance(of_bytes, vectors["images"]["rgb.jpg"]) <= 1e-5
        text, ids, image = client.embed("clip", ["a diagram", GOLDEN["texts"][0]["ids"]], image=read("rgb.png"))
        assert distance(text, vectors["texts"][1]) <= 1e-5 and distance(ids, vectors["texts"][0]) <= 1e-5 and image == of_file
        assert client.embed("clip", "a diagram") == [text]
        assert len(client.embed("clip", "a diagram", dimensions=4)[0]) == 4
        with pytest.raises(package.TandemError) as caught:
            client.embed("clip", image=b"GIF89a")
        assert caught.value.reason == "INVALID_PARAMETER" and caught.value.metadata["field"] == "inputs[0]"
        with pytest.raises(TypeError):
            client.embed("clip", image="http://127.0.0.1:1/a.png")
        with pytest.raises(TypeError):
            client.embed("clip", no_such_argument=1)

    async def ask():
        async with package.AsyncClient(f"127.0.0.1:{cluster.clients}") as client:
            return await client.embed("clip", image=IMAGES / "rgb.png")

    assert asyncio.run(ask()) == [of_file]


def test_tandemctl_reads_files(cluster, vectors):
    done = cluster.ctl("embed", "--model", "clip", "a diagram", "--image", IMAGES / "rgb.png", "--image", IMAGES / "rgb.jpg", "-o", "json")
    got = [each["values"] for each in json.loads(done.stdout)["embeddings"]]
    wanted = [vectors["texts"][1], vectors["images"]["rgb.png"], vectors["images"]["rgb.jpg"]]
    assert all(distance(a, b) <= 1e-5 for a, b in zip(got, wanted)) and len(got) == 3
    assert cluster.ctl("embed", "--model", "clip", "--image", "/no/such/file", check=False).returncode != 0
    assert "TEXT or an --image" in cluster.ctl("embed", "--model", "clip", check=False).stderr
