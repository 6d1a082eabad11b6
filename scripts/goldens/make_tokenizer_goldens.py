#!/usr/bin/env python3
"""Makes tests/golden/tokenizer/: strings, and the ids that the reference implementations give them.

    python3 scripts/goldens/make_tokenizer_goldens.py [--tokenizers FOLDER] [--train] [--train-bert] [--train-clip] [--train-unigram]

Needs `tokenizers`, `transformers` and `sentencepiece`. --train makes the small tokenizer files of decoders anew,
--train-bert, --train-clip and --train-unigram those of encoders (their ids change);
without it the committed ones are read. FOLDER has gpt2/ and mistral/, the real vocabularies (default
../shared/tokenizers); where it is missing, their goldens stay as they are. models/tandem-tiny is taken along where it
exists.

strings.json    {"strings": [...], "special": [...]}: 500 ordinary strings, and some with special tokens in them
components.json {"normalizers": [...], "pre_tokenizers": [...]}: parts by themselves, {"config", "cases": [[text, result]]}
ids/NAME.json   {"ids": [...], "special": [...], "plain": [...], "noise": [...], "text": [...]}:
                ids       of each string, with the model's special tokens around it
                special   of each special string, special tokens recognised
                plain     the same strings, special tokens as ordinary text (null: the reference cannot say)
                noise     [ids, text] of random ids, as a model may say them (byte-level only: the others repair ill-formed
                          bytes in their own ways)
                text      what the ids of each string decode to without special tokens; null where that is the string
                pairs     of encoders: [first, second, most, ids, type_ids]; cut to `most`, second null: one text
"""

import argparse
import base64
import json
import pathlib
import random
import re
import shutil
import tempfile
import unicodedata

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "tests" / "golden" / "tokenizer"

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")

PROSE = [
    "The scheduler gives every request to a group of workers, and the group answers with a stream of tokens.",
    "When a worker is drained, the requests that run on it finish first; nothing new is admitted in the meantime.",
    "It's late, they're tired, and we've 1,024 things to do before 2031-12-31 at 23:59:59.",
    "Die Größe des Speichers wird gemessen, nicht geschätzt; außerdem müssen Übergänge überprüft werden.",
    "L'été dernier, le cœur léger, nous avons mangé des crêpes à l'île d'Oléron – près de Noël, déjà !",
    "El niño pidió ¿por qué? y la señora contestó: ¡porque mañana será otro día!",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία, είπε ο Οδυσσεύς.",
    "天地玄黃,宇宙洪荒。日月盈昃,辰宿列張。",
    "いろはにほへと ちりぬるを。カタカナも、ひらがなも、漢字も使います。",
    "다람쥐 헌 쳇바퀴에 타고파. 한국어 문장은 띄어쓰기가 있습니다.",
    "نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر",
    "דג סקרן שט בים מאוכזב ולפתע מצא חברה",
    "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता प्राप्त है।",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน",
    "Zażółć gęślą jaźń. Příliš žluťoučký kůň úpěl ďábelské ódy.",
    "Tiếng Việt có dấu: Những con đường nhỏ dẫn đến bờ biển.",
    "Pijamalı hasta yağız şoföre çabucak güvendi. İstanbul, ılık ırmak.",
    "ქართული ენა და հայերեն լեզու, አማርኛም።",
    "தமிழ் மொழி, తెలుగు భాష, বাংলা ভাষা, ಕನ್ನಡ, മലയാളം",
]

CODE = [
    "def f(x):\n    return x ** 2  # square\n\n\nif __name__ == '__main__':\n\tprint(f(12345))\n",
    "for (int i = 0; i < n; ++i) {\n  sum += a[i] * b[i];\n}\r\n",
    "SELECT name, COUNT(*) FROM workers WHERE state <> 'lost' GROUP BY name HAVING COUNT(*) >= 2;",
    '{"model": "tiny", "max_tokens": 16, "stop": ["\\n\\n", "###"], "temperature": 0.7e-3}',
    "#include <vector>\nstd::vector<std::pair<int, float>> v{{1, 2.5f}, {-3, 1e-10f}};",
    "curl -s https://example.org/a?b=c&d=%20e#f | jq '.items[] | select(.id > 3)'",
    "<p class=\"x\">a &amp; b</p><!-- note -->",
    "git commit -m 'core: book KV by estimate' && git push origin HEAD:refs/heads/x_y-z",
    "0x7fFF 0b1010 1_000_000 3.14159 6.02e23 192.168.0.1 ::1 50% $9.99 €5 ¥100 £3",
    "\\begin{equation} e^{i\\pi} + 1 = 0 \\end{equation}",
]

