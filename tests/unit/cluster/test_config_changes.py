"""A changed configuration file: every field of it is applied and said, or refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from kvctl.cluster.config_changes import APPLIED_AT_START, apply_at_start, fixed_changes
from kvctl.cluster.options import UpOptions, check_contradictions, new_config, number_ports
from kvctl.errors import ContradictionError, exit_code_of
from kvctl_node.config import ClusterConfig

MADE = msgspec.structs.replace(
    new_config("shop", UpOptions(nodes=3))[0], cluster_id="1" * 32, made_at="1:2:/there"
)
CONFIG = msgspec.structs.replace(MADE, nodes=number_ports(MADE.nodes, 7000))


def other_value(value: Any) -> Any:
    """A value of the same type that is not this one."""
    match value:
        case str():
            return value + "x"
        case int() | float():
            return value + 1
        case tuple():
            return (*value, "x")
    raise AssertionError(f"the test knows no other value than {value!r}")


def changed_files() -> Iterator[tuple[str, ClusterConfig]]:
    """(field, a file that says something else there) for every field the schema has."""
    for field in msgspec.structs.fields(ClusterConfig):
        value = getattr(CONFIG, field.name)
        if field.name == "nodes":
            for name in value[0].__struct_fields__:
                spec = msgspec.structs.replace(
                    value[0], **{name: other_value(getattr(value[0], name))}
                )
                nodes = (spec, *value[1:])
                path = "nodes" if name == "name" else f"n1.{name}"
                yield path, msgspec.structs.replace(CONFIG, nodes=nodes)
            yield "nodes", msgspec.structs.replace(CONFIG, nodes=value[:2])
        elif isinstance(value, msgspec.Struct):
            for name in value.__struct_fields__:
                section = msgspec.structs.replace(
                    value, **{name: other_value(getattr(value, name))}
                )
                changed = msgspec.structs.replace(CONFIG, **{field.name: section})
                yield f"{field.name}.{name}", changed
        else:
            yield field.name, msgspec.structs.replace(CONFIG, **{field.name: other_value(value)})


CHANGED = list(changed_files())


def test_every_section_of_the_schema_is_walked_through() -> None:
    walked = {field.partition(".")[0] for field, _ in CHANGED}
    assert set(ClusterConfig.__struct_fields__) <= walked
    assert {field for field, _ in CHANGED} >= APPLIED_AT_START


@pytest.mark.parametrize(("field", "file"), CHANGED, ids=[field for field, _ in CHANGED])
def test_a_changed_field_is_applied_and_said_or_refused_by_name(
    field: str, file: ClusterConfig
) -> None:
    options = UpOptions(config=file)
    if field in APPLIED_AT_START:
        check_contradictions(CONFIG, options, ephemeral=False)
        config, [sentence] = apply_at_start(CONFIG, file, running=False)
        assert config == file
        assert sentence.startswith(f"{field} is ")
        with pytest.raises(ContradictionError) as caught:
            apply_at_start(CONFIG, file, running=True)
    else:
        with pytest.raises(ContradictionError) as caught:
            check_contradictions(CONFIG, options, ephemeral=False)
    assert f"file's {field} " in caught.value.message
    assert caught.value.hint
    assert exit_code_of(caught.value) == 2


def test_a_file_that_says_what_the_cluster_has_changes_nothing() -> None:
    assert fixed_changes(CONFIG, CONFIG) == []
    assert apply_at_start(CONFIG, CONFIG, running=True) == (CONFIG, ())


def test_what_a_person_leaves_to_kvctl_is_no_change() -> None:
    assert fixed_changes(CONFIG, new_config("shop", UpOptions(nodes=3))[0]) == []
    assert fixed_changes(CONFIG, msgspec.structs.replace(MADE, name="")) == []


@pytest.mark.parametrize("field", ["name", "cluster_id", "former_clusters", "made_at"])
def test_a_file_for_a_new_cluster_has_no_identity(field: str) -> None:
    plain = new_config("shop", UpOptions(nodes=3))[0]
    new_config("shop", UpOptions(config=plain))
    file = msgspec.structs.replace(plain, **{field: other_value(getattr(plain, field))})
    with pytest.raises(ContradictionError, match=field):
        new_config("shop", UpOptions(config=file))
