"""One gateway, two clients: the openai package and plain HTTP.

Start a gateway first (`eccos serve --pool pool.toml`), then: ``python examples/gateway_clients.py http://127.0.0.1:8080``
"""

import json
import sys
import urllib.request

from openai import OpenAI


def plain(url: str, question: str) -> None:
    """Ask by HTTP alone; the headers say what was decided."""
    body = json.dumps({"model": "eccos", "messages": [{"role": "user", "content": question}]}).encode()
    request = urllib.request.Request(f"{url}/v1/chat/completions", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        answer = json.load(response)
        print(
            f"HTTP: {response.headers['x-eccos-model']}: {answer['choices'][0]['message']['content'][:60]!r}"
        )


def streamed(url: str, question: str) -> None:
    """Ask by the openai package, and read the answer as it comes."""
    client = OpenAI(base_url=f"{url}/v1", api_key="none")
    stream = client.chat.completions.create(
        model="eccos", messages=[{"role": "user", "content": question}], stream=True
    )
    parts = [event.choices[0].delta.content or "" for event in stream if event.choices]
    print(f"openai: {len(parts)} parts: {''.join(parts)[:60]!r}")


if __name__ == "__main__":
    address = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"
    plain(address, "What is 2 plus 2?")
    streamed(address, "What is 3 plus 3?")
