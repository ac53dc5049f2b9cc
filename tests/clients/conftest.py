"""One gateway for the whole run; every test that needs a rate limit takes a key of its own."""

import contextlib

import pytest

import harness


@pytest.fixture(scope="session")
def system():
    with contextlib.ExitStack() as stack:
        try:
            running = stack.enter_context(harness.running())
        except (RuntimeError, AssertionError, OSError) as error:
            pytest.exit(f"the system under test did not start: {error}", returncode=1)
        yield running


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