SYMBOLS = [
    "👨‍👩‍👧‍👦 family, 👩🏽‍🚀 astronaut, 🏳️‍🌈 flag, 🇩🇪🇫🇷 flags, 1️⃣ keycap", "🤷🏻‍♀️🤦🏿‍♂️👍🏾🙏", "☺☺️❤️‍🔥",
    "e\u0301 vs \u00e9, A\u030a vs \u00c5 vs \u212b, o\u0302\u0301 vs \u1ed1, q\u0307\u0323 vs q\u0323\u0307",
    "Z\u0351\u036b\u0343\u034ba\u0300\u0301\u0302\u0303l\u0334\u0335g\u0321o\u031b", "\u1100\u1161\u11a8 \uac01 \uac00\u11a8",
    "ﬁ ﬂ ﬀ ½ ² ³ ¹ ① Ⅷ ㎏ ﷺ ｆｕｌｌ ﾊﾝｶｸ", "ſ'ſ 'S 'T 'Re 'LL I'M we'd 'ſ K\u212a \u017f\u017f", "ß ẞ ﬃ İ ı Ǆ ǅ ǆ Σ ς σ",
    "\u200bzero\u200cwidth\u200djoin\u2060\ufeffbom\u00adhyphen", "\u202eright\u202cleft\u200e\u200f\u2066x\u2069",
    "a\u00a0b\u2003c\u2009d\u202fe\u3000f\u1680g\u205fh\u180ei\u0085j\u2028k\u2029l", "∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, α ∧ ¬β = ¬(¬α ∨ β), ∑∏∫√∞≠≤≥",
    "𝒳𝔘𝕏 𐍈𐌰 𠜎𠜱𠝹 🀄🂡 𝟘𝟙𝟚 𐤀 𒀀", "٠١٢٣ ۴۵۶ १२३ ๑๒๓ 𝟏𝟐 ⅓ ⅻ 〇一二", "\u0000\u0001\u001f\u007f\u0080\u009f",
    "\uffff\ufffe\ufdd0\U0010ffff\ue000", "…—–‘’“”«»‹›„‚•·°§¶†‡", "\u0e33\u0e34\u0e35\u0e36", "ⓐⒷ🄰🅐🆊 _‿⁀ ª º ·",
    "▁ ▁▁ a▁b ▁a", "Ġ Ċ ĠĠ âĢĶ Ã©", "<0x41> <0x0A> <0xFF> <unk>? [INST]?", "\ufffd \ufffd\ufffd",
]

EDGES = [
    "", " ", "  ", "   ", "a", " a", "a ", "  a  ", "\n", "\n\n", "\n\n\n", "\r", "\r\n", "\r\n\r\n", "\t", "\t\t\t", " \n", "\n ",
    " \n ", "  \n\n  x", "x\n\n  \n y", "a  b", "a   b    c", "a\t b \tc", "x" * 60, " " * 60, "\n" * 50, "ab" * 60,
    "." * 70, "-" * 33, "=" * 64, "1" * 40, "0123456789" * 3, "!?" * 20, "aaaa bbbb " * 12, "😀" * 30, "é" * 40, "\u0301" * 20,
    "日" * 40, " 1 22 333 4444 55555 666666", "don't can't I'll we're he'd it's", "DON'T CAN'T I'LL WE'RE HE'D IT'S",
    "'", "''", "'s", " 's", "a's'ss", "x'\n's", "CamelCaseWithManyWords", "snake_case_with_many_words", "a.b,c;d:e!f?g",
    "(a)[b]{c}<d>", "a-b-c--d---e", "/usr/local/bin", "C:\\Users\\x", "user@example.org", "A1B2C3", "1a2b3c", "1.5e-10", "1,234,567.89",
]

