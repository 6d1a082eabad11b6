#!/usr/bin/env python3
"""Makes the tiny CLIP model of tests/golden/encoders/clip, the pictures of tests/golden/images, and what the reference
implementation makes of both.

Needs torch, transformers and Pillow; the tests that read the result need none of them. The weights are random.

  tests/golden/images/*.png, *.jpg     one file for each kind that is read, and some that are not
  tests/golden/images/golden.safetensors
      NAME.pixels    [h, w, 3] bytes: the picture upright, by ImageOps.exif_transpose, and by convert_to_rgb on white
      NAME.prepared  [32, 32, 3] bytes: resized (bicubic, shorter edge 32) and cropped by CLIPImageProcessorPil
  tests/golden/encoders/clip/golden.json         "texts" with their ids, "images" by name
  tests/golden/encoders/clip/golden.safetensors  "texts", "images" [count, vector]: CLIPModel's text_embeds, image_embeds
"""

import io
import json
import pathlib
import random
import shutil
import struct
import zlib

import numpy
import torch
import transformers
from PIL import Image, ImageOps
from safetensors.torch import save_file
from transformers.image_transforms import convert_to_rgb
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden"
IMAGES = GOLDEN / "images"
MODEL = GOLDEN / "encoders" / "clip"
TOKENIZER = GOLDEN / "tokenizer" / "clip_style" / "tokenizer.json"
SIDE = 32


def scene(width, height, seed):
    """A picture with edges, ramps and a little noise, as photographs have."""
    rng = numpy.random.default_rng(seed)
    y, x = numpy.mgrid[0:height, 0:width]
    red = 255 * x / max(1, width - 1)
    green = 127 + 120 * numpy.sin(x / 3.0 + y / 5.0)
    blue = numpy.where((x // 7 + y // 5) % 2 == 0, 230, 20)
    picture = numpy.stack([red, green, blue], axis=-1) + rng.normal(0, 6, (height, width, 3))
    return picture.clip(0, 255).astype(numpy.uint8)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, colours, rows, extra=(), interlaced=False):
    """A PNG file of packed rows: PIL cannot write the rarer kinds."""
    header = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, int(interlaced))
    body = b"".join(b"\0" + bytes(row) for row in rows)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunk(k, d) for k, d in extra) +
            chunk(b"IDAT", zlib.compress(body, 9)) + chunk(b"IEND", b""))


def interlaced(picture):
    height, width, _ = picture.shape
    rows = []
    for x0, y0, dx, dy in [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]:
        part = picture[y0::dy, x0::dx]
        if part.size:
            rows += [row.tobytes() for row in part]
    return png(width, height, 8, 2, rows, interlaced=True)


