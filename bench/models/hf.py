"""Any image classifier of Hugging Face's transformers, by its name or from a folder."""

from torch import nn

from bench.core.errors import BenchError, one_line


def hf_model(name: str, revision: str | None = None) -> nn.Module:
    """Of safetensors files alone; no code of the repository runs. Its preprocessing is the YAML's: mean, std, and the data set's
    size. Raises BenchError where transformers is not installed or knows no such classifier."""
    try:
        from transformers import AutoModelForImageClassification  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise BenchError("model=hf needs transformers; pip install 'defence-bench[hf]'") from None
    try:
        return AutoModelForImageClassification.from_pretrained(name, revision=revision, use_safetensors=True).eval()
    except (OSError, ValueError) as error:
        raise BenchError(f"transformers could not load {name} ({one_line(error)[:160]}); correct model.name") from None