SPECIAL = [
    "<|endoftext|>", "a<|endoftext|>b", "<|endoftext|><|endoftext|>", " <|endoftext|> ", "x <|endoftext|>\n\n y",
    "<s>", "</s>", "<s> a</s>", "a<s>b</s>c", "<s><s>", "<unk>", "a<unk>b", "<unk> <s> </s>", "[INST] hi [/INST]", "<s>[INST]x[/INST] y</s>",
    "<|im_start|>user\nhi<|im_end|>\n", "<|im_start", "im_end|>", "<|begin_of_text|>a", "a <mask> b", "a<mask>b", "x <sep>y<sep> z", "oneword two",
    "a word b", "aword wordb word", "(word)", "é ÉCLAIR e\u0301clair", "<|end", "<<s>>", "< s>",
]


def strings():
    """500 strings of valid Unicode: written ones, then pieces and mixtures of them by a fixed seed."""
    rng = random.Random(20240607)
    out = EDGES + PROSE + CODE + SYMBOLS
    # Every ASCII character alone and beside a letter; every UTF-8 byte value appears in one of the blocks below.
    out += [chr(c) for c in range(128) if chr(c) not in out][:100]
    for start in (0x80, 0xC0, 0x100, 0x180, 0x250, 0x300, 0x370, 0x400, 0x530, 0x590, 0x600, 0x700, 0x900, 0xE00, 0x10A0, 0x1200, 0x13A0,
                  0x1E00, 0x2000, 0x2070, 0x20A0, 0x2100, 0x2200, 0x2460, 0x2500, 0x2600, 0x3040, 0x3100, 0x4E00, 0x8000, 0xA000, 0xAC00,
                  0xD700, 0xF900, 0xFE00, 0x10000, 0x10300, 0x12000, 0x1D400, 0x1F100, 0x1F300, 0x1F600, 0x1F900, 0x20000, 0xE0100):
        block = [chr(c) for c in range(start, start + 16) if not 0xD800 <= c <= 0xDFFF]
        # What a later Unicode assigned, the two sides may class differently.
        block = [c for c in block if unicodedata.category(c) != "Cn"]
        out.append("".join(block))
        if len(block) > 8:
            out.append(" ".join(rng.sample(block, 8)))
    written = PROSE + CODE + SYMBOLS
    spaces = ["", " ", "  ", "\n", "\n\n", "\t", "   ", " \n "]
    while len(out) < 500:
        parts = []
        for _ in range(rng.randint(1, 4)):
            source = rng.choice(written)
            begin = rng.randrange(len(source))
            parts.append(source[begin:begin + rng.randint(1, 16)] + rng.choice(spaces))
        text = "".join(parts)
        if text not in out:
            out.append(text)
    assert len(out) == 500 and len(set(out)) == 500, (len(out), len(set(out)))
    return out


def corpus():
    return (PROSE + CODE) * 4 + SYMBOLS


def train():
    """Three small files, one for each family of tokenizer.json that is served."""

    def byte_level(pattern, digits_normalizer, specials, vocab_size, ignore_merges):
        tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
        tokenizer.normalizer = digits_normalizer
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ])
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.train_from_iterator(
            corpus(), trainers.BpeTrainer(vocab_size=vocab_size, show_progress=False,
                                          initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
        tokenizer.add_special_tokens(specials)
        return tokenizer

    llama3 = byte_level(LLAMA3, None, ["<|begin_of_text|>", "<|end_of_text|>", "<|endoftext|>"], 900, True)
    llama3.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<|begin_of_text|> $A",
                                      special_tokens=[("<|begin_of_text|>", llama3.token_to_id("<|begin_of_text|>"))]),
    ])
    llama3.add_tokens([AddedToken("<mask>", lstrip=True, normalized=False), AddedToken("<sep>", rstrip=True, normalized=False),
                       AddedToken("word", single_word=True, normalized=False)])

    qwen2 = byte_level(QWEN2, normalizers.NFC(), ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], 800, False)
    qwen2.post_processor = processors.ByteLevel(trim_offsets=False)
    qwen2.add_tokens([AddedToken("éclair", normalized=True)])

    # As Llama 2 and Mistral are converted: the space is a piece, bytes stand in for what the training text did not have.
    specials = ["<unk>", "<s>", "</s>"]
    spm = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    spm.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    spm.train_from_iterator(PROSE[:6] * 4, trainers.BpeTrainer(vocab_size=700, show_progress=False, special_tokens=specials + [
        f"<0x{b:02X}>" for b in range(256)]))
    state = json.loads(spm.to_str())
    state["added_tokens"] = [t for t in state["added_tokens"] if t["content"] in specials]
    spm = Tokenizer.from_str(json.dumps(state))
    spm.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                     decoders.Strip(content=" ", left=1)])
    spm.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])

    # The same pieces behind the newer pre-tokenizer, with digits and punctuation apart, and an end token.
    meta = Tokenizer.from_str(spm.to_str())
    meta.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    meta.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=True),
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.Punctuation(behavior="contiguous"),
    ])
    meta.decoder = decoders.Sequence([decoders.Metaspace(replacement="▁", prepend_scheme="first", split=True),
                                      decoders.ByteFallback(), decoders.Fuse()])
    meta.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])

    for name, tokenizer in {"llama3_style": llama3, "qwen2_style": qwen2, "spm_style": spm, "metaspace_style": meta}.items():
        folder = OUT / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tokenizer.json").write_text(
            json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":")) + "\n")


