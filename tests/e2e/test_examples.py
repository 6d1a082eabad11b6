"""The programs of client/examples, as a reader of docs/clients.md runs them."""

import subprocess

from harness import BIN


def run(*words, text_in=None):
    return subprocess.run([BIN / words[0], *words[1:]], input=text_in, capture_output=True, text=True, timeout=60)


def test_generate_streams_a_text(cluster):
    done = run("generate_example", f"127.0.0.1:{cluster.clients}", "tiny", "Once upon a time")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) > 8 and done.stderr.endswith("tokens\n")


def test_chat_remembers_the_conversation(cluster):
    done = run("chat_example", f"127.0.0.1:{cluster.clients}", "tiny", text_in="What is the capital of Spain?\nWhat is the capital of France?\n")
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.strip().splitlines()[:2]
    assert "Madrid" in first and "Paris" in second


def test_an_example_says_what_failed(cluster):
    done = run("chat_example", f"127.0.0.1:{cluster.clients}", "nobody", text_in="Hi\n")
    assert done.returncode == 1 and "MODEL_NOT_FOUND" in done.stderr
    assert run("generate_example", "127.0.0.1:1", "tiny", "a").returncode == 1
