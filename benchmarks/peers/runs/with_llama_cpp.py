"""The law of the next token by llama.cpp, through the package xllamacpp.

Reads from the standard input {"model": FILE, "texts": [...], "contexts": [[id, ...], ...],
"size": V, "threads": N, "out": FILE}; writes the log-probabilities of all V tokens behind each
context to the file, V numbers in single precision for each, and to the standard output the ids of
each text and the version that has run.
"""

import array
import json
import sys
import urllib.request

import xllamacpp


def main():
    """Answer what stands on the standard input."""
    given = json.load(sys.stdin)
    params = xllamacpp.CommonParams()
    params.model.path = given["model"]
    params.n_ctx, params.n_parallel, params.warmup = 2048, 1, False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = given["threads"]
    server = xllamacpp.Server(params)
    with open(given["out"], "wb") as out:
        for context in given["contexts"]:
            law = law_behind(server, context, given["size"])
            law.tofile(out)
    ids = [ids_of(server, text) for text in given["texts"]]
    print(json.dumps({"ids": ids, "version": xllamacpp.__version__}))


def law_behind(server, context, size):
    """Return the log-probability of each token behind the ids of a context."""
    asked = {"prompt": context, "n_predict": 1, "max_tokens": 1, "temperature": 0.0}
    asked |= {"n_probs": size, "logprobs": size, "post_sampling_probs": False}
    answer = server.handle_completions(asked)
    first = answer["choices"][0]["logprobs"]["content"][0]
    law = array.array("f", [float("-inf")]) * size
    for token in first["top_logprobs"]:
        law[token["id"]] = token["logprob"]
    return law


def ids_of(server, text):
    """Return the ids of a text in which special tokens are markup."""
    body = json.dumps({"content": text, "add_special": False, "parse_special": True}).encode()
    url = f"{server.listening_address}/tokenize"
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["tokens"]


main()