def train_bert():
    """As BERT's files are: WordPiece, uncased behind a template, and cased behind the processor that came before it."""
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    for name, lowercase in {"bert_style": True, "bert_cased_style": False}.items():
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100 if lowercase else 20))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
        tokenizer.train_from_iterator(corpus(), trainers.WordPieceTrainer(vocab_size=900, show_progress=False,
                                                                          special_tokens=specials))
        if lowercase:
            tokenizer.post_processor = processors.TemplateProcessing(
                single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
        else:
            tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
        folder = OUT / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tokenizer.json").write_text(
            json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":")) + "\n")


def pair_goldens(tokenizer):
    """Pairs of texts, whole and cut; single texts cut."""
    out = []
    firsts, seconds = PROSE[:8] + ["", "[SEP]a [MASK] b[CLS]"], PROSE[8:16] + CODE[:2]
    for i, (first, second) in enumerate(zip(firsts, seconds)):
        for most in (512, 32, 17, 8):
            tokenizer.enable_truncation(most)
            for other in (second, None) if i % 2 else (firsts[i - 1], second, None):
                got = tokenizer.encode(first, other)
                out.append([first, other, most, got.ids, got.type_ids])
    tokenizer.no_truncation()
    return out


COMPONENT_TEXTS = [
    "", " ", "Hello, world!", " a  b\n\nc\t", "don't 'S I'LL", "x1y22 333४५½Ⅷ", "a.b,,c--d $5+3=8 «q»", "é e\u0301 ÅΣΑΣ İI ǅ", "ﬁ ½ ㎏ ﷺ ①",
    "日本 語\u3000漢字", "👨‍👩‍👧 ☺️", "\u00a0x\u2028y\u0085 \u180ez\u200b", "a▁b▁▁c ▁", "q\u0307\u0323 ạ̇ \u1100\u1161\u11a8", "snake_case‿x ⓐ²·", "abcabcab",
]


def component_goldens():
    split = pre_tokenizers.Split
    behaviors = ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]
    pre = [split(" ", b) for b in behaviors] + [split(Regex(r"\s+|b"), b, invert=i) for b in behaviors for i in (False, True)]
    pre += [split(Regex(p), "isolated") for p in (
        LLAMA3, QWEN2, r"\w+|[^\w\s]+", r"[\s\S]\d", r"[^\S\n]+", r"\p{Han}|\p{Greek}+", r"(?i)[a-c]+(?=c)", r"\P{L}+", r"\x41|\u00e9|[\x{300}-\x{36f}]",
        r"(?<!a)b|(?<=a)b+?", r"\W")]
    pre += [pre_tokenizers.ByteLevel(add_prefix_space=a, use_regex=r) for a in (False, True) for r in (False, True)]
    pre += [pre_tokenizers.Digits(individual_digits=d) for d in (False, True)]
    pre += [pre_tokenizers.Punctuation(behavior=b) for b in behaviors]
    pre += [pre_tokenizers.Whitespace(), pre_tokenizers.WhitespaceSplit(), pre_tokenizers.BertPreTokenizer()]
    pre += [pre_tokenizers.Metaspace("▁", scheme, s) for scheme in ("always", "first", "never") for s in (False, True)]
    pre += [pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace("▁", "first"),
                                     pre_tokenizers.Digits(True)])]
    norm = [normalizers.NFC(), normalizers.NFD(), normalizers.NFKC(), normalizers.NFKD(), normalizers.Lowercase(),
            normalizers.StripAccents(), normalizers.Prepend("▁"), normalizers.Replace(" ", "▁"), normalizers.Replace("ab", "ba"),
            normalizers.Replace(Regex(r"\s{2,}"), " "), normalizers.Strip(True, False), normalizers.Strip(False, True),
            normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()]),
            normalizers.BertNormalizer(), normalizers.BertNormalizer(lowercase=False),
            normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=True)]

    def config(part):
        return json.loads(part.__getstate__())

    def words(part, text):
        return [word for word, _ in part.pre_tokenize_str(text)]

    return {
        "normalizers": [{"config": config(n), "cases": [[t, n.normalize_str(t)] for t in COMPONENT_TEXTS]} for n in norm],
        "pre_tokenizers": [{"config": config(p), "cases": [[t, words(p, t)] for t in COMPONENT_TEXTS if t]} for p in pre],
    }


