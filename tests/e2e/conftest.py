import pathlib
import subprocess
import sys

import pytest

from harness import BIN, ROOT, SLOW, Cluster, unhurried


def pytest_collection_modifyitems(config, items):
    if SLOW > 1:  # what waits longer must not be ended earlier
        for item in items:
            item.add_marker(pytest.mark.timeout(float(config.getini("timeout")) * SLOW))
    if not (BIN / "tandemctl").exists():
        skip = pytest.mark.skip(reason=f"{BIN}/tandemctl is not built")
        for item in items:
            item.add_marker(skip)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two CPU workers as one tensor-parallel group. Shared by the tests of a file that break nothing."""
    with Cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="module")
def slow_cluster(tmp_path_factory):
    """A card that says 20 tokens a second, for what is done to a request while it runs."""
    with Cluster(tmp_path_factory.mktemp("slow"), tensor_parallel=1, **unhurried()) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_left(request):
    """After every test that shared a cluster: all bookings and blocks are free again."""
    yield
    for name in {"cluster", "slow_cluster"} & set(request.fixturenames):
        request.getfixturevalue(name).check_nothing_left()


@pytest.fixture(scope="session")
def package(tmp_path_factory):
    """Builds the wheel and imports from it, in a folder of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--no-index", "-q", "-w", folder, ROOT / "client" / "python"],
                   check=True, timeout=120 * SLOW)
    wheel = next(pathlib.Path(folder).glob("tandem_client-*.whl"))
    sys.path.insert(0, str(wheel))  # pure Python: a wheel is a package as it is
    import tandem_client
    assert tandem_client.__file__.startswith(str(wheel))
    return tandem_client
