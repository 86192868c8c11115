"""Every failure is one line with the problem, one line with the fix, and an exit code."""

import builtins
import re
import shutil
from pathlib import Path

import pytest

import elmo_deploy
import elmo_export
import elmo_runtime
import elmo_runtime.errors as errors
from elmo_deploy import cli

CODES = [
    (errors.InputError, 2),
    (errors.VerificationError, 3),
    (errors.BackendUnavailableError, 4),
    (errors.ConfigError, 5),
    (errors.WeightsError, 5),
    (errors.CheckpointError, 5),
    (errors.BundleCorruptError, 5),
    (errors.BundleVersionError, 5),
    (errors.EngineMismatchError, 5),
    (errors.BackendError, 1),
    (errors.ClosedError, 1),
]


def fail_with(monkeypatch, error):
    def app(*words, **options):
        raise error

    monkeypatch.setattr(cli, "app", app)


@pytest.mark.parametrize(("kind", "code"), CODES)
def test_each_known_error_has_its_exit_code(run, monkeypatch, kind, code):
    fail_with(monkeypatch, kind("what  happened", hint="what to do"))
    answer = run("inspect")
    assert answer.code == code
    assert answer.stderr == "error: what happened\nhint: what to do\n"


def test_the_table_of_a_failed_verification_stays_a_table(run, monkeypatch):
    fail_with(monkeypatch, errors.VerificationError("2 outputs differ\nelmo  1e-2\ndefault  1e-3"))
    assert run("verify").stderr == "error: 2 outputs differ\nelmo  1e-2\ndefault  1e-3\n"


def test_a_file_that_cannot_be_written_is_named(run, monkeypatch):
    fail_with(monkeypatch, PermissionError(13, "Permission denied", "/etc/vectors.npz"))
    answer = run("embed")
    assert (answer.code, answer.stderr) == (5, "error: /etc/vectors.npz: Permission denied\n")


def test_an_unexpected_error_is_one_line_without_a_traceback(run, monkeypatch):
    fail_with(monkeypatch, ZeroDivisionError("nothing to divide"))
    answer = run("inspect")
    assert answer.code == 1 and answer.stdout == ""
    assert answer.stderr.startswith("error: ZeroDivisionError: nothing to divide\nhint: ")
    assert "Traceback" not in answer.stderr


def test_debug_shows_the_traceback_in_every_position(run, tmp_path):
    for words in (["--debug", "inspect", tmp_path], ["inspect", tmp_path, "--debug"]):
        answer = run(*words)
        assert answer.code == 5 and "Traceback" in answer.stderr


@pytest.mark.parametrize(
    ("package", "extra"), [("torch", "export"), ("onnxruntime", "cpu"), ("h5py", "hdf5")]
)
def test_a_missing_package_names_its_extra(run, monkeypatch, package, extra):
    fail_with(monkeypatch, ModuleNotFoundError("no", name=f"{package}.deep.inside"))
    answer = run("inspect")
    assert answer.code == 4
    assert answer.stderr.endswith(f'hint: pip install "elmo-deploy[{extra}]"\n')


def test_ctrl_c_exits_without_a_message(run, monkeypatch):
    monkeypatch.setattr(cli.LazyCommands, "get_command", interrupt)
    answer = run("doctor")
    assert (answer.code, answer.stderr) == (130, "")


def interrupt(*_):
    raise KeyboardInterrupt


def test_an_unknown_command_is_a_usage_error(run):
    answer = run("exprot")
    assert answer.code == 2 and "No such command 'exprot'" in answer.stderr