CLIP_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def train_clip():
    """As CLIP's file is: byte-level BPE whose last piece of a word ends in "</w>"."""
    start, end = "<|startoftext|>", "<|endoftext|>"
    tokenizer = Tokenizer(models.BPE(unk_token=end, continuing_subword_prefix="", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "),
                                                 normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(CLIP_WORDS), behavior="removed", invert=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=900, show_progress=False, initial_alphabet=alphabet, end_of_word_suffix="</w>", continuing_subword_prefix=""))
    # CLIP has every byte twice, within a word and at its end, and its two marks behind all pieces.
    model = json.loads(tokenizer.to_str())["model"]
    pieces = alphabet + [c + "</w>" for c in alphabet]
    pieces += [piece for piece in sorted(model["vocab"], key=model["vocab"].get) if piece not in set(pieces)]
    model["vocab"] = {piece: i for i, piece in enumerate(pieces + [start, end])}
    state = json.loads(tokenizer.to_str()) | {"model": model}
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.add_special_tokens([start, end])
    tokenizer.post_processor = processors.RobertaProcessing((end, len(pieces) + 1), (start, len(pieces)), False, False)
    folder = OUT / "clip_style"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(
        json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":")) + "\n")
    # The same as the older pair of files.
    folder = OUT / "clip_files"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False, separators=(",", ":")) + "\n")
    merges = [" ".join(merge) if isinstance(merge, list) else merge for merge in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")


def charsmap():
    """A compiled normalizer of sentencepiece: NFKC's mappings of the characters in the test strings, and a few that
    shorten, vanish or take two characters at once. The full one has 300 KB."""
    rules = {"\u00ad": "", "\u200b": " ", "\t": " ", "\n": " ", "\u3000": " ", "e\u0301": "\u00e9", "o\u0308": "\u00f6", "\u1100\u1161": "\uac00"}
    for text in strings() + SPECIAL:
        for c in text:
            folded = unicodedata.normalize("NFKC", c)
            if folded != c:
                rules.setdefault(c, folded)
    with tempfile.TemporaryDirectory() as folder:
        rule_file, text_file = pathlib.Path(folder) / "rules.tsv", pathlib.Path(folder) / "text.txt"
        rule_file.write_text("".join(" ".join(f"{ord(c):X}" for c in source) + "\t" + " ".join(f"{ord(c):X}" for c in target) + "\n"
                                     for source, target in rules.items()))
        text_file.write_text("\n".join(PROSE))
        sentencepiece.SentencePieceTrainer.train(input=str(text_file), model_prefix=str(pathlib.Path(folder) / "m"), vocab_size=600,
                                                 hard_vocab_limit=False, normalization_rule_tsv=str(rule_file), minloglevel=2)
        from sentencepiece import sentencepiece_model_pb2
        model = sentencepiece_model_pb2.ModelProto()
        model.ParseFromString((pathlib.Path(folder) / "m.model").read_bytes())
        return base64.b64encode(model.normalizer_spec.precompiled_charsmap).decode()


def train_unigram():
    """As XLM-R's file is, and as T5's: scored pieces, with one unknown token or with bytes for what is unknown."""
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    trained = Tokenizer(models.Unigram())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trained.train_from_iterator(corpus(), trainers.UnigramTrainer(vocab_size=900, show_progress=False, special_tokens=specials,
                                                                  unk_token="<unk>"))
    vocab = json.loads(trained.to_str())["model"]["vocab"]
    added = [{"id": i, "content": c, "single_word": False, "lstrip": c == "<mask>", "rstrip": False, "normalized": False, "special": True}
             for i, c in enumerate(specials)]
    mask = {**added[0], "id": len(vocab), "content": "<mask>", "lstrip": True}
    ids = {name: {"id": name, "ids": [specials.index(name)], "tokens": [name]} for name in ("<s>", "</s>")}

    def token(name):
        return {"SpecialToken": {"id": name, "type_id": 0}}

    def text(name):
        return {"Sequence": {"id": name, "type_id": 0}}

    meta = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    xlmr = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added + [mask],
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": charsmap()},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, meta]},
        "post_processor": {"type": "TemplateProcessing", "single": [token("<s>"), text("A"), token("</s>")],
                           "pair": [token("<s>"), text("A"), token("</s>"), token("</s>"), text("B"), token("</s>")],
                           "special_tokens": ids},
        "decoder": meta,
        "model": {"type": "Unigram", "unk_id": 3, "vocab": vocab, "byte_fallback": False}}
    # Every third piece is gone, so that much is spelled in bytes; the text is one word.
    few = vocab[:4] + [[f"<0x{b:02X}>", -20.0] for b in range(256)] + [piece for i, piece in enumerate(vocab[4:]) if i % 3]
    t5 = {**xlmr, "added_tokens": added,
          "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Strip", "strip_left": False, "strip_right": True},
                                                             {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}]},
          "pre_tokenizer": {**meta, "split": False},
          "post_processor": {"type": "TemplateProcessing", "single": [text("A"), token("</s>")],
                             "pair": [text("A"), token("</s>"), text("B"), token("</s>")], "special_tokens": {"</s>": ids["</s>"]}},
          "decoder": {"type": "Sequence", "decoders": [meta, {"type": "ByteFallback"}, {"type": "Fuse"}]},
          "model": {"type": "Unigram", "unk_id": 3, "vocab": few, "byte_fallback": True}}
    for name, state in {"xlmr_style": xlmr, "t5_style": t5}.items():
        folder = OUT / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tokenizer.json").write_text(json.dumps(state, ensure_ascii=False, separators=(",", ":")) + "\n")


