# SPDX-License-Identifier: Apache-2.0
"""What the tests of the Python package share: the demo model, and one engine on it."""

import pytest

import foretoken


@pytest.fixture(scope="session")
def model():
    return foretoken.Model()


@pytest.fixture(scope="session")
def engine(model):
    return foretoken.Engine(model, threads=1, measure=False)


@pytest.fixture(autouse=True)
def nothing_is_left(request):
    """No test leaves a session open on the engine that all share."""
    yield
    if "engine" in request.fixturenames:
        assert request.getfixturevalue("engine").stats().sessions == 0