def test_help_lists_every_command_without_a_heavy_import(run, monkeypatch):
    heavy = {"torch", "onnx", "onnxruntime", "h5py", "tensorrt", "tensorrt_rtx", "numpy"}
    real_import = builtins.__import__

    def light_import(name, *rest, **more):
        assert name.partition(".")[0] not in heavy, f"--help imports {name}"
        return real_import(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", light_import)
    answer = run("--help")
    assert answer.code == 0, answer.stderr
    assert all(command in answer.stdout for command in cli.COMMANDS)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_a_help_text(run, command):
    answer = run(command, "--help")
    assert answer.code == 0 and f"elmo-deploy {command}" in answer.stdout


@pytest.mark.parametrize(
    ("words", "what", "hint"),
    [
        (("embed", "bundle", "a.txt"), "Missing option '--out' / '-o'", "embed --help"),
        (("evaluate", "model", "--text", "a.txt", "b.txt"), "(b.txt)", "put patterns in quotes"),
        (("exprot",), "No such command 'exprot'", "elmo-deploy --help"),
        (("embed", "bundle", "a.txt", "-o", "o.npz", "--rows", "0"), "'--rows'", "embed --help"),
    ],
)
def test_a_usage_error_is_one_line_and_a_hint(run, words, what, hint):
    """It was a box of five lines, and a pattern that the shell expanded was not explained."""
    answer = run(*words)
    assert (answer.code, answer.stdout) == (2, "")
    first, second = answer.stderr.splitlines()
    assert first.startswith("error: ") and what in first
    assert second.startswith("hint: ") and hint in second


def test_without_arguments_the_help_is_shown(run):
    answer = run()
    assert "Exit codes:" in answer.stdout + answer.stderr and "error" not in answer.stderr


def test_a_file_is_not_taken_for_a_bundle(run, bundle, tmp_path):
    """`inspect FILE` said that FILE/config.json is not JSON; swapped arguments had no hint."""
    text = tmp_path / "text.txt"
    text.write_text("the cat\n")
    for words in (("inspect", text), ("embed", text, bundle, "-o", tmp_path / "out.npz")):
        answer = run(*words)
        assert answer.code == 5 and f"{text} is a file, not a directory" in answer.stderr
    answer = run("inspect", tmp_path / "absent")
    assert answer.code == 5 and f"{tmp_path / 'absent'} does not exist" in answer.stderr


def directory_of(kind, model, bundle, tmp_path):
    """A checkpoint, a bundle, or the directory of a training run."""
    if kind == "run":
        shutil.copytree(model, tmp_path / "run" / "checkpoint")
    return {"checkpoint": model, "bundle": bundle, "run": tmp_path / "run"}[kind]


@pytest.mark.parametrize("kind", ["checkpoint", "run"])
@pytest.mark.parametrize(
    "words",
    [
        ("verify",),
        ("embed", "-", "-o", "out.npz"),
        ("build-engine", "--compiler", "tensorrt-rtx", "--compute-capability", "8.6"),
    ],
)
def test_a_checkpoint_is_not_taken_for_a_broken_bundle(
    run, model, bundle, tmp_path, monkeypatch, kind, words
):
    """`verify` on a checkpoint said that manifest.json does not exist."""
    monkeypatch.chdir(tmp_path)
    path = directory_of(kind, model, bundle, tmp_path)
    answer = run(words[0], path, *words[1:])
    checkpoint = path / "checkpoint" if kind == "run" else path
    assert answer.code == 5
    assert answer.stderr == (
        f"error: {checkpoint} is a checkpoint, not a bundle\n"
        f"hint: make a bundle from it: elmo-deploy export {checkpoint} -o BUNDLE\n"
    )


@pytest.mark.parametrize(
    ("kind", "said"),
    [("bundle", "is a bundle, not a checkpoint"), ("run", "is the directory of a training run")],
)
@pytest.mark.parametrize("words", [("export", "-o", "new"), ("evaluate", "--text", "text.txt")])
def test_a_bundle_is_not_taken_for_a_broken_checkpoint(
    run, model, bundle, tmp_path, monkeypatch, kind, said, words
):
    """`export` and `evaluate` on a bundle said that model.safetensors does not exist."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("the cat\n")
    answer = run(words[0], directory_of(kind, model, bundle, tmp_path), *words[1:])
    assert answer.code == 5 and said in answer.stderr.splitlines()[0]


def test_every_hint_to_reinstall_has_the_options_for_it():
    """Pip installed the cached wheel, built without a compiler, and nothing changed."""
    again = re.compile(r"(install|elmo-deploy) again|\banew, for a faster|force-reinstall")
    for package in (elmo_runtime, elmo_export, elmo_deploy):
        for path in Path(package.__file__).parent.rglob("*.py"):
            for line in filter(again.search, path.read_text("utf-8").splitlines()):
                assert "--no-cache-dir --force-reinstall" in line or '"""' in line, (
                    f"{path}: {line}"
                )