def unigram_goldens(texts):
    for name in ("xlmr_style", "t5_style"):
        tokenizer = Tokenizer.from_file(str(OUT / name / "tokenizer.json"))
        golden = by_tokenizers(tokenizer, texts, SPECIAL, name)
        golden["pairs"] = pair_goldens(tokenizer)
        write(name, golden, texts)


def clip_goldens(texts):
    tokenizer = Tokenizer.from_file(str(OUT / "clip_style" / "tokenizer.json"))
    golden = by_tokenizers(tokenizer, texts, SPECIAL, "clip_style")
    golden["noise"] = []
    golden["text"] = [text.replace("</w>", " ") for text in golden["text"]]
    golden["pairs"] = [[text, None, most, e.ids, e.type_ids] for text in texts[::25] for most in (3, 9, 77)
                       for e in [cut(tokenizer, text, most)]]
    write("clip_style", golden, texts)


def cut(tokenizer, text, most):
    tokenizer.enable_truncation(most)
    encoding = tokenizer.encode(text)
    tokenizer.no_truncation()
    return encoding


def noise(tokenizer, name):
    rng = random.Random(name)
    out = []
    for _ in range(12):
        ids = [rng.randrange(tokenizer.get_vocab_size()) for _ in range(rng.randint(1, 20))]
        # Half of it among the single bytes, where ill-formed sequences are.
        ids = [rng.randrange(256) if rng.random() < 0.5 else i for i in ids]
        out.append([ids, tokenizer.decode(ids, skip_special_tokens=True)])
    return out


def by_tokenizers(tokenizer, texts, specials, name):
    def plain(text):
        tokenizer.encode_special_tokens = True
        ids = tokenizer.encode(text).ids
        tokenizer.encode_special_tokens = False
        return ids

    ids = [tokenizer.encode(text).ids for text in texts]
    return {
        "ids": ids,
        "special": [tokenizer.encode(text).ids for text in specials],
        "plain": [plain(text) for text in specials],
        "noise": noise(tokenizer, name) if isinstance(tokenizer.decoder, decoders.ByteLevel) else [],
        "text": [tokenizer.decode(i, skip_special_tokens=True) for i in ids],
    }


