"""The rules of [web] redact."""

from typing import Any

import pytest

from pgreact.queue.argument_path import parse_path
from pgreact.queue.redaction import HIDDEN, Redaction

RULES = Redaction(
    {"shop.pay": ["card", "user.email"], "mail.*": ["0.to", "options.shadow"], "secret.*": ["*"]}
)


@pytest.mark.parametrize(
    ("task", "section", "value", "shown"),
    [
        ("shop.pay", "kwargs", {"card": "4111", "n": 1}, {"card": HIDDEN, "n": 1}),
        ("shop.pay", "kwargs", {"card": {"no": 1}}, {"card": {"no": HIDDEN}}),
        ("shop.pay", "kwargs", {"user": {"email": "a", "id": 1}}, {"user": {"email": HIDDEN, "id": 1}}),
        ("shop.pay", "kwargs", {"user": [{"email": "a"}, 2]}, {"user": [{"email": HIDDEN}, 2]}),
        ("shop.pay", "args", ["4111", 2], [HIDDEN, HIDDEN]),
        ("shop.pay", "kwargs", '{"card": 1e999', HIDDEN),
        ("mail.send", "args", [{"to": "a", "n": 1}, {"to": "b"}], [{"to": HIDDEN, "n": 1}, {"to": "b"}]),
        ("mail.send", "options", {"shadow": "a", "queue": "q"}, {"shadow": HIDDEN, "queue": "q"}),
        ("secret.x", "kwargs", {"a": 1}, {"a": HIDDEN}),
        ("secret.x", "kwargs", {}, {}),
        ("secret.x", "args", [[1], 2], [HIDDEN, HIDDEN]),
        ("other", "kwargs", {"card": "4111"}, {"card": "4111"}),
        ("other", "options", {"link": {"args": ["4111"]}, "queue": "q"}, {"link": HIDDEN, "queue": "q"}),
    ],
)
def test_hidden_values_are_not_shown(task: str, section: str, value: Any, shown: Any) -> None:
    assert RULES.arguments(task, section, value) == shown


def test_without_rules_all_is_shown() -> None:
    value = {"link": {"args": [1]}}
    assert Redaction({}).arguments("t", "options", value) == value


def test_error_of_a_task_with_a_rule_is_its_class() -> None:
    assert RULES.error("shop.pay", "ValueError: card 4111 refused\n  File x") == f"ValueError: {HIDDEN}"
    assert RULES.error("shop.pay", "shop.errors.Refused") == f"shop.errors.Refused: {HIDDEN}"
    assert RULES.error("shop.pay", "4111 refused") == HIDDEN
    assert RULES.error("shop.pay", None) is None
    assert RULES.error("other", "ValueError: 4111") == "ValueError: 4111"


@pytest.mark.parametrize(
    ("path", "tasks"),
    [
        ("card", ["shop.pay", "secret.%"]),
        ("card.number", ["shop.pay", "secret.%"]),
        ("user", ["shop.pay", "secret.%"]),
        ("user.0.email", ["shop.pay", "secret.%"]),
        ("user.id", ["secret.%"]),
        ("0.to", ["shop.pay", "mail.%", "secret.%"]),
        ("1.to", ["shop.pay", "secret.%"]),
    ],
)
def test_search_leaves_out_tasks_whose_hidden_values_it_could_find(path: str, tasks: list[str]) -> None:
    assert RULES.hidden_tasks(parse_path(path)) == tasks


def test_jsonpath_leaves_out_every_task_with_a_rule() -> None:
    assert RULES.hidden_tasks(None) == ["shop.pay", "mail.%", "secret.%"]


def test_search_in_a_hidden_field_of_the_task_is_refused() -> None:
    assert RULES.refuses("shop.pay", parse_path("card"))
    assert not RULES.refuses("shop.pay", parse_path("n"))
    assert RULES.refuses("mail.*", None)
    assert not RULES.refuses("other", None)
