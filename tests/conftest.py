"""One profile for every hypothesis test: derandomised, no deadline, no database. One torch thread, as in a worker."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

import benchmarks.laws  # noqa: E402  registers the profiles

settings.load_profile(os.environ.get("TRILEMMA_HYPOTHESIS_PROFILE", "ci"))
torch.set_num_threads(1)


def pytest_addoption(parser):
    parser.addoption("--device", default=None, help="device on which laws run, for example cuda")


def pytest_configure(config):
    if config.getoption("--device"):
        os.environ["TRILEMMA_DEVICE"] = config.getoption("--device")


@pytest.fixture(scope="session")
def device() -> torch.device:
    return benchmarks.laws.device()
