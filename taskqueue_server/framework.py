"""The parts of Connexion that are used, imported in one place.

Its import brings a test client along that prints a deprecation; the import alone is silenced.
"""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from connexion import ConnexionMiddleware
    from connexion.exceptions import ProblemException, ResolverError
    from connexion.middleware.abstract import ROUTING_CONTEXT
    from connexion.middleware.lifespan import LifespanMiddleware
    from connexion.middleware.request_validation import (
        RequestValidationAPI,
        RequestValidationMiddleware,
    )
    from connexion.middleware.routing import RoutingMiddleware
    from connexion.middleware.security import SecurityAPI, SecurityMiddleware
    from connexion.resolver import Resolver

__all__ = [
    "ROUTING_CONTEXT",
    "ConnexionMiddleware",
    "LifespanMiddleware",
    "ProblemException",
    "RequestValidationAPI",
    "RequestValidationMiddleware",
    "Resolver",
    "ResolverError",
    "RoutingMiddleware",
    "SecurityAPI",
    "SecurityMiddleware",
]
