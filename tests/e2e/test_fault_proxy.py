"""The proxy does what it says, so that a test that stands on it tests the service."""

import socket
import threading
import time

import pytest

from fault_proxy import FaultProxy, Faults


@pytest.fixture
def echo():
    """Sends back what comes, on a port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection):
        with connection:
            try:
                while data := connection.recv(65536):
                    connection.sendall(data)
            except OSError:
                pass

    def accept():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()
    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1]
    listener.close()


def exchange(connection, data, timeout=5):
    connection.settimeout(timeout)
    connection.sendall(data)
    received = b""
    while len(received) < len(data):
        piece = connection.recv(65536)
        if not piece:
            raise EOFError
        received += piece
    return received


def test_a_healthy_proxy_changes_nothing(echo):
    with FaultProxy(echo) as proxy, socket.create_connection(("127.0.0.1", proxy.port)) as connection:
        data = bytes(range(256)) * 2000
        threading.Thread(target=connection.sendall, args=(data,)).start()
        received = b""
        while len(received) < len(data):
            received += connection.recv(65536)
        assert received == data


def test_delay_and_rate(echo):
    with FaultProxy(echo) as proxy, socket.create_connection(("127.0.0.1", proxy.port)) as connection:
        proxy.set(up=Faults(delay=0.1), down=Faults(delay=0.1))
        begin = time.monotonic()
        assert exchange(connection, b"there and back") == b"there and back"
        assert 0.2 <= time.monotonic() - begin < 2
        proxy.set(up=Faults(rate=50_000))
        exchange(connection, b"x" * 10_000)  # the pause comes after the piece
        begin = time.monotonic()
        exchange(connection, b"y" * 100)
        assert time.monotonic() - begin >= 0.1


def test_a_stall_holds_the_bytes_and_lets_them_go(echo):
    with FaultProxy(echo) as proxy, socket.create_connection(("127.0.0.1", proxy.port)) as connection:
        exchange(connection, b"warm")
        proxy.set(down=Faults(stall=True))
        with pytest.raises(TimeoutError):
            exchange(connection, b"held", timeout=0.2)
        proxy.set()
        connection.settimeout(5)
        assert connection.recv(100) == b"held"


def test_a_cut_is_a_reset_for_those_that_are_there(echo):
    with FaultProxy(echo) as proxy, socket.create_connection(("127.0.0.1", proxy.port)) as connection:
        exchange(connection, b"warm")
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
        with socket.create_connection(("127.0.0.1", proxy.port)) as later:
            assert exchange(later, b"well") == b"well"


def test_corruption_changes_bytes_and_no_lengths(echo):
    with FaultProxy(echo, seed=3) as proxy, socket.create_connection(("127.0.0.1", proxy.port)) as connection:
        proxy.set(up=Faults(corrupt=0.01))
        data = b"a" * 10_000
        received = exchange(connection, data)
        wrong = sum(a != b for a, b in zip(data, received))
        assert len(received) == len(data) and 50 < wrong == proxy.corrupted < 200


def test_half_open_says_nothing(echo):
    with FaultProxy(echo) as proxy, socket.create_connection(("127.0.0.1", proxy.port)) as connection:
        exchange(connection, b"warm")
        proxy.half_open()
        with pytest.raises(TimeoutError):
            exchange(connection, b"anybody?", timeout=0.3)
