r"""The law of a model that was read from a GGUF file, beside the law that llama.cpp draws from.

    python -m benchmarks.file_law MODEL.gguf ... --dataset gsm8k.jsonl --environments FOLDER

Behind the prompt of each question, and behind some tokens of its reference solution, the whole law
of the next token is computed by both, from the same ids. Stated is, in nats a token,

$$D(p \,\|\, q) = \sum_v p(v) \log \frac{p(v)}{q(v)}$$

in both directions, with standard errors over the questions; how often the most probable token is
the same; and whether both cut the text of the prompt into the same ids. llama.cpp computes with the
quantised weights and rounds the activations, so that the two laws are not expected to be equal.
"""

import argparse
import json
import math
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from benchmarks.page import put_into
from benchmarks.peers.environments import python_of
from llmsmc.models.pretrained.loading import Placement, load_tokenizer
from llmsmc.models.text.chat import chat_ids, chat_text

PROGRAM: Final = Path(__file__).parent / "peers" / "runs" / "with_llama_cpp.py"
GIVEN: Final = (0, 4, 8, 16)
"""Numbers of tokens of the reference solution behind which the law is compared."""

DTYPES: Final = ("float32", "bfloat16")


@dataclass(frozen=True)
class Comparison:
    """Two laws of the next token, p and q, over several contexts.

    Attributes:
        file: the file.
        p: where the first law comes from.
        q: where the second law comes from.
        contexts: the number of contexts.
        forward: mean of D(p || q), in nats a token.
        forward_error: its standard error over the questions.
        backward: mean of D(q || p).
        backward_error: its standard error.
        largest: the largest of both over the contexts.
        same_mode: the share of contexts in which the most probable token is the same.
    """

    file: str
    p: str
    q: str
    contexts: int
    forward: float
    forward_error: float
    backward: float
    backward_error: float
    largest: float
    same_mode: float


def compared(file: str, p_name: str, q_name: str, p: Tensor, q: Tensor) -> Comparison:
    """Compare two laws.

    Args:
        file: the file.
        p_name: where `p` comes from.
        q_name: where `q` comes from.
        p: log-probabilities, of shape [questions, contexts of a question, V].
        q: log-probabilities, likewise.
    """
    forward = (p.exp() * (p - q)).sum(-1)
    backward = (q.exp() * (q - p)).sum(-1)

    def error(values: Tensor) -> float:
        return float(values.mean(1).std() / math.sqrt(len(values)))

    return Comparison(
        file,
        p_name,
        q_name,
        forward.numel(),
        float(forward.mean()),
        error(forward),
        float(backward.mean()),
        error(backward),
        float(torch.maximum(forward, backward).max()),
        float((p.argmax(-1) == q.argmax(-1)).double().mean()),
    )


def own_law(model: Any, prompts: Sequence[Sequence[int]], given: Sequence[Any]) -> Tensor:
    """Return the law of a network behind each prompt and the given numbers of tokens."""
    laws = []
    for prompt, tokens in zip(prompts, given, strict=True):
        ids = torch.tensor([[*prompt, *tokens[: max(GIVEN)]]])
        places = torch.tensor([len(prompt) - 1 + number for number in GIVEN])
        with torch.no_grad():
            logits = model(ids, use_cache=False, logits_to_keep=places).logits[0]
        laws.append(logits.double().log_softmax(-1))
    return torch.stack(laws)


