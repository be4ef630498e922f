"""The decorator that gives functions options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, overload

F = TypeVar("F", bound=Callable[..., Any])

_ATTRIBUTE = "__procpool_options__"


@dataclass(frozen=True)
class FunctionOptions:
    """The options given to `function`."""

    name: str | None = None
    idempotent: bool = False
    example: str | list[Any] | None = None
    nan: Literal["error", "null"] = "error"


@overload
def function(wrapped: F) -> F: ...


@overload
def function(
    *,
    name: str | None = None,
    idempotent: bool = False,
    example: str | list[Any] | None = None,
    nan: Literal["error", "null"] = "error",
) -> Callable[[F], F]: ...


def function(
    wrapped: F | None = None,
    *,
    name: str | None = None,
    idempotent: bool = False,
    example: str | list[Any] | None = None,
    nan: Literal["error", "null"] = "error",
) -> F | Callable[[F], F]:
    """Give a function options; the function itself is unchanged.

    Args:
        wrapped: The function, when the decorator is used without parentheses.
        name: The name to call it by, instead of its own. A function whose own name starts with `_` is exposed by this.
        idempotent: It may be executed more than once for one item, so a lost worker need not fail the item.
        example: A list of items to show people how to call it, or a whole request as JSON.
        nan: What to do with a result that is, or has in it, NaN or an infinity, which JSON does not have: "error" fails
            the item, "null" sends None in its place.

    """
    if nan not in ("error", "null"):
        raise ValueError(f'nan must be "error" or "null", not {nan!r}')
    options = FunctionOptions(name=name, idempotent=idempotent, example=example, nan=nan)

    def decorate(decorated: F) -> F:
        if not callable(decorated):
            raise TypeError(f"procpool.function decorates functions, not {type(decorated).__name__}")
        setattr(decorated, _ATTRIBUTE, options)
        return decorated

    return decorate if wrapped is None else decorate(wrapped)


def options_of(wrapped: object) -> FunctionOptions | None:
    """Return the options of this object; None if it was not decorated."""
    options = getattr(wrapped, _ATTRIBUTE, None)
    return options if isinstance(options, FunctionOptions) else None
