"""The harness itself: blocks are found, outputs compared, failures told."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.docs.blocks import blocks, sandbox_of
from tests.docs.expected import first_missing
from tests.docs.sandbox import Failure, Sandbox
from tests.docs.statements import statements
from tests.harness import Database


@pytest.fixture
def sandbox(database: Database, tmp_path: Path) -> Iterator[Sandbox]:
    """A sandbox of the page "sample.md", without a broker."""
    for folder in ("project", "state"):
        (tmp_path / folder).mkdir()
    with Sandbox("sample.md", tmp_path / "project", tmp_path / "state", database.dsn, "memory://") as found:
        yield found


def run(sandbox: Sandbox, page: str) -> None:
    for block in blocks(page):
        sandbox.run(block)
    sandbox.check_background()


def test_block_has_language_title_and_line() -> None:
    (block,) = blocks('# A\n\n```python title="a/b.py" hl_lines="1"\nx = 1\n```\n')
    assert (block.line, block.language, block.title, block.text) == (3, "python", "a/b.py", "x = 1\n")


def test_text_directly_after_a_block_is_expected_and_elsewhere_shown() -> None:
    page = "```sh\necho a\n```\n\n```text\na\n```\n\nProse.\n\n```text\nb\n```\n"
    assert [(block.language, block.expected) for block in blocks(page)] == [("sh", "a\n"), ("text", None)]


def test_block_in_a_list_loses_its_indent() -> None:
    assert blocks("1. A\n\n    ```sh\n    echo a\n    ```\n")[0].text == "echo a\n"


def test_comment_above_a_block_holds_for_this_block_alone() -> None:
    page = (
        "<!-- not run: it ends the machine -->\n```sh\na\n```\n<!-- fails -->\n```sh\nb\n```\n```sh\nc\n```\n"
    )
    assert [(block.not_run, block.fails) for block in blocks(page)] == [
        ("it ends the machine", False),
        (None, True),
        (None, False),
    ]


@pytest.mark.parametrize(
    ("page", "error"),
    [("```sh\na\n", "line 1: the block is not closed"), ("```console\na\n```", 'no language "console"')],
)
def test_wrong_block_is_refused(page: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        blocks(page)


def test_page_names_the_folder_it_starts_from() -> None:
    assert sandbox_of("<!-- sandbox: examples/plain -->\n# A") == Path("examples/plain")
    assert sandbox_of("# A") is None


@pytest.mark.parametrize(
    ("expected", "missing"),
    [
        ("a 1\nc", None),
        ("a   1\n…\nc", None),
        ("…b\nc", None),
        ("c\na 1", "a 1"),
        ("a", "a"),
        ("a … 1\nd", "a … 1"),
    ],
)
def test_expected_lines_are_found_in_order(expected: str, missing: str | None) -> None:
    assert first_missing(expected, "a 1\nbb\n\x1b[31mc\x1b[0m\n") == missing


def test_statements_are_split_outside_quotes_and_comments() -> None:
    text = """select ';', ";", $$;$$, $a$ $$;$$ $a$; -- a; b
    /* ; */ begin; commit;"""
    assert statements(text) == ["""select ';', ";", $$;$$, $a$ $$;$$ $a$""", "begin", "commit"]


def test_directory_and_variables_last_from_block_to_block(sandbox: Sandbox) -> None:
    run(
        sandbox,
        "```sh\nmkdir a b\ncd a\nexport X='one two'\n```\n"
        '```python\nimport os\nprint(os.getcwd()[-2:], os.environ["X"])\n```\n```text\n/a one two\n```\n',
    )


def test_background_command_is_waited_for_by_its_output_and_ended(sandbox: Sandbox) -> None:
    run(sandbox, "```sh\n(while :; do sleep 0.1; echo tick; done) &\n```\n\n```text\ntick\ntick\n```\n")


def test_background_command_that_fails_is_told(sandbox: Sandbox) -> None:
    with pytest.raises(Failure, match=r"(?s)`\(echo gone; exit 3\) &` ended with 3.*gone"):
        run(
            sandbox,
            "```sh\n(echo gone; exit 3) &\n```\n```text\ngone\n```\n"
            "```sh\nwhile ps x | grep -q '[e]xit 3'; do :; done\n```\n",
        )


def test_failing_command_is_told_with_page_line_and_output(sandbox: Sandbox) -> None:
    with pytest.raises(
        Failure, match=r"(?s)^sample\.md:3: the sh block ended with 1.*echo seen.*printed:\s+seen$"
    ):
        run(sandbox, "# A\n\n```sh\necho seen\nfalse\ntrue\n```\n")


def test_command_that_should_fail_and_does_not_is_told(sandbox: Sandbox) -> None:
    run(sandbox, "<!-- fails -->\n```sh\nfalse\n```\n")
    with pytest.raises(Failure, match="ended with 0"):
        run(sandbox, "<!-- fails -->\n```sh\ntrue\n```\n")


def test_query_is_repeated_until_it_shows_what_the_page_says(sandbox: Sandbox) -> None:
    page = """```sql
create table a (b int);
```
```python title="insert.py"
import psycopg
psycopg.connect(autocommit=True).execute("insert into a values (7)")
```
```sh
(sleep 0.3; python insert.py) &
```
```sql
select b, null as c from a;
```
```text
 b | c
---+---
 7 |
(1 row)
```
"""
    run(sandbox, page)


def test_query_beside_a_statement_that_writes_is_repeated_alone(sandbox: Sandbox) -> None:
    page = """```sql
create table a (b int);
```
```python title="follow.py"
import psycopg
connection = psycopg.connect(autocommit=True)
while not connection.execute("insert into a select 8 from a returning b").fetchall():
    pass
```
```sh
python follow.py &
```
```sql
insert into a values (7);
select count(*) from a;
```
```text
INSERT 0 1
2
```
"""
    run(sandbox, page)


def test_writing_statement_is_not_repeated(sandbox: Sandbox) -> None:
    with pytest.raises(Failure, match="did not print this line: 2"):
        run(sandbox, "```sql\ncreate sequence s;\nselect nextval('s');\n```\n```text\n2\n```\n")


def test_role_and_background_command_end_with_the_page(database: Database, tmp_path: Path) -> None:
    for folder in ("project", "state"):
        (tmp_path / folder).mkdir()
    with Sandbox("sample.md", tmp_path / "project", tmp_path / "state", database.dsn, "memory://") as sandbox:
        run(sandbox, "```sql\ncreate role of_a_page; grant usage on schema public to of_a_page;\n```\n")
        run(sandbox, "```sh\n(sleep 600 & echo $! > pid; echo up; wait) &\n```\n```text\nup\n```\n")
        pid = int((tmp_path / "project" / "pid").read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert database.value("select count(*) from pg_roles where rolname = 'of_a_page'") == 0


def test_refused_statement_shows_error_and_hint(sandbox: Sandbox) -> None:
    run(sandbox, "```sql\nselect 1/0;\n```\n```text\nERROR:  division by zero\n```\n")
    with pytest.raises(Failure, match="was refused"):
        run(sandbox, "```sql\nselect 1/0;\n```\n")
