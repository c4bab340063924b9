# Generated from _async/__init__.py: do not edit, run `make generate-python-client`.
"""The blocking client."""
