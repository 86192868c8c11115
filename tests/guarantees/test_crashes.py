"""SIGKILL at any moment, and a full disk: B5 for bundles, C2 for bulk embedding."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from elmo_runtime.bundle.manifest import Bundle
from elmo_runtime.errors import BundleError
from guarantee_kit.children import count_changes, run_child
from guarantee_kit.jobs import content, embed_folder, export_over, export_with_room_for

WORDS = ("the", "cat", "sat", "on", "mats", "while", "dogs", "bark", "café", "été", "東京")
SENTENCES = 120
LATE = 6  # changes of the file system at the end of an export: manifest, digest, exchange, sweep


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
def unbroken(bundle, corpus, tmp_path) -> tuple[dict[str, str], float]:
    """What an undisturbed run leaves, and the seconds that it took."""
    run_child(embed_folder, bundle, corpus, tmp_path / "warm-up")
    began = time.monotonic()
    outcome = run_child(embed_folder, bundle, corpus, tmp_path / "unbroken")
    assert outcome.code == 0, outcome.error
    assert outcome.answer["sentences"] == SENTENCES - 1
    return content(tmp_path / "unbroken"), time.monotonic() - began


def moments(generator: random.Random, seconds: float) -> Iterator[dict[str, float]]:
    """When to kill: by turns at a random time, and right before a random change of the disk."""
    while True:
        yield {"kill_after": generator.uniform(0, seconds)}
        yield {"kill_at": generator.randrange(1, 30)}


def spoilt(folder: Path, expected: dict[str, str]) -> list[str]:
    """Files under their final name whose content is not the final one."""
    visible = {name: d for name, d in content(folder).items() if "/." not in f"/{name}"}
    return [name for name, digest in visible.items() if expected.get(name) != digest]


def first_difference(
    bundle: Path,
    corpus: Path,
    room: Path,
    expected: dict[str, str],
    *,
    kills: int,
    when: Iterator[dict[str, float]],
    fault: str = "",
) -> str:
    """Kill runs and resume them until so many died; the first thing that is not as it should be."""
    died, finished = 0, 0
    while True:
        folder = room / f"run-{finished}"
        moment = next(when) if died < kills else {}
        outcome = run_child(embed_folder, bundle, corpus, folder, fault, **moment)
        died += outcome.killed
        if wrong := spoilt(folder, expected):
            return f"{wrong[0]} is torn after {died} kills"
        if outcome.killed:
            continue
        if content(folder) != expected:
            return f"{folder.name} is not the unbroken run: {outcome.error}"
        if not moment:
            return ""
        finished += 1


def test_c2_killed_and_resumed_the_folder_is_that_of_the_unbroken_run(
    bundle, corpus, unbroken, tmp_path, seed, cases, kept
):
    expected, seconds = unbroken
    kills = cases(200, 5_000)
    when = moments(random.Random(seed), seconds)
    room = tmp_path / "killed"
    assert first_difference(bundle, corpus, room, expected, kills=kills, when=when) == ""
    kept("C2", f"{kills} kills, every folder byte for byte the unbroken one")


def test_c2_control_parts_written_in_place_are_found_torn(
    bundle, corpus, unbroken, tmp_path, seed, caught
):
    expected, seconds = unbroken
    generator = random.Random(seed)
    when = ({"kill_after": generator.uniform(0, seconds)} for _ in count())
    found = first_difference(
        bundle, corpus, tmp_path / "torn", expected, kills=60, when=when, fault="torn"
    )
    assert "is torn after" in found
    caught("C2", found)


@pytest.fixture
def shelf(tiny_checkpoint, tmp_path) -> tuple[Path, dict[str, str], dict[str, str]]:
    """Where a bundle stands, its content, and the content of the one that shall replace it."""
    target = tmp_path / "shelf" / "bundle"
    contents = []
    for number in (2, 1):
        assert run_child(export_over, target, number).code == 0
        contents.append(content(target))
    new, old = contents
    return target, old, new


def restore(target: Path, spare: Path) -> None:
    """Put the old bundle back and sweep up what a killed export left beside it."""
    shutil.rmtree(target.parent)
    shutil.copytree(spare, target)


def first_broken(
    shelf: tuple[Path, dict[str, str], dict[str, str]],
    spare: Path,
    kills: Iterator[int],
    fault: str = "",
) -> tuple[str, int]:
    """Kill exports before their n-th change of the disk, for every n of `kills`.

    What was neither the old nor the new bundle, and how many kills left the new one.
    """
    target, old, new = shelf
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
    shelf, tmp_path, seed, cases, kept
):
    target, old, _ = shelf
    spare = Path(shutil.copytree(target, tmp_path / "spare"))
    changes = run_child(count_changes, export_over, target, 2).answer
    generator, kills = random.Random(seed), cases(50, 1_000)
    end = [changes - number for number in range(LATE)]
    anywhere = [generator.randrange(1, changes + 1) for _ in range(kills - len(end))]
    broken, replaced = first_broken(shelf, spare, iter([*end, *anywhere]))
    assert broken == ""
    assert 0 < replaced < kills
    restore(target, spare)
    for size in (0, 100, 1_000, 5_000, 20_000):
        outcome = run_child(export_with_room_for, size, target, 2)
        assert outcome.answer, f"{size} bytes were enough: {outcome.error}"
        assert content(target.parent) == {f"bundle/{name}": d for name, d in old.items()}
    kept("B5", f"{kills} kills, {replaced} after the exchange, and 5 full disks: always complete")


def test_b5_control_a_bundle_written_in_place(shelf, tmp_path, seed, caught):
    spare = Path(shutil.copytree(shelf[0], tmp_path / "spare"))
    broken, _ = first_broken(shelf, spare, iter(range(3, 40, 4)), fault="in place")
    assert "neither old nor new" in broken
    with pytest.raises(BundleError):
        Bundle.open(shelf[0])
    caught("B5", broken)