def law_of_llama(python: Path, file: Path, asked: dict[str, Any]) -> tuple[Tensor, Any]:
    """Return the law of llama.cpp behind each context, and the ids that it makes of texts."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "law"
        message = json.dumps(asked | {"model": str(file), "out": str(out)})
        run = subprocess.run(
            [python, PROGRAM], input=message, capture_output=True, text=True, check=True
        )
        law = torch.from_numpy(np.fromfile(out, dtype=np.float32)).double()
    return law.view(len(asked["contexts"]), asked["size"]), json.loads(run.stdout.splitlines()[-1])


def compare(file: Path, questions: Sequence[dict[str, str]], python: Path) -> tuple[list[Any], str]:
    """Return the comparisons of a file, and a sentence on the ids of the prompts."""
    tokenizer = load_tokenizer(str(file))
    messages = [[{"role": "user", "content": each["question"]}] for each in questions]
    prompts = [chat_ids(tokenizer, each) for each in messages]
    given = [tokenizer.encode(each["answer"], add_special_tokens=False) for each in questions]
    texts = [chat_text(tokenizer, each) for each in messages]
    texts += [each["answer"] for each in questions]
    laws = dict[str, Tensor]()
    for dtype in DTYPES:
        model = Placement("cpu", dtype).load(AutoModelForCausalLM, str(file))
        laws[dtype] = own_law(model, prompts, given)
    contexts = [
        [*prompt, *tokens[:number]]
        for prompt, tokens in zip(prompts, given, strict=True)
        for number in GIVEN
    ]
    asked = {"texts": texts, "contexts": contexts, "size": model.config.vocab_size}
    theirs, said = law_of_llama(python, file, asked | {"threads": torch.get_num_threads()})
    law = theirs.view(len(questions), len(GIVEN), -1)
    # Tokens that are too improbable for single precision are left out there.
    law = law.clamp(min=-200.0).log_softmax(-1)
    laws["llama.cpp"] = law
    pairs = [("float32", "llama.cpp"), ("bfloat16", "llama.cpp"), ("float32", "bfloat16")]
    name = file.name
    found = [compared(name, p, q, laws[p], laws[q]) for p, q in pairs]
    own_ids = [list(ids) for ids in [*prompts, *given]]
    same = sum(own == other for own, other in zip(own_ids, said["ids"], strict=True))
    return found, (
        f"{name}: {same} of {len(own_ids)} texts (prompts and reference solutions) are cut into "
        f"the same ids by both (xllamacpp {said['version']})."
    )


def table(comparisons: Sequence[Comparison]) -> str:
    """Return the comparisons as a table in Markdown."""
    rows = [
        "| file | p | q | contexts | D(p ‖ q), nats a token | D(q ‖ p) | largest | same mode |",
        "| --- | --- | --- | --: | --- | --- | --- | --- |",
    ]
    rows += [
        f"| {each.file} | {each.p} | {each.q} | {each.contexts} | "
        f"{each.forward:.5f} ± {each.forward_error:.5f} | "
        f"{each.backward:.5f} ± {each.backward_error:.5f} | {each.largest:.3f} | "
        f"{each.same_mode:.1%} |"
        for each in comparisons
    ]
    return "\n".join(rows)


def main() -> None:
    """Run the comparison for each file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--dataset", type=Path, required=True, help="JSON lines, as of GSM8K")
    parser.add_argument("--count", type=int, default=30, help="how many questions")
    parser.add_argument("--python", type=Path, help="of an environment that has xllamacpp")
    parser.add_argument("--environments", type=Path, help="a folder in which to make one")
    parser.add_argument("--out", type=Path, help="a JSON file of the figures")
    parser.add_argument("--page", type=Path, help="a page with a place for the table")
    options = parser.parse_args()
    if options.python is None and options.environments is None:
        parser.error("one of --python and --environments is needed")
    python = options.python or python_of("llama_cpp", options.environments)
    lines = options.dataset.read_text(encoding="utf-8").splitlines()[: options.count]
    questions = [json.loads(line) for line in lines]
    comparisons, remarks = list[Comparison](), list[str]()
    for file in options.files:
        found, remark = compare(file, questions, python)
        comparisons += found
        remarks.append(remark)
        if options.out is not None:
            record = {"comparisons": [asdict(each) for each in comparisons], "remarks": remarks}
            options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    text = "\n\n".join([table(comparisons), *remarks])
    print(text)
    if options.page is not None:
        put_into(options.page, text)


if __name__ == "__main__":
    main()
