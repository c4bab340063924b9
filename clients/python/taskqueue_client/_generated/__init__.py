"""Models and requests of the contract. Generated: do not edit, run `make generate-python-client`."""
