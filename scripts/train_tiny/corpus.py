"""Writes the training text of tandem-tiny: a list of short English documents, the same for the same seed.

Everything comes from three files beside this one, all written for this project: passages.txt (kept word for word),
patterns.txt (sentences with slots) and words.txt (what may stand in a slot). Inside one document a slot keeps its
value, so a story stays with its hero and a fact with its subject; {tool} and {tool2} are always two different tools.

    python corpus.py --documents 20 --seed 1        prints some of it
"""

import argparse
import pathlib
import random
import re

HERE = pathlib.Path(__file__).parent
SLOT = re.compile(r"\{(a )?([a-z]+)(\d?)(?:\.([a-z]+))?\}")
NUMBERS = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
           "seventeen eighteen nineteen twenty").split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = ("January February March April May June July August September October November December").split()
# What a topic is called when somebody asks for it.
ABOUT = {"tools": "tools", "machines": "machines", "weather": "the weather", "garden": "the garden",
         "animals": "animals", "scheduler": "the scheduler", "workers": "workers", "gpus": "GPUs", "models": "models"}
TOPICS = ("tools materials machines weather garden animals scheduler workers gpus models terms capitals advice "
          "daily hello").split()
# Topics whose sentences keep the order of patterns.txt; the others may be told in any order.
IN_ORDER = {"daily", "hello"}
# Weights of the kinds of document.
KINDS = {"topic": 40, "story": 25, "question": 18, "passage": 10, "count": 7}


def _lines(name):
    for line in (HERE / name).read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            yield line.strip()


def read_words():
    """{kind: [record]}, a record being {field: text}; the first field is the one that a bare {kind} stands for."""
    words, kind, fields = {}, None, []
    for line in filter(None, _lines("words.txt")):
        if line.startswith("@"):
            kind, *fields = line[1:].split()
            words[kind] = []
            continue
        values = [value.strip() for value in line.split("|")]
        if len(values) != len(fields):
            raise SystemExit(f"words.txt: '{line}' has {len(values)} fields, @{kind} has {len(fields)}")
        words[kind].append(dict(zip(fields, values)) | {"": values[0]})
    return words


def read_patterns():
    """{topic: [sentence]}."""
    patterns, topic = {}, None
    for line in filter(None, _lines("patterns.txt")):
        if line.startswith("["):
            topic = line[1:-1]
            patterns[topic] = []
        else:
            patterns[topic].append(line)
    return patterns


def read_passages():
    text = "\n".join(_lines("passages.txt"))
    return [" ".join(block.split()) for block in re.split(r"\n\s*\n", text) if block.strip()]


def capitalise(text):
    """The first letter, which may stand behind a quotation mark."""
    return re.sub(r"[A-Za-z]", lambda m: m.group().upper(), text, count=1)


class Corpus:
    def __init__(self, seed):
        self._random = random.Random(seed)
        self._words = read_words()
        self._patterns = read_patterns()
        self._passages = read_passages()

    def document(self):
        kind = self._random.choices(list(KINDS), KINDS.values())[0]
        return getattr(self, "_" + kind)()

    def _fill(self, pattern, bound):
        """`pattern` with its slots filled; `bound` remembers the record of each slot for the rest of the document."""
        def value(match):
            article, kind, number, field = match.groups()
            if kind + number not in bound:
                taken = [record for slot, record in bound.items() if slot.rstrip("0123456789") == kind]
                bound[kind + number] = self._random.choice([r for r in self._words[kind] if r not in taken])
            text = bound[kind + number][field or ""]
            if not article:
                return text
            return ("an " if text[0].lower() in "aeiou" else "a ") + text

        return capitalise(SLOT.sub(value, pattern))

    def _pick(self, sentences, low, high):
        count = min(len(sentences), self._random.randint(low, high))
        return sorted(self._random.sample(range(len(sentences)), count))

    def _topic(self, name=None):
        name, bound = name or self._random.choice(TOPICS), {}
        sentences = self._patterns[name]
        chosen = self._pick(sentences, 2, 6)
        if name not in IN_ORDER and self._random.random() < 0.6:
            self._random.shuffle(chosen)
        return " ".join(self._fill(sentences[i], bound) for i in chosen)

    def _story(self):
        bound, out = {}, []
        for stage, (low, high) in enumerate(((1, 1), (1, 2), (1, 1), (1, 2), (1, 1), (1, 2)), start=1):
            sentences = self._patterns[f"story:{stage}"]
            out += [self._fill(sentences[i], bound) for i in self._pick(sentences, low, high)]
        return " ".join(out)

    def _passage(self):
        return self._random.choice(self._passages)

    def _question(self):
        # One pair in most documents, so that an answer is usually followed by the end of the text.
        pairs = [self._pair() for _ in range(2 if self._random.random() < 0.1 else 1)]
        return "\n".join(f"Q: {question}\nA: {answer}" for question, answer in pairs)

    def _pair(self):
        form = self._random.random()
        if form < 0.2:
            return self._sum_pair()
        if form < 0.28:
            return "Tell me a story.", self._story()
        if form < 0.36:
            name = self._random.choice(sorted(ABOUT))
            return f"Tell me something about {ABOUT[name]}.", self._topic(name)
        bound = {}
        question, answer = self._random.choice(self._patterns["qa"]).split(" => ")
        return self._fill(question, bound), self._fill(answer, bound)

    def _sum_pair(self):
        a, b = self._random.randint(0, 10), self._random.randint(0, 10)
        day = self._random.randrange(7)
        month = self._random.randrange(12)
        return self._random.choice((
            (f"What is {a} plus {b}?", f"{a} plus {b} is {a + b}."),
            (f"What is {a + b} minus {a}?", f"{a + b} minus {a} is {b}."),
            (f"Which day comes after {DAYS[day]}?", f"{DAYS[(day + 1) % 7]} comes after {DAYS[day]}."),
            (f"Which month comes after {MONTHS[month]}?", f"{MONTHS[(month + 1) % 12]} comes after {MONTHS[month]}."),
        ))

    def _count(self):
        start, length = self._random.randint(1, 8), self._random.randint(4, 9)
        run = range(start, start + length)
        a, b = self._random.randint(1, 10), self._random.randint(1, 10)
        day, month = self._random.randrange(7), self._random.randrange(12)
        week = [DAYS[(day + i) % 7] for i in range(7)]
        return capitalise(self._random.choice((
            f"Count from {start} to {run[-1]}: " + ", ".join(map(str, run)) + ".",
            "Count with me: " + ", ".join(NUMBERS[i] for i in run) + ".",
            ", ".join(NUMBERS[i] for i in run) + ".",
            f"{NUMBERS[a]} plus {NUMBERS[b]} is {NUMBERS[a + b]}.",
            f"{NUMBERS[a + b]} minus {NUMBERS[a]} is {NUMBERS[b]}.",
            f"{a} + {b} = {a + b}.",
            f"After {DAYS[day]} comes {DAYS[(day + 1) % 7]}.",
            f"{week[0]}, {', '.join(week[1:6])} and {week[6]} are the days of the week.",
            f"If today is {DAYS[day]}, then tomorrow is {week[1]} and yesterday was {week[6]}.",
            f"{MONTHS[(month + 1) % 12]} follows {MONTHS[month]}.",
        )))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    corpus = Corpus(arguments.seed)
    for _ in range(arguments.documents):
        print(corpus.document(), end="\n\n")


if __name__ == "__main__":
    main()
