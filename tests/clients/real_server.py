"""The gateway in front of `transformers serve`: run by scripts/real-server, with the cache folder as argument."""

import asyncio
import json
import os
import pathlib
import sys
import tempfile
import time

import openai

import harness
from harness import KEY, Gateway, Process, digest, free_port, get, until

WORDS = "rings carry many small streams of words from one machine to another and none waits for the rest"
STREAMS = 8
TOKENS = 64


def make_model(folder):
    """A Llama of random weights and a byte-level BPE tokenizer trained on a few sentences."""
    if (folder / "config.json").exists():
        return
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(1)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<s>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator([WORDS, WORDS.upper(), "Größe, 你好, 🦀 {}[]:,.\"'"] * 4, trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>", model_max_length=4096)
    wrapped.chat_template = (
        "{% for message in messages %}<s>{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}<s>assistant:")
    config = LlamaConfig(
        vocab_size=len(wrapped), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=4096, bos_token_id=0, eos_token_id=1, pad_token_id=1)
    model = LlamaForCausalLM(config).eval()
    # No stop token: random weights would end an answer anywhere, and a test wants to know its length.
    model.generation_config = GenerationConfig(do_sample=False, max_new_tokens=TOKENS, pad_token_id=1)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    wrapped.save_pretrained(folder)
    print(f"made a model of {sum(parameter.numel() for parameter in model.parameters()):,} parameters, "
          f"{len(wrapped)} tokens in its vocabulary", flush=True)


def configuration(port, admin, server):
    return f"""
listen = "127.0.0.1:{port}"
[admin]
listen = "127.0.0.1:{admin}"
[shards]
count = 2
pin = false
[backend.transformers]
url = "http://{server}"
health = {{ path = "/health" }}
[model.tiny]
backends = [{{ name = "transformers", model = "{{MODEL}}" }}]
[key.main]
sha256 = "{digest(KEY)}"
"""


class Summary:
    """Claims and whether they held."""

    def __init__(self):
        self.failed = 0

    def check(self, claim, held, seen=""):
        self.failed += not held
        print(f"{'ok  ' if held else 'FAIL'}  {claim}{f' ({seen})' if seen != '' else ''}", flush=True)


def text_of(chunks):
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def ask(stream, **more):
    messages = [{"role": "user", "content": WORDS}]
    return {"model": "tiny", "messages": messages, "stream": stream, "max_tokens": TOKENS, **more}


def whole(client, summary):
    answer = client.chat.completions.create(**ask(False))
    summary.check("a whole answer has text and usage",
                  bool(answer.choices[0].message.content) and answer.usage.completion_tokens == TOKENS,
                  f"model {pathlib.Path(answer.model).name!r}, {answer.usage.prompt_tokens} + "
                  f"{answer.usage.completion_tokens} tokens, finish {answer.choices[0].finish_reason!r}")
    return answer


def streamed(client, gateway, summary, text):
    times, chunks = [], []
    for chunk in client.chat.completions.create(**ask(True)):
        times.append(time.monotonic())
        chunks.append(chunk)
    summary.check("a stream ends with a finish reason", bool(chunks[-1].choices and chunks[-1].choices[0].finish_reason),
                  f"{len(chunks)} chunks over {(times[-1] - times[0]) * 1000:.0f} ms")
    summary.check("a stream says what the whole answer says", text_of(chunks) == text)
    body = json.dumps(ask(True))
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    _, seen, raw = get(gateway.address, "/v1/chat/completions", headers, "POST", body)
    summary.check("the gateway adds the missing [DONE], once",
                  raw.endswith(b"data: [DONE]\n\n") and raw.count(b"[DONE]") == 1, repr(raw[-40:]))
    summary.check("one content-type and a request id",
                  seen["content-type"].startswith("text/event-stream") and bool(seen.get("x-request-id")))


async def at_once(gateway, summary, text):
    async with openai.AsyncOpenAI(base_url=gateway.base, api_key=KEY, max_retries=0, timeout=60) as client:
        async def one():
            return text_of([chunk async for chunk in await client.chat.completions.create(**ask(True))])

        started = time.monotonic()
        texts = await asyncio.gather(*(one() for _ in range(STREAMS)))
        took = time.monotonic() - started
    summary.check(f"{STREAMS} streams at once are whole", all(one == text for one in texts), f"{took:.2f} s in all")


def errors(client, summary):
    for claim, kind, request in [
        ("an unknown model is a NotFoundError", openai.NotFoundError, {"model": "nope", "messages": []}),
        ("a failure of the server is told as one", openai.APIStatusError,
         {**ask(False), "messages": [{"role": "user", "content": 5}]}),
    ]:
        try:
            client.chat.completions.create(**request)
            summary.check(claim, False, "no error")
        except kind as error:
            summary.check(claim, True, f"{error.status_code} {str(error)[:90]!r}")
    names = [model.id for model in client.models.list()]
    summary.check("GET /v1/models is the gateway's own", names == ["tiny"], names)


def abort(client, gateway, summary):
    stream = client.chat.completions.create(**ask(True, extra_body={"max_tokens": 3000}))
    seen = [chunk for chunk, _ in zip(stream, range(5))]
    stream.close()
    left = time.monotonic()
    try:
        until(lambda: gateway.total("ringway_exchanges_active") == 0, 5, "no exchange in flight")
        summary.check("an abandoned stream leaves nothing in flight", True,
                      f"after {len(seen)} chunks; {(time.monotonic() - left) * 1000:.0f} ms")
    except AssertionError as error:
        summary.check("an abandoned stream leaves nothing in flight", False, error)
    answer = client.chat.completions.create(**ask(False))
    summary.check("and the next request is answered", bool(answer.choices))


def books(gateway, summary, answers):
    wanted = answers * TOKENS

    def counted():
        return gateway.total("ringway_model_tokens_total", model="tiny", type="output")

    try:
        until(lambda: counted() >= wanted, 5, f"{wanted} tokens counted")
    except AssertionError:
        pass
    summary.check("every finished answer's tokens are in /metrics", counted() >= wanted,
                  f"{counted():.0f} counted, {wanted} in finished answers, the rest of the abandoned one")


def main():
    cache = pathlib.Path(sys.argv[1])
    model = cache / "model"
    make_model(model)
    summary = Summary()
    with tempfile.TemporaryDirectory(prefix="ringway-real-") as folder:
        folder = pathlib.Path(folder)
        port = free_port()
        address = f"127.0.0.1:{port}"
        os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")
        command = [str(pathlib.Path(sys.executable).with_name("transformers")), "serve", str(model),
                   "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
        started = time.monotonic()
        server = Process("transformers serve", command, folder / "server.log")
        gateway = None
        try:
            def up():
                if server.child.poll() is not None:
                    raise RuntimeError(f"the server ended with {server.child.returncode}\n{server.words()}")
                try:
                    return get(address, "/health")[0] == 200
                except OSError:
                    return False
            until(up, 120, "the server's health")
            print(f"transformers serve is up after {time.monotonic() - started:.1f} s", flush=True)
            gateway = Gateway(folder, lambda port, admin:
                              configuration(port, admin, address).replace("{MODEL}", str(model)))
            with openai.OpenAI(base_url=gateway.base, api_key=KEY, max_retries=0, timeout=60) as client:
                answer = whole(client, summary)
                streamed(client, gateway, summary, answer.choices[0].message.content)
                asyncio.run(at_once(gateway, summary, answer.choices[0].message.content))
                errors(client, summary)
                abort(client, gateway, summary)
            books(gateway, summary, answers=4 + STREAMS)
            code = gateway.stop()
            summary.check("the gateway ends cleanly", code == 0, f"exit code {code}")
        finally:
            for process in (gateway, server):
                if process is not None and process.child.poll() is None:
                    process.stop()
    print(f"\n{summary.failed} failed" if summary.failed else "\nall held", flush=True)
    sys.exit(1 if summary.failed else 0)


if __name__ == "__main__":
    main()
