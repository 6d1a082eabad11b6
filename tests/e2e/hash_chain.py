"""What a simulated device must say: the algorithm of worker/exec/hash_chain.h, to check any stream as it comes.

    chain(-1) = START
    chain(p)  = mix(chain(p - 1) + (p + 1) * GOLDEN + token(p) + 1)        modulo 2^64, mix of splitmix64
    next      = chain(last) mod vocabulary, one further (cyclically) while it is an end-of-sequence id

`HashChain(prompt, Vocabulary.of(folder))` is fed the tokens of one stream with their offsets and sorts what is wrong
into lost, duplicated and corrupted. tests/golden/hash_chain.json holds it and the C++ side together.
"""

import dataclasses
import json
import pathlib

START = 0x7A6E64656D5F5631
GOLDEN = 0x9E3779B97F4A7C15
MASK = (1 << 64) - 1


def next_chain(chain, position, token):
    x = (chain + (position + 1) * GOLDEN + token + 1) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    size: int
    eos_ids: frozenset

    @staticmethod
    def of(folder):
        """From the model's own files, generation_config.json before config.json where it has an end of sequence."""
        folder = pathlib.Path(folder)
        config = json.loads((folder / "config.json").read_text())
        eos = config.get("eos_token_id")
        generation = folder / "generation_config.json"
        if generation.exists():
            eos = json.loads(generation.read_text()).get("eos_token_id", eos)
        ids = [] if eos is None else eos if isinstance(eos, list) else [eos]
        return Vocabulary(config["vocab_size"], frozenset(ids))

    def token(self, chain):
        token = chain % self.size
        while token in self.eos_ids:
            token = (token + 1) % self.size
        return token


class HashChain:
    """One stream's truth. Holds only the chain and the tokens that were delivered."""

    def __init__(self, prompt_ids, vocabulary):
        self.vocabulary = vocabulary
        self.position = 0
        self.chain = START
        for token in prompt_ids:
            self._extend(token)
        self.tokens = []
        self.lost = 0
        self.duplicated = 0
        self.corrupted = 0

    def _extend(self, token):
        self.chain = next_chain(self.chain, self.position, token)
        self.position += 1

    def expected(self):
        return self.vocabulary.token(self.chain)

    def take(self, offset, tokens):
        """Tokens that a stream says begin at `offset`. After a gap or a wrong token the truth goes on from the truth, so
        that one fault is counted once and not for all that follows."""
        for index, token in enumerate(tokens, start=offset):
            if index < len(self.tokens):
                self.duplicated += 1
                continue
            while index > len(self.tokens):
                self.lost += 1
                self._accept(self.expected())
            self.corrupted += token != self.expected()
            self._accept(self.expected())

    def _accept(self, token):
        self.tokens.append(token)
        self._extend(token)

    @property
    def wrong(self):
        return self.lost + self.duplicated + self.corrupted


def continuation(prompt_ids, count, vocabulary):
    """The `count` tokens that must follow."""
    chain = HashChain(prompt_ids, vocabulary)
    for _ in range(count):
        chain._accept(chain.expected())
    return chain.tokens
