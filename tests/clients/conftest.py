"""One gateway for the whole run; every test that needs a rate limit takes a key of its own."""

import pytest

import harness


@pytest.fixture(scope="session")
def system():
    with harness.running() as (gateway, simulator):
        yield gateway, simulator


@pytest.fixture(scope="session")
def gateway(system):
    return system[0]


@pytest.fixture(scope="session")
def simulator(system):
    return system[1]


@pytest.fixture(scope="session")
def limited_keys():
    return list(harness.LIMITED_KEYS)


@pytest.fixture
def limited_key(limited_keys):
    """A key that admits one request, and the next after `harness.RETRY_MS`."""
    return limited_keys.pop()
