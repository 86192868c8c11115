"""docs/reference/manifest.schema.json describes the manifests that export writes."""

import copy
import json
from pathlib import Path

import jsonschema
import pytest

from elmo_runtime.bundle.manifest import MANIFEST, SCHEMA

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
FORMAT = json.loads((REFERENCE / "manifest.schema.json").read_text("utf-8"))
MIX = {"name": "ner", "weights": [0.0, 1.0, 0.5], "gamma": 1.5, "layer_norm": False}


@pytest.fixture(scope="module")
def manifest(tiny_bundle):
    """The content of a manifest that export wrote."""
    return json.loads((tiny_bundle / MANIFEST).read_text("utf-8"))


def validate(content):
    """Raise ValidationError unless the content follows the schema."""
    jsonschema.validate(content, FORMAT, cls=jsonschema.Draft202012Validator)


def test_the_schema_is_a_json_schema():
    jsonschema.Draft202012Validator.check_schema(FORMAT)


def test_an_exported_manifest_is_valid(manifest):
    validate(manifest)


def test_the_newest_version_is_the_one_that_export_writes():
    assert SCHEMA in FORMAT["properties"]["schema"]["enum"]


def test_a_manifest_of_each_version_is_valid(manifest):
    without = {key: value for key, value in manifest.items() if key != "mixes"}
    validate(without | {"schema": 1})
    validate(without | {"schema": 2, "mixes": [MIX]})


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content.update(schema=99),
        lambda content: content.update(schema=1, mixes=[MIX]),
        lambda content: content.update(schema=2, mixes=[{**MIX, "gamma": "large"}]),
        lambda content: content.update(extra=1),
        lambda content: content.pop("files"),
        lambda content: content["files"].update({"../outside": {"bytes": 1, "sha256": "0" * 64}}),
        lambda content: content["files"]["config.json"].update(sha256="0"),
        lambda content: content["graphs"][0].update(form="ragged"),
        lambda content: content["graphs"][0]["inputs"][0].update(axes=[-1]),
        lambda content: content["config"]["lstm"].pop("dim"),
        lambda content: content["parity"][0].update(passed=False),
    ],
)
def test_a_wrong_manifest_is_rejected(manifest, damage):
    content = copy.deepcopy(manifest)
    damage(content)
    with pytest.raises(jsonschema.ValidationError):
        validate(content)


def test_the_page_describes_every_key(manifest):
    page = (REFERENCE / "bundle-format.md").read_text("utf-8")
    assert all(f"| `{key}` |" in page for key in FORMAT["properties"])
    assert set(manifest) <= set(FORMAT["properties"])
