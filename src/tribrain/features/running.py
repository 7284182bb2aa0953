"""Running work: batches that shrink when memory runs out, and reading ahead in a thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, Generic, TypeVar

import torch

from tribrain.errors import InputError

T = TypeVar("T")
R = TypeVar("R")


class Batches(Generic[T, R]):
    """Run items in batches; where memory runs out, halve the batch and go on.

    Parameters
    ----------
    run : callable
        A list of items to a list of as many results.
    size : int
        Items that run together at first.
    """

    def __init__(self, run: Callable[[Sequence[T]], Sequence[R]], size: int) -> None:
        self.run = run
        self.size = size

    def __call__(self, items: Sequence[T]) -> list[R]:
        """Results of the items, in their order.

        Raises
        ------
        InputError
            If memory does not do for one item.
        """
        results: list[R] = []
        while len(results) < len(items):
            batch = items[len(results) : len(results) + self.size]
            try:
                results.extend(self.run(batch))
                continue
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error):
                    raise
            # Outside the handler, so that the traceback no longer holds what filled the memory.
            if len(batch) == 1:
                raise InputError(
                    "memory does not do for one piece at a time; a lower --precision, another "
                    "--device or a smaller backbone fits"
                )
            self.size = len(batch) // 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return results


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    # What the CPU's and Apple's allocators raise is told by its words alone.
    told = ("can't allocate memory", "not enough memory", "out of memory")
    return any(words in str(error) for words in told)


class _End:
    """Marks the end of what a thread reads; holds the error that ended it, if any."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def read_ahead(items: Iterable[T], ahead: int) -> Generator[T]:
    """Iterate in a background thread, at most `ahead` items before they are asked for.

    The thread ends when the items do, when one raises (the error is raised here), or when the
    iterator is closed.
    """
    held: queue.Queue[Any] = queue.Queue(maxsize=ahead)
    stopped = threading.Event()

    def put(item: Any) -> bool:
        while not stopped.is_set():
            try:
                held.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        error: BaseException | None = None
        iterator = iter(items)
        try:
            for item in iterator:
                if not put(item):
                    break
        except BaseException as raised:
            error = raised
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()
        put(_End(error))

    thread = threading.Thread(target=work, daemon=True, name="tribrain-read-ahead")
    thread.start()
    try:
        while not isinstance(item := held.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stopped.set()
        thread.join()
