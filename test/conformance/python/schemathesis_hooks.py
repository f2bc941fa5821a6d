"""Adapts requests where the schema cannot tell schemathesis enough."""

import os

import schemathesis

MODEL = os.environ["SORTIE_MODEL_NAME"]
# These tests do not cover the length of answers: a valid length becomes a short one.
SHORT = 3
# null for an optional field equals a missing field, as in OpenAI's own server. The schema does not state this.


def has_null(value) -> bool:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return value is None or any(has_null(child) for child in children)


@schemathesis.hook
def filter_case(context, case) -> bool:
    return not (isinstance(case.body, dict) and has_null(case.body))


@schemathesis.hook
def map_case(context, case):
    if isinstance(case.body, dict):
        if isinstance(case.body.get("model"), str):
            case.body["model"] = MODEL
        for field in ("max_tokens", "max_completion_tokens", "max_output_tokens", "min_tokens"):
            length = case.body.get(field)
            if isinstance(length, int) and not isinstance(length, bool) and length > SHORT:
                case.body[field] = SHORT
        # The speed of the machine is not tested either: a budget that may be rejected (503) becomes one that may be missed.
        sortie = case.body.get("sortie")
        if isinstance(sortie, dict) and sortie.get("budget_on_miss") == "reject":
            sortie["budget_on_miss"] = "continue"
    return case
