"""Servers in the process of the tests that answer as the engines do, and fail as told."""

import contextlib
import json
import random
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from tests.models.servers.markov import LAW, token_ids

Json = dict[str, Any]
Fault = Callable[[int, Json], "tuple[int, dict[str, str], Json | bytes] | str | None"]
"""From the number of a request and its body to what goes wrong; "drop" closes the connection."""


@dataclass
class Text:
    ids: list[int]
    log_probs: list[float]
    finish: str  # "eos", "stop" or "length"


@dataclass
class Law:
    """Draws from the table, one text at a time, with a seed."""

    tokenizer: PreTrainedTokenizerFast
    eos: bool = True

    def __post_init__(self) -> None:
        self.ids = token_ids(self.tokenizer)
        self.rows = {id: place for place, id in enumerate(self.ids)}

    def log_law(self, last: int, temperature: float) -> Tensor:
        log_law = LAW[self.rows.get(last, 0)].double().log()
        return (log_law / temperature).log_softmax(-1)

    def draw(
        self, prompt: Sequence[int], size: int, temperature: float, seed: int, stop: Sequence[str]
    ) -> Text:
        numbers, ids, log_probs = random.Random(f"{seed}/{list(prompt)}"), list(prompt), []
        start = len(ids)
        while len(ids) - start < size:
            if temperature == 0:
                place = int(self.log_law(ids[-1], 1.0).argmax())
            else:
                law = self.log_law(ids[-1], temperature).exp().tolist()
                place = numbers.choices(range(len(law)), law)[0]
            log_probs.append(float(self.log_law(ids[-1], 1.0)[place]))
            ids.append(self.ids[place])
            if ids[-1] == self.tokenizer.eos_token_id:
                return Text(ids[start:], log_probs, "eos")
            text = self.tokenizer.decode(ids[start:], skip_special_tokens=False)
            if any(word in text for word in stop):
                return Text(ids[start:], log_probs, "stop")
        return Text(ids[start:], log_probs, "length")


