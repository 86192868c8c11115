"""The graphs are valid ONNX, follow docs/reference/graphs.md, and match the reference."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest

from elmo_export.checkpoint import Checkpoint
from elmo_export.graphs.build import build_bilm, build_joined, build_token_encoder
from elmo_export.graphs.builder import PROTOBUF_LIMIT, check_size
from elmo_export.graphs.describe import describe_graph
from elmo_export.graphs.weight_formats import FP32, Fp16Weights
from elmo_export.verify.cases import sentence_inputs
from elmo_runtime.errors import CheckpointError
from random_models import random_checkpoint, tiny_config
from tolerances import BUNDLE_FLOAT32

INTERFACE = (Path(__file__).parents[3] / "docs" / "reference" / "graphs.md").read_text("utf-8")
GRAPHS = {
    "token_encoder": lambda model: build_token_encoder(model),
    "bilm padded": lambda model: build_bilm(model, form="padded"),
    "bilm packed": lambda model: build_bilm(model, form="packed"),
    "joined padded": lambda model: build_joined(model, form="padded"),
    "joined packed": lambda model: build_joined(model, form="packed"),
    "token_encoder fp16": lambda model: build_token_encoder(model, weight_format=Fp16Weights()),
    "bilm fp16": lambda model: build_bilm(model, weight_format=Fp16Weights()),
}
CONFIGS = {
    "published structure": {},
    "no skip, three layers, tanh": {
        "use_skip_connections": False,
        "n_layers": 3,
        "activation": "tanh",
    },
    "one layer, no highway, one filter": {"n_layers": 1, "n_highway": 0, "filters": ((3, 5),)},
    "no clips": {"cell_clip": None, "proj_clip": None},
    "short words": {"max_characters_per_token": 12},
}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_is_valid_onnx(name, tiny_checkpoint):
    onnx.checker.check_model(GRAPHS[name](tiny_checkpoint), full_check=True)


@pytest.mark.parametrize(
    ("name", "part"), [("token_encoder", "token_encoder"), ("bilm padded", "bilm")]
)
def test_inputs_and_outputs_match_the_documentation(name, part, tiny_checkpoint):
    table = INTERFACE.split(f"## `{part}`")[1].split("##")[0]
    names = "".join(row.split("|")[2] for row in rows(table)).replace(
        "lstm_outputsL", "lstm_outputs2"
    )
    documented = set(re.findall(r"`(\w+)`", names))
    graph = describe_graph(GRAPHS[name](tiny_checkpoint), part=part, form="", precision="")
    assert {tensor.name for tensor in graph.inputs + graph.outputs} == documented
    assert all(tensor.meaning for tensor in graph.inputs + graph.outputs)


def rows(table):
    return [line for line in table.splitlines() if re.match(r"\| (in|out) ", line)]


def test_both_forms_and_all_precisions_have_the_same_interface(tiny_checkpoint):
    described = [
        describe_graph(model, part="bilm", form="", precision="")
        for model in (
            build_bilm(tiny_checkpoint),
            build_bilm(tiny_checkpoint, form="packed"),
            build_bilm(tiny_checkpoint, weight_format=Fp16Weights()),
        )
    ]
    assert described[0] == described[1] == described[2]


def test_free_sizes_are_named_and_other_sizes_are_fixed(tiny_checkpoint):
    graph = describe_graph(build_bilm(tiny_checkpoint), part="bilm", form="", precision="")
    axes = {tensor.name: tensor.axes for tensor in graph.inputs + graph.outputs}
    assert axes["word_index"] == ("batch", "marked_length")
    assert axes["elmo"] == ("mixes", "batch", "length", 16)
    assert axes["final_c"] == (2, 2, "batch", 24)


@pytest.mark.parametrize("form", ["padded", "packed"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_graph_computes_what_the_reference_computes(name, form, joined_difference):
    checkpoint = random_checkpoint(tiny_config(**CONFIGS[name]))
    differences = joined_difference(build_joined(checkpoint, form=form), checkpoint)
    assert max(differences.values()) < BUNDLE_FLOAT32


@pytest.mark.parametrize("form", ["padded", "packed"])
@pytest.mark.parametrize("lost", ["cell_clip", "proj_clip", "use_skip_connections"])
def test_a_graph_that_ignores_an_option_is_found(lost, form, joined_difference):
    checkpoint = random_checkpoint(tiny_config(cell_clip=0.3, proj_clip=0.2))
    config = tiny_config(
        **{
            "cell_clip": 0.3,
            "proj_clip": 0.2,
            lost: False if lost == "use_skip_connections" else None,
        }
    )
    graph = build_joined(Checkpoint(config=config, tensors=checkpoint.tensors), form=form)
    assert max(joined_difference(graph, checkpoint).values()) > 100 * BUNDLE_FLOAT32


@pytest.mark.parametrize("form", ["padded", "packed"])
def test_rows_past_a_sentence_are_zero_and_not_minus_zero(
    form, tiny_checkpoint, session_of, sentences
):
    inputs = sentence_inputs(tiny_checkpoint.config, sentences)
    session = session_of(build_joined(tiny_checkpoint, form=form))
    for name in ("word_emb", "lstm_outputs1", "lstm_outputs2"):
        (vectors,) = session.run([name], inputs)
        assert not np.frombuffer(vectors[3, 1:].tobytes(), np.uint8).any()


def test_equal_weights_give_equal_bytes(tiny_checkpoint):
    first, second = (
        build_joined(tiny_checkpoint).SerializeToString(deterministic=True) for _ in range(2)
    )
    assert first == second


def test_every_weight_is_in_the_graph_once(tiny_checkpoint):
    names = [
        tensor.name for tensor in build_bilm(tiny_checkpoint, weight_format=FP32).graph.initializer
    ]
    assert len(names) == len(set(names))
    assert {n for n in tiny_checkpoint.tensors if n.startswith("bilm.")} <= set(names)


def test_weights_that_exceed_an_onnx_file_are_rejected():
    with pytest.raises(CheckpointError, match="bytes of weights"):
        check_size("bilm", PROTOBUF_LIMIT)
