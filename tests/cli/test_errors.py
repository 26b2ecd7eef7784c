"""What cannot be used is answered with one line that says so, before any model is loaded."""

import io
import subprocess
import sys
from pathlib import Path

import pytest

from llmsmc.cli.errors import print_error
from llmsmc.solving import loading, settings
from llmsmc.storage.characters import printable
from tests.cli.conftest import Command, error_line

QUESTION = "What is 3 + 4?"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["solve"], "Got none; accepted: QUESTION"),
        (["solve", QUESTION, "--sample-problem", "3"], "Got two"),
        (["solve", ""], "The question is empty"),
        (["solve", " \n "], "The question is empty"),
        (["solve", "x" * 1_000_001], "The question is too long"),
        (["solve", "--sample-problem", "6"], "Got 6; accepted: 1 to 5"),
        (["solve", "--sample-problem", "x"], "--sample-problem"),
        (["solve", QUESTION, "--particles", "0"], "Got 0; accepted: an integer >= 1"),
        (["solve", QUESTION, "--particles", "many"], "--particles"),
        (["solve", QUESTION, "--algorithm", "magic"], "Got 'magic'; accepted: 'greedy'"),
        (["solve", QUESTION, "--algorithm", "bootstrap:x=1"], "Got 'x'; accepted: num_particles"),
        (["solve", QUESTION, "--quantization", "int3"], "Got 'int3'; accepted: 'none', 'int8'"),
        (["solve", QUESTION, "--policy", "./nowhere"], "There is no such model. Got './nowhere'"),
        (["solve", QUESTION, "--reward", "./nowhere"], "There is no such model. Got './nowhere'"),
        (["solve", QUESTION, "--policy", "localhost:8000/v1"], "server begins with http://"),
        (["solve", QUESTION, "--aggregation", "sum"], "Got 'sum'; accepted: 'product'"),
        (["solve", QUESTION, "--temperature", "-1"], "Got -1.0; accepted: 0 <= temperature"),
        (["solve", QUESTION, "--temperature", "nan"], "Got nan"),
        (["solve", QUESTION, "--max-steps", "0"], "max_steps is a count. Got 0"),
        (["solve", QUESTION, "--max-tokens-per-step", "0"], "max_tokens_per_step is a count"),
        (["solve", QUESTION, "--out", "nowhere/run.json"], "there is no such folder"),
        (["solve", QUESTION, "--out", "."], "that is a folder"),
        (["solve", QUESTION, "--out", "/dev/null"], "that is not an ordinary file"),
        (["solve", QUESTION, "--colour", "red"], "No such option: --colour"),
        (["solve", "What", "is", "3?"], "unexpected extra argument"),
        (["slove", QUESTION], "No such command 'slove'"),
        (["eval"], "Got neither; accepted: DATASET or --dataset-file PATH"),
        (["eval", "minimath-9"], "There is no such data set. Got 'minimath-9'"),
        (["eval", "minimath-dev", "--limit", "0"], "--limit"),
        (["eval", "minimath-dev", "--algorithm", "magic"], "Got 'magic'"),
        (["eval", "minimath-dev", "--questions", "1:2"], "Got --questions; accepted: --range"),
        (["eval", "--dataset", "minimath-dev"], "Got --dataset; accepted: DATASET"),
        (["inspect", "--questions", "a.jsonl"], "Got --questions; accepted: --dataset"),
        (["train", "reward", "--questions=a.jsonl"], "Got --questions; accepted: --dataset"),
        (["train", "reward", "--first", "1"], "Got --first; accepted: --range"),
        (["train", "reward", "--last", "1"], "Got --last; accepted: --range"),
        (["train", "maximath"], "minimath"),
    ],
)
def test_one_line(
    command: Command, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.setattr(settings, "resolve", resolve_nothing_embedded)
    monkeypatch.setattr(loading, "LanguageModel", None)  # must not be loaded
    assert said in error_line(command(*arguments))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [20, 40, 80, 132])
@pytest.mark.parametrize(
    "message",
    [
        "A step has a number of tokens. Got 'tokens:zero'; accepted: tokens:64 and the like.",
        "The tensors of /tmp/a are not those of Qwen2ForCausalLM. " * 3,
        f"Got '/{'folder/' * 40}x'; accepted: another folder, or the same one later.",
        "\u8a9e" * 90 + " and \x1b[31mred\x1b[0m words [bold]here[/bold] :smile:",
    ],
)
def test_a_terminal_breaks_errors_between_words(
    monkeypatch: pytest.MonkeyPatch, message: str, width: int
) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    print_error(message)
    lines, line = screen.getvalue().splitlines(), f"llmsmc: error: {printable(message).strip()}"
    assert " ".join(lines) == line
    assert all(len(each) <= width or " " not in each for each in lines)
    assert width == 132 or len(lines) > 1
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    print_error(message)
    assert stream.getvalue() == f"{line}\n"


def resolve_nothing_embedded(name: str) -> str:
    """Accept the embedded models whether or not they are there."""
    from llmsmc.models.pretrained.loading import resolve

    return name if name.startswith("minimath-") else resolve(name)


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("a\x1b[31mb", r"The question contains a control character. Got '\x1b'"),
        ("three plus four " * 2000, "does not fit into the context"),
    ],
)
def test_questions_that_the_policy_cannot_take(
    command: Command, tiny: list[str], question: str, said: str
) -> None:
    assert said in error_line(command("solve", question, *tiny))
    assert said in error_line(command("solve", "-", *tiny, input=question))


def test_folders_that_are_no_models(command: Command, tiny: list[str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said = error_line(command("solve", QUESTION, *tiny, "--policy", tmp_path / "empty"))
    assert "This model cannot be loaded" in said


def test_what_is_said_is_neither_markup_nor_control(command: Command) -> None:
    said = error_line(command("solve", QUESTION, "--algorithm", "[red]\x1b[31m\n\u202ebold[/red]"))
    assert "[red]" in said and "\x1b" not in said and "\u202e" not in said


def test_standard_input_that_is_no_text(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "llmsmc", "solve", "-"], input=b"\xff\xfe", capture_output=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith(b"llmsmc: error: The question is no text.")
    assert done.stderr.count(b"\n") == 1


def test_debug_shows_where_it_comes_from(command: Command) -> None:
    result = command("solve", "", "--debug")
    assert result.exit_code == 2
    assert result.stderr.startswith("Traceback") and "read_question" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("llmsmc: error: The question is empty")
