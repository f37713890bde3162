"""Options of the tests."""

from hypothesis import settings

settings.register_profile("foldwise", deadline=None)  # a busy machine is no failure
settings.load_profile("foldwise")


def pytest_addoption(parser):
    parser.addoption("--fix", action="store_true", help="write the generated documents of the configuration anew")
