"""One implementation for two clients: calls are written as coroutines, and run with or without an event loop.

On a blocking line (``_lines.py``) no ``await`` ever gives up control, so a coroutine runs to its end at the first push.
``call`` and ``stream`` turn the coroutine functions of ``_calls.py`` into what either client shows to its user.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from functools import partial, wraps
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

P = ParamSpec("P")
T = TypeVar("T")


class Blocking:
    """A client whose calls answer."""


class Waiting:
    """A client whose calls are awaited."""


class call(Generic[P, T]):  # noqa: N801 - a decorator
    """A coroutine method that is a plain method of a blocking client."""

    def __init__(self, work: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]) -> None:
        self._work = work
        self.__doc__ = work.__doc__

    @overload
    def __get__(self, client: None, kind: type) -> Self: ...
    @overload
    def __get__(self, client: Blocking, kind: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: Waiting, kind: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, client: object, kind: type) -> Any:
        return self if client is None else _shown(self._work, client, _finished)


class stream(Generic[P, T]):  # noqa: N801 - a decorator
    """An asynchronous generator method that is an iterator of a blocking client."""

    def __init__(self, work: Callable[Concatenate[Any, P], AsyncGenerator[T, None]]) -> None:
        self._work = work
        self.__doc__ = work.__doc__

    @overload
    def __get__(self, client: None, kind: type) -> Self: ...
    @overload
    def __get__(self, client: Blocking, kind: type) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, client: Waiting, kind: type) -> Callable[P, AsyncIterator[T]]: ...
    def __get__(self, client: object, kind: type) -> Any:
        return self if client is None else _shown(self._work, client, _each)


def _shown(work: Callable[..., Any], client: object, answer: Callable[[Any], Any]) -> Callable[..., Any]:
    """The client's method; a blocking client has the answer of what the work returns."""
    bound = partial(work, client)
    if isinstance(client, Waiting):
        return bound

    @wraps(work)
    def at_once(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - ``call`` and ``stream`` have them typed
        return answer(bound(*args, **kwargs))

    return at_once


def _finished(work: Awaitable[T]) -> T:
    """The result of work that waits for nothing."""
    steps: Generator[Any, None, T] = work.__await__()
    try:
        next(steps)
    except StopIteration as done:
        result: T = done.value
        return result
    raise RuntimeError("a blocking client waited for an event loop")


def _each(work: AsyncGenerator[T, None]) -> Iterator[T]:
    try:
        while True:
            try:
                item = _finished(anext(work))
            except StopAsyncIteration:
                return
            yield item
    finally:
        _finished(work.aclose())
