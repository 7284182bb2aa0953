"""Files from the Hugging Face hub; only those asked for, and nothing in them is run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tribrain.errors import InputError


def fetch(name: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """Fetch files of a repository, or find them in the local cache.

    Parameters
    ----------
    name : str
        ``OWNER/REPOSITORY``.
    revision : str or None
        Branch, tag or commit.
    patterns : sequence of str
        Names of the files to fetch, with wildcards.

    Returns
    -------
    Path
        A folder whose name is the commit.

    Raises
    ------
    InputError
        Why the repository cannot be had, in words that follow its name.
    """
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(patterns)))
    except errors.GatedRepoError:
        reason = "the hub wants you to accept its licence and to log in (hf auth login)"
    except errors.RevisionNotFoundError:
        reason = f"it has no revision {revision!r} on the hub"
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        reason = "the hub has no repository of that name"
    except Exception as error:  # the hub's client raises errors of several HTTP libraries
        reason = f"it is not on this machine and the hub cannot be reached ({type(error).__name__})"
    raise InputError(reason)