@dataclass
class FakeServer:
    """One server; `requests` are the bodies of the POSTs so far, `headers` those of all."""

    kind: str
    tokenizer: PreTrainedTokenizerFast
    fault: Fault = lambda number, body: None
    options: Json = field(default_factory=dict)
    requests: list[Json] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    port: int = 0

    def __post_init__(self) -> None:
        self.law, self._lock = Law(self.tokenizer), threading.Lock()
        self._http: ThreadingHTTPServer | None = None
        self._open: set[socket.socket] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                server._open.add(self.connection)

            def finish(self) -> None:
                server._open.discard(self.connection)
                with contextlib.suppress(OSError):
                    super().finish()

            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    super().handle()

            def log_message(self, *arguments: Any) -> None:
                pass

            def do_GET(self) -> None:
                server.headers.append(dict(self.headers))
                page = server.page(self.path)
                self.answer(404 if page is None else 200, {}, page or {"detail": "Not Found"})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server._lock:
                    server.headers.append(dict(self.headers))
                    server.requests.append(body)
                    fault = server.fault(len(server.requests) - 1, body)
                if isinstance(fault, str):
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                elif fault is not None:
                    self.answer(*fault)
                else:
                    self.answer(200, {}, server.reply(self.path, body))

            def answer(self, status: int, headers: dict[str, str], page: Json | bytes) -> None:
                data = page if isinstance(page, bytes) else json.dumps(page).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        class Server(ThreadingHTTPServer):
            daemon_threads, block_on_close, request_queue_size = True, False, 128

        self._http = Server(("127.0.0.1", self.port), Handler)
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def kill(self) -> None:
        """End at once, in the middle of whatever is under way."""
        assert self._http is not None
        self._http.shutdown()
        self._http.server_close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def page(self, path: str) -> Json | None:
        pages: dict[str, dict[str, Json]] = {
            "vllm": {
                "/version": {"version": "0.32.0"},
                "/v1/models": {"data": [{"id": "markov", "max_model_len": 2048}]},
            },
            "sglang": {
                "/server_info": {
                    "served_model_name": "markov",
                    "version": "0.5.23",
                    "context_length": 2048,
                    "enable_deterministic_inference": False,
                }
                | self.options,
                "/get_model_info": {"model_path": "markov"},
            },
            "llama.cpp": {
                "/props": {
                    "default_generation_settings": {"n_ctx": 2048},
                    "build_info": "b9999",
                    "model_path": "markov.gguf",
                }
            },
            "chat": {"/v1/models": {"data": [{"id": "markov"}]}},
        }
        return pages[self.kind].get(path)

    def reply(self, path: str, body: Json) -> Json:
        replies = {
            ("vllm", "/v1/completions"): self.vllm,
            ("sglang", "/generate"): self.sglang,
            ("llama.cpp", "/completion"): self.llama_cpp,
            ("chat", "/v1/chat/completions"): self.chat,
        }
        return replies[self.kind, path](body)

    def vllm(self, body: Json) -> Json:
        text = self.law.draw(
            body["prompt"],
            body["max_tokens"],
            body["temperature"],
            body["seed"],
            body["stop"],
        )
        words = self.tokenizer.decode(text.ids, skip_special_tokens=False)
        log_probs: Json = {"token_logprobs": text.log_probs}
        if "logprob_token_ids" in body:
            tempered = self.options.get("logprobs_mode") == "processed_logprobs"
            log_law = self.full_law(body["prompt"][-1], body["temperature"] if tempered else 1.0)
            log_probs["top_logprobs"] = [
                {f"token_id:{id}": float(log_law[id]) for id in body["logprob_token_ids"]}
            ]
        choice: Json = {
            "text": words,
            "token_ids": text.ids,
            "logprobs": log_probs,
            "finish_reason": "length" if text.finish == "length" else "stop",
            "stop_reason": body["stop"][0] if text.finish == "stop" else None,
        }
        if "prompt_logprobs" in body:
            pairs = zip(body["prompt"][:-1], body["prompt"][1:], strict=True)
            choice["prompt_logprobs"] = [
                None,
                *(
                    {str(id): {"logprob": float(self.full_law(last, 1.0)[id])}}
                    for last, id in pairs
                ),
            ]
        usage = {
            "prompt_tokens": len(body["prompt"]),
            "completion_tokens": len(text.ids),
            "prompt_tokens_details": {"cached_tokens": len(body["prompt"]) // 16 * 16},
        }
        return {"choices": [choice], "usage": usage}

    def full_law(self, last: int, temperature: float) -> Tensor:
        """Return the law over the whole vocabulary; what the table lacks is improbable."""
        log_law = torch.linspace(-70.0, -60.0, len(self.tokenizer), dtype=torch.float64)
        log_law[self.law.ids] = LAW[self.law.rows.get(last, 0)].double().log().clamp(min=-60.0)
        return (log_law / temperature).log_softmax(-1)

    def sglang(self, body: Json) -> Json:
        settings = body["sampling_params"]
        deterministic = self.options.get("enable_deterministic_inference")
        text = self.law.draw(
            body["input_ids"],
            settings["max_new_tokens"],
            settings["temperature"],
            settings["sampling_seed"] if deterministic else random.randrange(2**30),
            settings["stop"],
        )
        tempered = [lp / (settings["temperature"] or 1) for lp in text.log_probs]
        finish: Json = {"type": "length" if text.finish == "length" else "stop"}
        if text.finish == "stop":
            finish["matched"] = settings["stop"][0]
        if text.finish == "eos":
            finish["matched"] = text.ids[-1]
        info: Json = {
            "finish_reason": finish,
            "prompt_tokens": len(body["input_ids"]),
            "cached_tokens": 0,
            "completion_tokens": len(text.ids),
            "output_token_logprobs": [
                [lp, id, None] for lp, id in zip(tempered, text.ids, strict=True)
            ],
        }
        if "token_ids_logprob" in body:
            law = self.full_law(body["input_ids"][-1], settings["temperature"])
            info["output_token_ids_logprobs"] = [
                [[float(law[id]), id, None] for id in body["token_ids_logprob"]]
            ]
        return {"text": "", "output_ids": text.ids, "meta_info": info}

    def llama_cpp(self, body: Json) -> Json:
        text = self.law.draw(
            body["prompt"], body["n_predict"], body["temperature"], body["seed"], body["stop"]
        )
        return {
            "content": "",
            "tokens": text.ids,
            "tokens_predicted": len(text.ids),
            "tokens_evaluated": len(body["prompt"]),
            "stop_type": {"eos": "eos", "stop": "word", "length": "limit"}[text.finish],
            "stopping_word": body["stop"][0] if text.finish == "stop" else "",
            "timings": {"cache_n": 1, "prompt_n": len(body["prompt"]) - 1},
        }

    def chat(self, body: Json) -> Json:
        text = self.law.draw([0], body["max_tokens"], body["temperature"], body["seed"], [])
        words = self.tokenizer.decode(text.ids, skip_special_tokens=True)
        finish = "length" if text.finish == "length" else "stop"
        return {
            "choices": [{"message": {"content": words}, "finish_reason": finish}],
            "usage": {"prompt_tokens": 9, "completion_tokens": len(text.ids)},
        }


@contextlib.contextmanager
def serving(
    kind: str,
    tokenizer: PreTrainedTokenizerFast,
    fault: Fault = lambda number, body: None,
    **options: Any,
) -> Iterator[FakeServer]:
    server = FakeServer(kind, tokenizer, fault, options)
    server.start()
    try:
        yield server
    finally:
        server.kill()
