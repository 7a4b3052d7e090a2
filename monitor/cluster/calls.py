"""Calls to actors: what goes wrong on the way is one error, what an actor raises is raised here."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, TypeVar

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from monitor.cluster.keeper import UnreachableError

K = TypeVar("K", bound=Hashable)

CALL_S = 3.0


def call(actor: Any, method: str, *arguments: object, timeout_s: float = CALL_S) -> Any:  # noqa: ANN401  # any actor's
    """Call a method of an actor, and return its answer.

    Raises:
        UnreachableError: the actor is gone, or does not answer in time; it may have done what was asked.
    """
    try:
        return ray.get(getattr(actor, method).remote(*arguments), timeout=timeout_s)
    except RayTaskError as error:
        raise error.cause from None
    except (RayError, GetTimeoutError) as error:
        raise UnreachableError(f"{method}: {type(error).__name__}") from None


def answers(asked: Mapping[K, Any], timeout_s: float) -> dict[K, Any]:
    """Return the answers of many calls that came in time; an actor's error, or its death, is its answer.

    Args:
        asked: whom -> reference to an answer that is on its way.
        timeout_s: for all of them together.
    """
    ready, _ = ray.wait(list(asked.values()), num_returns=len(asked), timeout=timeout_s) if asked else ([], [])
    whom = {reference: who for who, reference in asked.items()}
    got: dict[K, Any] = {}
    for reference in ready:
        try:
            got[whom[reference]] = ray.get(reference)
        except RayError as error:
            got[whom[reference]] = error
    return got