def packed(values, depth):
    out = bytearray()
    for at in range(0, len(values), 8 // depth):
        byte = 0
        for k in range(8 // depth):
            byte = byte << depth | (int(values[at + k]) if at + k < len(values) else 0)
        out.append(byte)
    return out


def exif(orientation, order):
    tiff = (b"MM\0*\0\0\0\x08" if order == ">" else b"II*\0\x08\0\0\0")
    return tiff + struct.pack(order + "HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)


def saved(image, **options):
    out = io.BytesIO()
    image.save(out, **options)
    return out.getvalue()


def files():
    picture = scene(45, 38, 1)
    image = Image.fromarray(picture)
    grey = image.convert("L")
    alpha = Image.fromarray(numpy.dstack([picture, picture[:, :, 1]]), "RGBA")
    small = scene(19, 13, 2)
    few = small[:, :, 0] // 64
    yield "rgb.png", saved(image, format="PNG")
    yield "rgba.png", saved(alpha, format="PNG")
    yield "grey.png", saved(grey, format="PNG")
    yield "grey_alpha.png", saved(Image.merge("LA", [grey, grey]), format="PNG")
    yield "black_white.png", saved(image.convert("1"), format="PNG")
    yield "palette.png", saved(image.quantize(23), format="PNG")
    clear = image.quantize(11)
    yield "palette_clear.png", saved(clear, format="PNG", transparency=3)
    yield "palette_2bit.png", saved(image.quantize(4), format="PNG", bits=2)
    yield "rgb_keyed.png", saved(image, format="PNG", transparency=(230, 20, 20))
    yield "grey_2bit.png", png(19, 13, 2, 0, [packed(row, 2) for row in few])
    yield "grey_4bit.png", png(19, 13, 4, 0, [packed(row // 16, 4) for row in small[:, :, 1]])
    wide = small.astype(">u2") * 256 + small[::-1]
    yield "rgb_16bit.png", png(19, 13, 16, 2, [row.astype(">u2").tobytes() for row in wide])
    yield "rgba_16bit.png", png(19, 13, 16, 6, [numpy.dstack([row[None], row[None, :, :1]]).astype(">u2").tobytes() for row in wide])
    yield "grey_alpha_16bit.png", png(19, 13, 16, 4, [row[:, :2].astype(">u2").tobytes() for row in wide])
    yield "grey_16bit.png", png(19, 13, 16, 0, [row[:, 0].astype(">u2").tobytes() for row in wide])
    yield "interlaced.png", interlaced(small)
    yield "gamma.png", png(19, 13, 8, 2, [row.tobytes() for row in small], extra=[(b"gAMA", struct.pack(">I", 100000))])
    yield "turned.png", png(19, 13, 8, 2, [row.tobytes() for row in small], extra=[(b"eXIf", exif(6, "<"))])
    yield "one_pixel.png", saved(Image.fromarray(scene(1, 1, 3)), format="PNG")
    yield "one_row.png", saved(Image.fromarray(scene(700, 1, 4)), format="PNG")
    yield "tall.png", saved(Image.fromarray(scene(9, 300, 5)), format="PNG")
    yield "exact.png", saved(Image.fromarray(scene(32, 32, 6)), format="PNG")
    yield "rgb.jpg", saved(image, format="JPEG", quality=80, subsampling=0)
    yield "half.jpg", saved(image, format="JPEG", quality=75, subsampling=2)
    yield "across.jpg", saved(image, format="JPEG", quality=85, subsampling=1)
    yield "progressive.jpg", saved(image, format="JPEG", quality=70, progressive=True)
    yield "grey.jpg", saved(grey, format="JPEG", quality=80)
    yield "cmyk.jpg", saved(image.convert("CMYK"), format="JPEG", quality=85)
    for orientation in range(1, 9):
        order = ">" if orientation % 2 else "<"
        yield f"turned_{orientation}.jpg", saved(Image.fromarray(small), format="JPEG", quality=60,
                                                 exif=b"Exif\0\0" + exif(orientation, order))


REFUSED = ("grey_16bit.png",)


def upright(data):
    """As the reference prepares a file: transparency is laid on white."""
    return convert_to_rgb(ImageOps.exif_transpose(Image.open(io.BytesIO(data))), return_numpy=True)


def write_images():
    shutil.rmtree(IMAGES, ignore_errors=True)
    IMAGES.mkdir(parents=True)
    processor = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE},
                                      do_rescale=False, do_normalize=False)
    tensors = {}
    for name, data in files():
        (IMAGES / name).write_bytes(data)
        if name in REFUSED:
            continue
        picture = upright(data)
        tensors[f"{name}.pixels"] = torch.from_numpy(picture.copy())
        prepared = processor(Image.fromarray(picture), return_tensors="np")["pixel_values"][0]
        assert prepared.min() >= 0 and prepared.max() <= 255
        tensors[f"{name}.prepared"] = torch.from_numpy(prepared.astype(numpy.uint8).transpose(1, 2, 0).copy())
    save_file(tensors, IMAGES / "golden.safetensors")
    print(f"images: {len(tensors) // 2}, {sum(p.stat().st_size for p in IMAGES.iterdir())} bytes")


def randomize(model, generator):
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() <= 1:
            parameter.data = (1.0 if "norm" in name and name.endswith("weight") else 0.0) + 0.2 * noise
        elif "embedding" in name and "patch" not in name:
            parameter.data = 0.5 * noise
        else:
            parameter.data = noise * 1.2 / (parameter[0].numel() ** 0.5)


@torch.no_grad()
def write_model():
    vocab = json.loads(TOKENIZER.read_text())["model"]["vocab"]
    end = vocab["<|endoftext|>"]
    config = transformers.CLIPConfig(
        text_config=dict(vocab_size=len(vocab), hidden_size=32, intermediate_size=56, num_hidden_layers=2, num_attention_heads=4,
                         max_position_embeddings=40, eos_token_id=end, bos_token_id=end - 1, pad_token_id=end),
        vision_config=dict(hidden_size=36, intermediate_size=64, num_hidden_layers=2, num_attention_heads=3, image_size=SIDE,
                           patch_size=8, hidden_act="gelu"),
        projection_dim=24)
    model = transformers.CLIPModel(config)
    randomize(model, torch.Generator().manual_seed(11))
    model.set_attn_implementation("eager")
    model.eval()
    shutil.rmtree(MODEL, ignore_errors=True)
    MODEL.mkdir(parents=True)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    save_file(state, MODEL / "model.safetensors", metadata={"format": "pt"})
    written = json.loads(config.to_json_string())
    written["architectures"] = ["CLIPModel"]
    written["dtype"] = "float32"
    written.pop("transformers_version", None)
    (MODEL / "config.json").write_text(json.dumps(written, indent=2) + "\n")
    processor = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    settings = json.loads(processor.to_json_string())
    (MODEL / "preprocessor_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    shutil.copy(TOKENIZER, MODEL / "tokenizer.json")

    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    tokenizer.enable_truncation(40)
    texts = ["a photo of a cat", "a diagram", "Two dogs, playing in the snow!", "x", "",
             "The quick brown fox jumps over the lazy dog. " * 6]
    rng = random.Random(5)
    ids = [tokenizer.encode(text).ids for text in texts]
    ids += [[rng.randrange(end - 1) for _ in range(n)] for n in (1, 16, 17, 40)]  # without an end token
    ids += [[rng.randrange(end - 1), end, 5, end, 7]]
    names = sorted(p.name for p in IMAGES.iterdir() if p.suffix in (".png", ".jpg") and p.name not in REFUSED)
    pictures = [processor(ImageOps.exif_transpose(Image.open(IMAGES / name)), return_tensors="pt")["pixel_values"]
                for name in names]
    text_vectors, image_vectors = [], []
    for each in ids:
        answer = model(input_ids=torch.tensor([each]), pixel_values=pictures[0])
        text_vectors.append(answer.text_embeds[0])
    for pixels in pictures:
        image_vectors.append(model(input_ids=torch.tensor([ids[0]]), pixel_values=pixels).image_embeds[0])
    lines = ",\n".join(json.dumps({"text": text, "ids": each}) for text, each in zip(texts + [None] * 9, ids))
    listed = ",\n".join(json.dumps(name) for name in names)
    (MODEL / "golden.json").write_text(f'{{"texts": [\n{lines}\n],\n"images": [\n{listed}\n]}}\n')
    save_file({"texts": torch.stack(text_vectors).contiguous(), "images": torch.stack(image_vectors).contiguous()},
              MODEL / "golden.safetensors")
    print(f"clip: {len(ids)} texts, {len(names)} images, {sum(p.stat().st_size for p in MODEL.iterdir())} bytes")


def main():
    write_images()
    write_model()


if __name__ == "__main__":
    main()
