"""Declarations beside the models."""

import re
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, join
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from pgreact.alembic import outbox, watch
from pgreact.alembic.declarations import declared
from pgreact.errors import ConfigError


class Base(DeclarativeBase):
    """The base of mapped classes."""


def table() -> Table:
    """Return a table of new models."""
    return Table("orders", MetaData(), Column("id", Integer, primary_key=True), Column("status", String))


def test_a_decorator_and_a_call_declare_mapped_classes_and_tables() -> None:
    class Mapped1(Base):
        __tablename__ = "a"
        id: Mapped[int] = mapped_column(primary_key=True)

    found = watch(route="r", task="t", on=("insert",))(outbox(enqueue="t")(Mapped1))
    assert found is Mapped1
    orders = table()
    assert outbox(orders, enqueue="t") is orders
    assert [each.target.name for _, each in declared(Base.metadata)] == ["t", "r"]
    assert not Mapped1.__table__.info  # Alembic renders it into op.create_table


def test_a_table_that_was_removed_is_not_declared() -> None:
    orders = table()
    outbox(orders, enqueue="t")
    orders.metadata.clear()
    assert not list(declared(orders.metadata))


def test_a_declaration_can_be_repeated_and_not_contradicted() -> None:
    orders = table()
    for _ in range(2):
        watch(orders, route="r", on=("insert", "update"))
    assert len(list(declared(orders.metadata))) == 1
    with pytest.raises(ConfigError, match='table orders: update is declared for route "r" already'):
        watch(orders, route="r", on=("update", "delete"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"changed": ("statsu",)}, 'changed: no column "statsu"; did you mean "status"?'),
        ({"on": ("updat",)}, "on.0: input should be"),
        ({"lane": "a\nb"}, "lane: "),
        ({"enqueue": ""}, "enqueue: "),
    ],
)
def test_a_wrong_value_is_refused_with_its_table(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        outbox(table(), **{"enqueue": "t", **options})
    assert "table orders" in str(caught.value)


def test_what_has_no_table_is_refused() -> None:
    with pytest.raises(TypeError, match="Base is neither a Table nor a class that is mapped to one"):
        watch(Base, route="r", on=("insert",))
    orders = table()
    with pytest.raises(TypeError, match="Join is neither"):
        watch(join(orders, orders.alias(), orders.c.id == 1), route="r", on=("insert",))
