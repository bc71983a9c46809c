"""The world of the live tests: real QEMUs, a verifying guest, and a data oracle."""

import os

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
CACHE = os.environ.get("RECHAIN_CACHE", "/var/cache/rechain-tests")
