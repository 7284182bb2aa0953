"""The same work on several machines or processes, through Dask."""

from __future__ import annotations

import socket
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import uuid4

from tribrain.errors import InputError, InputWarning
from tribrain.features.extract import Progress
from tribrain.features.many import Job, Outcome, extract_one
from tribrain.features.sources import Source

KINDS = "local, local:WORKERS, slurm:JOBS, or the address of a scheduler (tcp://HOST:PORT)"
_PATIENCE = 20.0  # seconds for a scheduler to answer


def extract_on_cluster(
    sources: Sequence[Source],
    job: Job,
    cluster: str,
    *,
    progress: Progress | None = None,
    said: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Work out the features of all stimuli, each as a task for a worker of a Dask cluster.

    Workers share the store, so its folder must be one that all of them see. A task whose worker is
    lost goes to another one, which finds in the store what was done.

    Parameters
    ----------
    cluster : str
        ``local`` (a worker a core), ``local:WORKERS``, ``slurm:JOBS`` (settings from Dask's own
        configuration), or the address of a scheduler.

    Returns
    -------
    list of Outcome
        In the order of `sources`.
    """
    outcomes: dict[int, Outcome] = {}
    with dask_client(cluster) as client:
        from distributed import as_completed

        futures = {
            # A scheduler takes tasks of the same key for the same task, whoever asks for them.
            client.submit(extract_one, source, job, key=f"{source.name}-{uuid4().hex}"): number
            for number, source in enumerate(sources)
        }
        for future in as_completed(futures):
            number = futures[future]
            if future.status == "finished":
                outcome = future.result()
            else:
                error = future.exception() or "lost, as the scheduler went away"
                outcome = Outcome(sources[number].name, error=_one_line(error))
            for note in outcome.notes:
                warnings.warn(note, InputWarning, stacklevel=2)
            outcomes[number] = outcome
            if said is not None:
                said(outcome)
            if progress is not None:
                progress("stimuli", len(outcomes), len(sources))
    return [outcomes[number] for number in range(len(sources))]


@contextmanager
def dask_client(cluster: str) -> Iterator[Any]:
    """A Dask client of the cluster that a word describes; closed with what was started for it."""
    try:
        import distributed
    except ModuleNotFoundError:
        raise InputError("--cluster needs Dask: pip install 'tribrain[cluster]'") from None
    kind, _, count = cluster.partition(":")
    address: Any
    with ExitStack() as stack:
        if kind == "local":
            local = distributed.LocalCluster(
                n_workers=_count(count, cluster) if count else None,
                threads_per_worker=1,
                dashboard_address=None,
            )
            address = stack.enter_context(local)
        elif kind == "slurm":
            try:
                from dask_jobqueue import SLURMCluster
            except ModuleNotFoundError:
                raise InputError(
                    "--cluster slurm needs dask-jobqueue: pip install 'tribrain[cluster]'"
                ) from None
            jobs = _count(count or "1", cluster)
            try:
                address = stack.enter_context(SLURMCluster())
            except ValueError as error:  # such as no memory for a job in Dask's configuration
                raise InputError(f"--cluster {cluster}: {_one_line(error)}") from None
            address.scale(jobs=jobs)
        elif kind in ("tcp", "tls"):
            _knock(cluster)
            address = cluster
        else:
            raise InputError(f"cluster {cluster!r} is unknown; what fits: {KINDS}")
        try:
            client = stack.enter_context(distributed.Client(address, timeout=_PATIENCE))
        except (OSError, TimeoutError, TypeError, ValueError) as error:
            raise InputError(
                f"no Dask scheduler answers at {cluster} ({_one_line(error)})"
            ) from None
        yield client


def _knock(address: str) -> None:
    """See at once whether a scheduler answers at an address.

    Dask itself would try for long, and would wait for ever for somebody who listens in silence.
    """
    from distributed.comm import get_address_host_port

    try:
        host, port = get_address_host_port(address, strict=True)
        with socket.create_connection((host, port), timeout=_PATIENCE) as connection:
            if address.startswith("tcp") and not connection.recv(1):  # a scheduler speaks first
                raise ConnectionError("what listens there is no scheduler")
    except (OSError, OverflowError, ValueError) as error:
        raise InputError(
            f"no Dask scheduler answers at {address} ({error}); what fits: {KINDS}"
        ) from None


def _one_line(error: BaseException | str) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _count(text: str, cluster: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"cluster {cluster!r}: {text!r} is no number of workers")
    return int(text)
