"""B5 and C2: export and bulk embedding survive SIGKILL at any time, and a full disk."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from elmo_runtime.bundle.manifest import Bundle
from elmo_runtime.errors import BundleError
from guarantee_kit.children import count_changes, run_child
from guarantee_kit.jobs import content, embed_folder, export_over, export_with_room_for

pytestmark = pytest.mark.slow
WORDS = ("the", "cat", "sat", "on", "mats", "while", "dogs", "bark", "café", "été", "東京")
SENTENCES = 120
LATE = 6  # file system changes at the end of an export: manifest, digest, exchange, removal


@pytest.fixture
def corpus(tmp_path, seed) -> Path:
    """Sentences of 0 to 19 tokens; one line is not UTF-8."""
    generator = random.Random(seed)
    lines = [
        " ".join(generator.choices(WORDS, k=generator.randrange(20))).encode()
        for _ in range(SENTENCES)
    ]
    lines[SENTENCES // 2] = b"caf\xe9"
    path = tmp_path / "corpus.txt"
    path.write_bytes(b"\n".join(lines))
    return path


@pytest.fixture
def uninterrupted(bundle, corpus, tmp_path) -> tuple[dict[str, str], float]:
    """The files of an undisturbed run, and its duration in seconds."""
    run_child(embed_folder, bundle, corpus, tmp_path / "warm-up")
    began = time.monotonic()
    outcome = run_child(embed_folder, bundle, corpus, tmp_path / "uninterrupted")
    assert outcome.code == 0, outcome.error
    assert outcome.answer["sentences"] == SENTENCES - 1
    return content(tmp_path / "uninterrupted"), time.monotonic() - began


def moments(generator: random.Random, seconds: float) -> Iterator[dict[str, float]]:
    """When to kill, in turn: at a random time, before a change of the file system, in a write."""
    while True:
        yield {"kill_after": generator.uniform(0, seconds)}
        yield {"kill_at": generator.randrange(1, 30)}
        yield {"kill_at_size": generator.randrange(1, 20_000)}


def torn(folder: Path, expected: dict[str, str]) -> list[str]:
    """Files under their final names whose contents are not final."""
    visible = {name: d for name, d in content(folder).items() if "/." not in f"/{name}"}
    return [name for name, digest in visible.items() if expected.get(name) != digest]


def first_difference(
    bundle: Path,
    corpus: Path,
    folder: Path,
    expected: dict[str, str],
    *,
    kills: int,
    when: Iterator[dict[str, float]],
    fault: str = "",
) -> str:
    """Kill and resume runs until `kills` of them died; return the first difference."""
    died, finished = 0, 0
    while True:
        run = folder / f"run-{finished}"
        moment = next(when) if died < kills else {}
        outcome = run_child(embed_folder, bundle, corpus, run, fault, **moment)
        died += outcome.killed
        if wrong := torn(run, expected):
            return f"{wrong[0]} is torn after {died} kills"
        if outcome.killed:
            continue
        if content(run) != expected:
            return f"{run.name} is not the uninterrupted run: {outcome.error}"
        if not moment:
            return ""
        finished += 1


def test_c2_a_killed_and_resumed_job_writes_the_files_of_an_uninterrupted_one(
    bundle, corpus, uninterrupted, tmp_path, seed, cases, kept
):
    expected, seconds = uninterrupted
    kills = cases(200, 5_000)
    when = moments(random.Random(seed), seconds)
    folder = tmp_path / "killed"
    assert first_difference(bundle, corpus, folder, expected, kills=kills, when=when) == ""
    kept("C2", f"{kills} kills, every directory byte-identical to the uninterrupted one")


def test_c2_control_parts_that_are_written_in_place(
    bundle, corpus, uninterrupted, tmp_path, seed, caught
):
    """A kill at a random time missed the short writes when the machine was busy."""
    expected, _ = uninterrupted
    generator = random.Random(seed)
    when = ({"kill_at_size": size} for size in iter(lambda: generator.randrange(1, 2_000), 0))
    found = first_difference(
        bundle, corpus, tmp_path / "torn", expected, kills=60, when=when, fault="torn"
    )
    assert "is torn after" in found
    caught("C2", found)


@pytest.fixture
def replaced_bundle(tiny_checkpoint, tmp_path) -> tuple[Path, dict[str, str], dict[str, str]]:
    """The path and contents of a bundle, and the contents of its replacement."""
    target = tmp_path / "target" / "bundle"
    contents = []
    for number in (2, 1):
        assert run_child(export_over, target, number).code == 0
        contents.append(content(target))
    new, old = contents
    return target, old, new


def restore(target: Path, spare: Path) -> None:
    """Restore the old bundle and remove the files that a killed export left next to it."""
    shutil.rmtree(target.parent)
    shutil.copytree(spare, target)


def first_broken(
    bundles: tuple[Path, dict[str, str], dict[str, str]],
    spare: Path,
    kills: Iterator[int],
    fault: str = "",
) -> tuple[str, int]:
    """Kill exports before their n-th change of the file system, for every n of `kills`.

    Returns the first difference from both bundles, and the number of kills that left the new one.
    """
    target, old, new = bundles
    replaced = 0
    for at in kills:
        restore(target, spare)
        assert run_child(export_over, target, 2, fault, kill_at=at).killed
        found = content(target) if target.exists() else {}
        if found not in (old, new):
            return f"killed before change {at}: {len(found)} files, neither old nor new", replaced
        Bundle.open(target)
        replaced += found == new
    return "", replaced


def test_b5_a_killed_export_leaves_the_old_bundle_or_the_new_one(
    replaced_bundle, tmp_path, seed, cases, kept
):
    target, old, _ = replaced_bundle
    spare = Path(shutil.copytree(target, tmp_path / "spare"))
    changes = run_child(count_changes, export_over, target, 2).answer
    generator, kills = random.Random(seed), cases(50, 1_000)
    end = [changes - number for number in range(LATE)]
    anywhere = [generator.randrange(1, changes + 1) for _ in range(kills - len(end))]
    broken, replaced = first_broken(replaced_bundle, spare, iter([*end, *anywhere]))
    assert broken == ""
    assert 0 < replaced < kills
    restore(target, spare)
    for size in (0, 100, 1_000, 5_000, 20_000):
        outcome = run_child(export_with_room_for, size, target, 2)
        assert outcome.answer, f"{size} bytes were enough: {outcome.error}"
        assert content(target.parent) == {f"bundle/{name}": d for name, d in old.items()}
    kept("B5", f"{kills} kills, {replaced} after the exchange, and 5 full disks: always complete")


def test_b5_control_a_bundle_written_in_place(replaced_bundle, tmp_path, seed, caught):
    spare = Path(shutil.copytree(replaced_bundle[0], tmp_path / "spare"))
    broken, _ = first_broken(replaced_bundle, spare, iter(range(3, 40, 4)), fault="in place")
    assert "neither old nor new" in broken
    with pytest.raises(BundleError):
        Bundle.open(replaced_bundle[0])
    caught("B5", broken)
