"""Options of the tests."""


def pytest_addoption(parser):
    parser.addoption("--fix", action="store_true", help="write the generated documents of the configuration anew")