def by_sentencepiece(path, texts, specials):
    """Ids of sentencepiece with <s> in front; control pieces in the text as transformers' LlamaTokenizer cuts them out."""
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    control = [model.id_to_piece(i) for i in range(model.get_piece_size()) if model.is_control(i) or model.is_unknown(i)]
    cut = re.compile("(" + "|".join(re.escape(c) for c in sorted(control, key=len, reverse=True)) + ")")

    def parsed(text):
        ids = [model.bos_id()]
        for part in cut.split(text):
            ids += [model.piece_to_id(part)] if part in control else model.encode(part)
        return ids

    ids = [parsed(text) for text in texts]
    return {
        "ids": ids,
        "special": [parsed(text) for text in specials],
        "plain": [[model.bos_id()] + model.encode(text) for text in specials],
        "noise": [],
        "text": [model.decode([t for t in i if not model.is_control(t) and not model.is_unknown(t)]) for i in ids],
    }


def compare_with_transformers(path, texts, golden):
    """Says where LlamaTokenizer of the same file differs. transformers 5 puts no prefix before a text that begins with a
    space, and none behind a control piece; by itself it adds no <s>."""
    from transformers import LlamaTokenizer

    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(path, pathlib.Path(folder) / "tokenizer.model")
        reference = LlamaTokenizer.from_pretrained(folder)
    differing = [text for text, ids in zip(texts, golden["ids"]) if reference.encode(text, add_special_tokens=False) != ids[1:]]
    other = [text for text in differing if not text.startswith((" ", "▁"))]
    print(f"  {path.name}: LlamaTokenizer differs on {len(differing)} strings, {len(other)} of them for another reason "
          f"than a leading space: {other[:5]!r}")


def write(name, golden, texts):
    golden["text"] = [None if got == text else got for got, text in zip(golden["text"], texts)]
    path = OUT / "ids" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(golden, ensure_ascii=False, separators=(",", ":")) + "\n")
    print(f"{name}: {sum(map(len, golden['ids']))} ids, {path.stat().st_size} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizers", type=pathlib.Path, default=ROOT.parent / "shared" / "tokenizers")
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--train-bert", action="store_true")
    parser.add_argument("--train-clip", action="store_true")
    parser.add_argument("--train-unigram", action="store_true")
    parser.add_argument("--only-newest", action="store_true", help="CLIP and Unigram; leave the others' files as they are")
    args = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    texts = strings()
    if args.train_clip:
        train_clip()
    if args.train_unigram:
        train_unigram()
    clip_goldens(texts)
    unigram_goldens(texts)
    if args.only_newest:
        return
    (OUT / "strings.json").write_text(
        json.dumps({"strings": texts, "special": SPECIAL}, ensure_ascii=False, separators=(",", ":")) + "\n")
    (OUT / "components.json").write_text(json.dumps(component_goldens(), ensure_ascii=False, separators=(",", ":")) + "\n")
    if args.train:
        train()
    if args.train_bert:
        train_bert()
    folders = [OUT / name for name in ("llama3_style", "qwen2_style", "spm_style", "metaspace_style")]
    folders.append(ROOT / "models" / "tandem-tiny")
    for folder in folders:
        if (folder / "tokenizer.json").exists():
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            tokenizer.no_truncation()
            tokenizer.no_padding()
            write(folder.name, by_tokenizers(tokenizer, texts, SPECIAL, folder.name), texts)
    for name in ("bert_style", "bert_cased_style"):
        tokenizer = Tokenizer.from_file(str(OUT / name / "tokenizer.json"))
        golden = by_tokenizers(tokenizer, texts, SPECIAL, name)
        golden["pairs"] = pair_goldens(tokenizer)
        write(name, golden, texts)
    gpt2 = args.tokenizers / "gpt2"
    if gpt2.exists():
        tokenizer = Tokenizer(models.BPE.from_file(str(gpt2 / "vocab.json"), str(gpt2 / "merges.txt")))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens(["<|endoftext|>"])
        write("gpt2", by_tokenizers(tokenizer, texts, SPECIAL, "gpt2"), texts)
    for version in ("v1", "v3"):
        path = args.tokenizers / "mistral" / f"tokenizer.{version}.model"
        if path.exists():
            golden = by_sentencepiece(path, texts, SPECIAL)
            compare_with_transformers(path, texts, golden)
            write(f"mistral_{version}", golden, texts)


if __name__ == "__main__":
    main()
