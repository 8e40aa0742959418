"""The registries: dicts filled by decorators, with errors that help."""

import inspect
from pathlib import Path

import pytest

import attnpool.pools
from attnpool.registry import POOLS, SOURCES, Registry, did_you_mean, import_all


@pytest.mark.parametrize("registry", [POOLS, SOURCES], ids=["pools", "data"])
def test_the_stem_of_the_file_is_the_registered_name(registry: Registry) -> None:
    import_all("attnpool.data")
    for entry in registry.values():
        assert Path(inspect.getfile(entry.target)).stem == entry.base


def test_every_pool_file_registers_itself() -> None:
    files = {path.stem for path in Path(attnpool.pools.__path__[0]).glob("[!_]*.py")}
    assert files == {entry.base for entry in POOLS.values()}


def test_every_entry_says_what_it_is_and_where_it_is_from() -> None:
    for name, entry in POOLS.items():
        assert len(entry.summary) > 10, name
        assert entry.paper, name


def test_an_unknown_name_raises_with_the_nearest() -> None:
    with pytest.raises(KeyError) as caught:
        POOLS["nplnope"]
    assert str(caught.value) == "unknown pooling method 'nplnope' (did you mean 'nlpnope' or 'nlpnoexp' or 'nlp'?)"


def test_near_names_are_named_or_all_if_they_are_few() -> None:
    assert did_you_mean("maxq", ["maxp", "avgp"]) == " (did you mean 'maxp'?)"
    assert did_you_mean("zzzz", ["maxp", "avgp"]) == " (known: maxp, avgp)"
    assert did_you_mean("zzzz", []) == did_you_mean("zzzz", map(str, range(31))) == ""


def test_registering_twice_fails() -> None:
    registry = Registry("thing")
    registry.register("a")(dict)
    with pytest.raises(ValueError, match="thing 'a' is registered twice"):
        registry.register("a")(list)


def test_a_variant_fixes_options() -> None:
    registry = Registry("thing")
    registry.register("pair", variants={"origin": {"x": 0, "y": 0}})(complex_number)
    assert registry["pair"](1, y=2) == (1, 2)
    assert registry["origin"]() == (0, 0)
    assert registry["pair"].takes("x")
    assert not registry["origin"].takes("x")
    assert registry["pair"].summary == "Two numbers"
    assert registry["origin"].summary == "pair with x=0, y=0"


def complex_number(x: int = 1, y: int = 1) -> tuple[int, int]:
    """Two numbers.

    More.
    """
    return x, y
