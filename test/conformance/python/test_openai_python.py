"""The unmodified official Python client against the real server."""

import asyncio
import json

import openai
import pytest

from conftest import API_KEY, Server

MESSAGES = [{"role": "user", "content": "Name a color."}]
PROMPT = "The capital of France is"
# A length that no test reads to the end: an aborted answer has to stop by itself.
ENDLESS = 1500


@pytest.fixture
def client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=API_KEY, max_retries=0)


def chat(server: Server, **fields) -> dict:
    return {"model": server.model, "messages": MESSAGES, "max_tokens": 12, "temperature": 0, **fields}


def completion(server: Server, **fields) -> dict:
    return {"model": server.model, "prompt": PROMPT, "max_tokens": 8, "temperature": 0, **fields}


def test_models(server, client):
    names = {model.id for model in client.models.list()}
    assert names == {server.model, *(f"{server.model}:{layer}" for layer in server.exits)}
    assert client.models.retrieve(server.model).id == server.model


def test_chat_streamed_is_the_same_text(server, client):
    whole = client.chat.completions.create(**chat(server))
    chunks = list(client.chat.completions.create(**chat(server), stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content != ""
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert [reason for reason in reasons if reason is not None] == [whole.choices[0].finish_reason]


def test_completion_streamed_is_the_same_text(server, client):
    whole = client.completions.create(**completion(server))
    chunks = client.completions.create(**completion(server), stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == whole.choices[0].text != ""


def test_the_stream_helper(server, client):
    # The helper rejects answers that max_tokens cut.
    sentence = chat(server, max_tokens=200, stop=["."])
    with client.chat.completions.stream(**sentence) as stream:
        final = stream.until_done().get_final_completion()
    assert final.choices[0].finish_reason == "stop"
    assert final.choices[0].message.content == client.chat.completions.create(**sentence).choices[0].message.content


def test_several_choices_and_log_probabilities(server, client):
    answer = client.chat.completions.create(**chat(server, n=3, logprobs=True, top_logprobs=4, temperature=1, seed=1))
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert all(len(token.top_logprobs) == 4 for choice in answer.choices for token in choice.logprobs.content)


def test_batched_prompts_as_text_and_as_token_ids(server, client):
    prompts = [PROMPT, "Red, green,"]
    ids = [server.post("/tokenize", {"prompt": prompt})["tokens"] for prompt in prompts]
    text = client.completions.create(**completion(server, prompt=prompts))
    tokens = client.completions.create(**completion(server, prompt=ids))
    assert [choice.text for choice in text.choices] == [choice.text for choice in tokens.choices]
    assert len(text.choices) == 2


def test_a_tool_that_must_be_called(server, client):
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 8}, "unit": {"enum": ["C", "F"]}},
        "required": ["city", "unit"],
        "additionalProperties": False,
    }
    tools = [{"type": "function", "function": {"name": "get_weather", "parameters": schema}}]
    asked = chat(server, tools=tools, tool_choice="required", parallel_tool_calls=False, max_tokens=60)
    choice = client.chat.completions.create(**asked).choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    [call] = choice.message.tool_calls
    arguments = json.loads(call.function.arguments)
    assert call.function.name == "get_weather"
    assert set(arguments) == {"city", "unit"}
    assert arguments["unit"] in ("C", "F")
    with client.chat.completions.stream(**asked) as stream:
        final = stream.until_done().get_final_completion()
    assert final.choices[0].message.tool_calls[0].function.arguments == call.function.arguments
    history = [*MESSAGES, choice.message, {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    answer = client.chat.completions.create(**chat(server, messages=history))
    assert answer.choices[0].message.content


def response(server: Server, **fields) -> dict:
    return {"model": server.model, "input": "Name a color.", "max_output_tokens": 12, "temperature": 0, **fields}


def test_response_streamed_is_the_same_text(server, client):
    whole = client.responses.create(**response(server))
    events = list(client.responses.create(**response(server), stream=True))
    deltas = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert deltas == whole.output_text != ""
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].response.usage.output_tokens == whole.usage.output_tokens
    # The helper rejects answers that max_output_tokens cut.
    sentence = response(server, max_output_tokens=200, extra_body={"stop": ["."]})
    with client.responses.stream(**sentence) as stream:
        text = stream.until_done().get_final_response().output_text
    assert text == client.responses.create(**sentence).output_text != ""
    turns = [{"role": "user", "content": "Name a color."}, *whole.output, {"role": "user", "content": "Why?"}]
    assert client.responses.create(**response(server, input=turns)).output_text


def test_response_with_a_tool_and_with_a_schema(server, client):
    schema = {
        "type": "object",
        "properties": {"city": {"enum": ["Oslo", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    }
    tools = [{"type": "function", "name": "get_weather", "parameters": schema, "strict": True}]
    asked = response(server, tools=tools, tool_choice="required", parallel_tool_calls=False, max_output_tokens=60)
    [call] = client.responses.create(**asked).output
    assert json.loads(call.arguments)["city"] in ("Oslo", "Rome")
    with client.responses.stream(**asked) as stream:
        assert stream.until_done().get_final_response().output[0].arguments == call.arguments
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    turns = [{"role": "user", "content": "Name a city."}, call, result]
    assert client.responses.create(**response(server, input=turns)).output_text
    text = {"format": {"type": "json_schema", "name": "city", "schema": schema, "strict": True}}
    answer = client.responses.create(**response(server, text=text, max_output_tokens=40))
    assert json.loads(answer.output_text)["city"] in ("Oslo", "Rome")


def test_response_budget_and_errors(server, client):
    headers = {"X-Latency-Budget-Ms": "60000", "X-Exit-Layer": str(server.exits[0])}
    raw = client.responses.with_raw_response.create(**response(server), extra_headers=headers)
    assert raw.headers["x-exit-layer"] == str(server.exits[0])
    assert raw.parse().model_extra["sortie"]["met"] is True
    with pytest.raises(openai.BadRequestError) as stored:
        client.responses.create(**response(server), previous_response_id="resp_1")
    assert (stored.value.code, stored.value.param) == ("unsupported_parameter", "previous_response_id")


def test_budget_by_header_and_by_body(server, client):
    raw = client.chat.completions.with_raw_response
    shallow = server.exits[0]
    headers = {"X-Latency-Budget-Ms": "60000", "X-Exit-Layer": str(shallow)}
    response = raw.create(**chat(server), extra_headers=headers)
    assert response.headers["x-exit-layer"] == str(shallow)
    assert response.parse().model_extra["sortie"]["budget_ms"] == 60000
    body = {"sortie": {"latency_budget_ms": 60000, "exit_layer": shallow}}
    report = client.chat.completions.create(**chat(server), extra_body=body).model_extra["sortie"]
    assert report["met"] is True
    assert report["plan"]["exit_layer"] == shallow


def test_errors_arrive_as_the_classes_of_the_client(server, client):
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(**chat(server, model="gpt-9"))
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as hot:
        client.chat.completions.create(**chat(server, temperature=9))
    assert (hot.value.param, hot.value.type) == ("temperature", "invalid_request_error")
    with pytest.raises(openai.BadRequestError) as long:
        client.completions.create(**completion(server, prompt="word " * 20000))
    assert long.value.code == "context_length_exceeded"
    stranger = openai.OpenAI(base_url=f"{server.url}/v1", api_key="wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        stranger.models.list()


def test_a_stream_that_is_closed_stops_the_sequence(server, client):
    server.wait_idle()
    before = server.metric("sortie_generation_tokens_total")
    endless = chat(server, max_tokens=ENDLESS)
    with client.chat.completions.create(**endless, stream=True, extra_body={"ignore_eos": True}) as stream:
        for index, _ in enumerate(stream):
            if index == 3:
                break
    server.wait_idle()
    assert server.metric("sortie_generation_tokens_total") - before < ENDLESS


def test_an_async_request_that_is_cancelled_stops_the_sequence(server):
    async def run() -> None:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=API_KEY, max_retries=0) as client:
            endless = chat(server, max_tokens=ENDLESS)
            task = asyncio.create_task(client.chat.completions.create(**endless, extra_body={"ignore_eos": True}))
            await asyncio.sleep(0.5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    server.wait_idle()
    before = server.metric("sortie_generation_tokens_total")
    asyncio.run(run())
    server.wait_idle()
    assert server.metric("sortie_generation_tokens_total") - before < ENDLESS
