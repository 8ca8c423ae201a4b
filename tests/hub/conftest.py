"""The fixtures of the zoo's files: a home, entries and a server of the test's own."""
from hub.fixtures import add_entry, cdnet_file, home, served, server, small_file  # noqa: F401
