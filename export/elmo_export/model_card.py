"""The README.md of a bundle: contents, origin and use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from elmo_export.checkpoint import Checkpoint
from elmo_runtime.bundle.manifest import Manifest
from elmo_runtime.mixes import NamedMix

TEMPLATE = """\
# ELMo bundle

Contextual word vectors from a bidirectional language model over characters (Peters et al. 2018),
as verified ONNX graphs.

```python
from elmo_deploy import Embedder

with Embedder.load("path/to/this/directory") as elmo:
    out = elmo.embed(["the cat is on the mat", "dogs are in the fog"])
    out.elmo  # a list of (tokens, {output_dim}) arrays
```

On the command line: `elmo-deploy embed path/to/this/directory sentences.txt -o vectors.hdf5`

## Model
{model}
{mixes}
## Graphs
{graphs}

`manifest.json` lists the inputs and outputs of each graph. `samples/` contains the golden sentences
with the outputs of the reference, `state/warm.safetensors` the fixed state of `state="warm"`.

## Source
{source}

## Parity
The largest deviation of each graph from the PyTorch reference, over all outputs and cases.

{parity}
"""


def model_card(manifest: Manifest, checkpoint: Checkpoint) -> str:
    """The text in Markdown; the same bundle gives the same text."""
    config = manifest.config
    count = sum(tensor.size for name, tensor in checkpoint.tensors.items() if "softmax" not in name)
    model = {
        "parameters": f"{count:,}",
        "layers of the biLM": config.n_layers,
        "LSTM cell": config.lstm_dim,
        "projection": config.projection_dim,
        "character filters": ", ".join(f"{n} of width {w}" for w, n in config.filters),
        "highways": config.n_highway,
        "width of `elmo`": config.output_dim,
    }
    graphs = [(graph.file, graph.part, graph.form, graph.precision) for graph in manifest.graphs]
    return TEMPLATE.format(
        output_dim=config.output_dim,
        model=_table(("what", "value"), model.items()),
        mixes=_mixes(manifest.mixes),
        graphs=_table(("file", "part", "form", "precision"), graphs),
        source=_table(("what", "value"), manifest.provenance.items()),
        parity=_table(("precision", "graph", "max abs error", "min cosine"), _worst(manifest)),
    )


MIXES = """
## Layer mixes
`elmo` and `default` are gamma * sum of softmax(weights) * layers. They use the default mix unless
a call names another mix: `elmo.embed(sentences, mix="{name}")`.

{table}
"""


def _mixes(mixes: Sequence[NamedMix]) -> str:
    """The section on mixes; empty for a model without trained mixes."""
    if not mixes:
        return ""
    rows = [
        (
            mix.name if number else f"{mix.name} (default)",
            ", ".join(f"{weight:.6g}" for weight in mix.weights),
            f"{mix.gamma:.6g}",
            "per sentence" if mix.layer_norm else "no",
        )
        for number, mix in enumerate(mixes)
    ]
    head = ("name", "weights before the softmax", "gamma", "layer norm")
    return MIXES.format(name=mixes[-1].name, table=_table(head, rows))


def _worst(manifest: Manifest) -> list[tuple[str, str, str, str]]:
    graphs = dict.fromkeys((row["precision"], row["graph"]) for row in manifest.parity)
    rows = []
    for key in graphs:
        same = [row for row in manifest.parity if (row["precision"], row["graph"]) == key]
        error = max(row["max_abs_error"] for row in same)
        cosine = min(row["min_cosine"] for row in same)
        rows.append((*key, f"{error:.1e}", f"{cosine:.7f}"))
    return rows


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
