"""Weights from elsewhere: fetched once into torch's cache, looked at before they are believed, recorded by sha256."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from bench.core.errors import BenchError, one_line
from bench.models.weights import load_content, write_record


def cache(kind: str) -> Path:
    """torch's own cache (TORCH_HOME moves it): a folder of ours for each source."""
    return Path(torch.hub.get_dir()) / "bench" / kind


def fetched(file: Path, fetch: Callable[[Path], None], what: str) -> Path:
    """The file, downloaded by `fetch(part)` where it is missing. A failure leaves none and says what to put where."""
    if file.is_file():
        return file
    part = file.with_name(f".tmp-{os.getpid()}-{file.name}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        fetch(part)
        load_content(part)
        part.replace(file)
        write_record(file)
    except Exception as error:  # requests, urllib, gdown and huggingface_hub each raise their own
        why = one_line(error).replace(str(part), "what came")[:160]
        raise BenchError(f"{what} could not be downloaded ({why}); put its weights at {file}") from None
    finally:
        part.unlink(missing_ok=True)
    return file


@contextmanager
def no_pickled_code() -> Iterator[None]:
    """Other people's loaders call torch.load as they like; inside this block it takes weights_only=True from us."""
    load: Callable[..., Any] = torch.load

    def safe(*args: Any, **kwargs: Any) -> Any:
        return load(*args, **{**kwargs, "weights_only": True})

    with mock.patch.object(torch, "load", safe):
        yield
