import pytest

from harness import BIN, Cluster


def pytest_collection_modifyitems(items):
    if not (BIN / "tandemctl").exists():
        skip = pytest.mark.skip(reason=f"{BIN}/tandemctl is not built")
        for item in items:
            item.add_marker(skip)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two CPU workers as one tensor-parallel group. Shared by the tests of a file that break nothing."""
    with Cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_left(request):
    """After every test that shared a cluster: all bookings and blocks are free again."""
    yield
    if "cluster" in request.fixturenames:
        request.getfixturevalue("cluster").check_nothing_left()
