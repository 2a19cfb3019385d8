"""The search in arguments, as users type it."""

import pytest

from pgreact.queue.argument_path import ArgumentSearch, parse_path, parse_search


@pytest.mark.parametrize(
    ("text", "jsonpath", "path"),
    [
        ("args.user.id:1", '$.kwargs."user"."id" ? (@ == 1 || @ == "1")', ("kwargs", "user", "id")),
        ("user.id:1", '$.kwargs."user"."id" ? (@ == 1 || @ == "1")', ("kwargs", "user", "id")),
        ("kwargs.name:a b", '$.kwargs."name" ? (@ == "a b")', ("kwargs", "name")),
        ('kwargs.name:"1"', '$.kwargs."name" ? (@ == "1")', ("kwargs", "name")),
        ("args.0:paid", '$.args[0] ? (@ == "paid")', ("args", "0")),
        ("0.email:x", '$.args[0]."email" ? (@ == "x")', ("args", "0", "email")),
        ("args.0", "$.args[0]", ("args", "0")),
        ("args.00:paid", '$.args[0] ? (@ == "paid")', ("args", "0")),
        ("\u0660:paid", '$.args[0] ? (@ == "paid")', ("args", "0")),
        ("flag:true", '$.kwargs."flag" ? (@ == true || @ == "true")', ("kwargs", "flag")),
        ("none:null", '$.kwargs."none" ? (@ == null)', ("kwargs", "none")),
        ("n:NaN", '$.kwargs."n" ? (@ == "NaN")', ("kwargs", "n")),
        ('"a.b"."c:d":1', '$.kwargs."a.b"."c:d" ? (@ == 1 || @ == "1")', ("kwargs", "a.b", "c:d")),
        ("existing:1", '$.kwargs."existing" ? (@ == 1 || @ == "1")', ("kwargs", "existing")),
        ("url:http://x/", '$.kwargs."url" ? (@ == "http://x/")', ("kwargs", "url")),
        ("$.kwargs.amount > 100", "$.kwargs.amount > 100", None),
        ("exists ($.args[0])", "exists ($.args[0])", None),
    ],
)
def test_search_is_a_jsonpath(text: str, jsonpath: str, path: tuple[str, ...] | None) -> None:
    assert parse_search(text) == ArgumentSearch(jsonpath, path)


@pytest.mark.parametrize("text", ["", ":1", "user.:1", ".id:1", "a..b:1", "args:1", '"open:1', "a:[1]"])
def test_search_without_a_path_or_a_value_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"write|is not a single value"):
        parse_search(text)


def test_search_in_options_is_refused() -> None:
    with pytest.raises(ValueError, match="options are not searched"):
        parse_search("options.queue:mail")


def test_path_of_a_rule_has_no_value() -> None:
    assert parse_path("user.email") == ("kwargs", "user", "email")
    assert parse_path("options.shadow") == ("options", "shadow")
    with pytest.raises(ValueError, match="is no path"):
        parse_path("user:1")
