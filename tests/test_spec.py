"""Architecture strings: the published grammar, both ways, and what is wrong with a wrong one."""

import itertools
import re
import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
from goldens import NETWORKS
from hypothesis import given, settings
from hypothesis import strategies as st

from attnpool import ModelSpec, PoolSpec, SpecError, parse
from attnpool.models.stages import BACKBONES
from attnpool.poolspec import FLAGS, OPTIONS, parse_pool
from attnpool.registry import POOLS
from attnpool.spec import REDUCED_PATCHES

PUBLISHED = list(NETWORKS)


@st.composite
def pool_tokens(draw: st.DrawFn, strides: list[int] | None = None) -> str:
    """A POOL token, with digits after `reduced` that suit `strides`, or one digit for a prepool."""
    method = draw(st.sampled_from(list(POOLS)))
    takes = {option for option, keyword in OPTIONS.items() if POOLS[method].takes(keyword)}
    token = method
    if "headfix" in takes and draw(st.booleans()):
        token += f"_headfix{draw(st.integers(1, 64))}"
    if "nowin" in takes and draw(st.booleans()):
        token += "_nowin"
    if "reduced" in takes and draw(st.booleans()):
        digits = [draw(st.integers(s > 1, 9)) for s in (strides or [2])]
        plain = (strides is None or len(strides) in REDUCED_PATCHES) and draw(st.booleans())
        token += "_reduced" + ("" if plain else "".join(map(str, digits)))
    set_by_now = set()
    for flag, (keyword, _) in FLAGS.items():
        signed = flag in ("noexp", "nosigmoid") and re.search("noexp|nosigmoid", token) and "_nowin" not in token
        if POOLS[method].takes(keyword) and keyword not in set_by_now and not signed and draw(st.booleans()):
            set_by_now.add(keyword)
            token += f"_{flag}"
    return token


@st.composite
def architectures(draw: st.DrawFn) -> str:
    name = draw(st.sampled_from([*BACKBONES, "efficientnet_lite0", "convnext_atto"]))
    count = {"efficientnet_lite0": 7, "convnext_atto": 4}.get(name) or len(BACKBONES[name].stages)
    strides = draw(st.lists(st.integers(1, 9), min_size=count, max_size=count))
    still = st.just("prepool-skip-1-")  # the stem's convolution at stride 1
    pooled = st.builds("prepool-{}-{}-".format, pool_tokens(), st.integers(2, 99))
    prepool = draw(st.just("") | still | pooled)
    dynamic = "dy" if draw(st.booleans()) else ""
    return f"{prepool}{dynamic}{name}-{draw(pool_tokens(strides))}-{''.join(map(str, strides))}"


def test_ablations_combine_freely() -> None:
    combinations = 0
    for method in ("nlp", "dfmnlp", "mixp", "dfmixp", "nlpnope"):
        flags = [
            flag for flag, (keyword, _) in FLAGS.items() if POOLS[method].takes(keyword) and keyword != "kv_stride"
        ]
        for chosen in itertools.chain.from_iterable(itertools.combinations(flags, n) for n in range(len(flags) + 1)):
            token = "_".join((method, "headfix2", "nowin", *chosen))
            assert str(parse_pool(token)) == token
            layer = POOLS[method](4, 2, **parse_pool(token).options)
            assert layer.exp == ("noexp" not in chosen)
            assert (layer.attend.position is None) == ("nope" in (*chosen, method.removeprefix("nlp")))
            assert layer(torch.randn(2, 4, 6, 6)).shape == (2, 4, 3, 3)
            combinations += 1
    assert combinations == 4 * 32 + 16


def quietly(text: str, **fields: Any) -> ModelSpec:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of stages that are average pooling
        return parse(text, **fields)


@given(architectures())
def test_every_valid_string_comes_back(text: str) -> None:
    spec = quietly(text)
    assert str(spec) == text
    assert quietly(str(spec)) == spec
    assert spec.settings == {}


@given(
    architectures(),
    st.fixed_dictionaries(
        {},
        optional={
            "num_classes": st.integers(1, 1000),
            "in_channels": st.sampled_from([1, 3]),
            "dropout": st.floats(0, 0.9),
            "placement": st.sampled_from(["before", "after_first", "end"]),
            "input_size": st.tuples(st.integers(1, 512), st.integers(1, 512)),
        },
    ),
)
def test_every_valid_spec_comes_back_with_its_settings(text: str, fields: dict[str, Any]) -> None:
    spec = replace(quietly(text), **fields)
    assert quietly(str(spec), **spec.settings) == spec


@given(st.data())
@settings(max_examples=300)
def test_a_mangled_string_is_a_spec_error_or_valid(data: st.DataObject) -> None:
    text = data.draw(architectures())
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 4)))
        text = text[:start] + data.draw(st.text("-_0123dyskipnlp. \u0661é", max_size=4)) + text[end:]
    check_accepted_or_refused(text)


@given(st.text())
def test_any_text_is_a_spec_error_or_valid(text: str) -> None:
    check_accepted_or_refused(text)


def check_accepted_or_refused(text: str) -> None:
    try:
        spec = quietly(text)
    except SpecError as caught:
        refused = caught
    else:
        assert quietly(str(spec)) == spec
        return
    assert refused.token in text
    assert refused.position is not None
    assert text[refused.position :].startswith(refused.token)


@pytest.mark.parametrize("text", PUBLISHED)
def test_published_strings(text: str) -> None:
    assert str(parse(text)) == text


def test_a_parsed_spec_says_what_the_string_says() -> None:
    spec = parse("prepool-nlp_headfix2-4-dyresnet18-nlp_headfix8_nowin_reduced0211-1222", num_classes=10)
    assert spec == ModelSpec(
        "resnet18",
        PoolSpec("nlp", heads=8, window_norm=False, reduced=True, patches=(0, 2, 1, 1)),
        (1, 2, 2, 2),
        dynamic=True,
        prepool=PoolSpec("nlp", heads=2),
        prepool_stride=4,
        num_classes=10,
    )
    assert [pool and pool.options["patch_size"] for pool in spec.stage_pools()] == [None, 2, 1, 1]


@pytest.mark.parametrize(
    ("text", "heads", "patches"),
    [
        ("resnet50-nlp-2222", [4, 8, 16, 32], [1, 1, 1, 1]),
        ("resnet18-nlp_reduced_nowin-2222", [4, 8, 16, 32], [4, 2, 1, 1]),
        ("mobilenet-nlp_nowin_reduced-2222222", [2, 4, 8, 16, 32, 64, 128], [4, 4, 4, 2, 2, 1, 1]),
        ("mobilenet_v2-nlp_headfix2-2222222", [2] * 7, [1] * 7),
        ("mobilenetv3_small-nlp-22222222222", [2, 4, 8, 16, 32, 64, *[128] * 5], [1] * 11),
    ],
)
def test_published_heads_and_patches(text: str, heads: list[int], patches: list[int]) -> None:
    pools = [pool.options for pool in parse(text).stage_pools() if pool is not None]
    assert [pool["num_heads"] for pool in pools] == heads
    assert [pool["patch_size"] for pool in pools] == patches


@pytest.mark.parametrize(
    ("token", "options"),
    [
        ("nlp", {"num_heads": 8, "patch_size": 2, "embed_ratio": 1.0, "normalize": True}),
        ("nlp_headfix2_nowin", {"num_heads": 2, "patch_size": 2, "embed_ratio": 1.0, "normalize": False}),
        ("nlp_nowin_reduced", {"num_heads": 8, "patch_size": 4, "embed_ratio": 0.25, "normalize": False}),
        ("nlp_reduced2", {"num_heads": 8, "patch_size": 2, "embed_ratio": 0.25, "normalize": True}),
        ("lip", {}),
    ],
)
def test_published_prepools(token: str, options: dict[str, Any]) -> None:
    pool = parse(f"prepool-{token}-4-resnet18-skip-1222").stem_pool()
    assert pool is not None
    assert (pool.stride, pool.options) == (4, options)


def test_stages_that_are_average_pooling_warn() -> None:
    with pytest.warns(UserWarning, match="plain average pooling"):
        spec = parse("mobilenet_v2-nlp_headfix2_reduced-1222121")
    assert [pool and pool.is_average for pool in spec.stage_pools()] == [None, True, True, True, None, False, None]
    with pytest.warns(UserWarning, match="plain average pooling"):
        parse("prepool-nlp_reduced-4-mobilenet-skip-1222121")


@pytest.mark.parametrize(
    ("text", "token", "position", "says"),
    [
        ("", "", 0, "BACKBONE-POOL-STRIDES"),
        ("resnet18", "resnet18", 0, "has 1 parts"),
        ("resnet18-nlp-1222-1", "resnet18-nlp-1222-1", 0, "has 4 parts"),
        ("nope-nlp-1222", "nope", 0, "known: resnet18"),
        ("yolov3:resnet18-nlp-1222", "yolov3:resnet18-nlp-1222", 0, "is a detector's: attnpool detect train"),
        ("resnet19-nlp-1222", "resnet19", 0, "did you mean 'resnet18'"),
        ("dyresnet19-nlp-1222", "resnet19", 2, "did you mean 'resnet18'"),
        ("resnet18.nope-nlp-1222", "resnet18.nope", 0, "cannot be built by timm"),
        ("vit_tiny_patch16_224-nlp-1222", "vit_tiny_patch16_224", 0, "stages"),
        ("resnet18-nlq-1222", "nlq", 9, "did you mean 'nlp'"),
        ("resnet18-gaussian-1222", "gaussian", 9, "did you mean 'gaussian_pool'"),
        ("resnet18-nlp_hedfix2-1222", "hedfix2", 13, "did you mean 'headfixN'"),
        ("resnet18-nlp_headfix0-1222", "headfix0", 13, "not an option"),
        ("resnet18-nlp_headfix-1222", "headfix", 13, "not an option"),
        ("resnet18-nlp_nowin_nowin-1222", "nowin", 19, "given twice"),
        ("resnet18-nlp_-1222", "", 13, "not an option"),
        ("resnet18-maxp_headfix2-1222", "headfix2", 14, "it has none"),
        ("resnet18-nlp-122", "122", 13, "4 digits"),
        ("resnet18-nlp-1022", "1022", 13, "digits from 1 to 9"),
        ("resnet18-nlp-12\u06612", "12\u06612", 13, "digits from 1 to 9"),
        ("prepool-nlp-1-resnet18-nlp-1222", "1", 12, "2 to 99"),
        ("prepool-nlp-resnet18-nlp-1222", "prepool-nlp-resnet18-nlp-1222", 0, "has 5 parts"),
        ("prepool-nlp_reduced12-4-resnet18-nlp-1222", "nlp_reduced12", 8, "prepool has to be"),
        ("prepool-nlp_reduced0-4-resnet18-nlp-1222", "nlp_reduced0", 8, "prepool has to be"),
        ("resnet18-nlp_reduced12-1222", "nlp_reduced12", 9, "4 stages"),
        ("resnet18-nlp_noexp_noexp-1222", "noexp", 19, "given twice"),
        ("resnet18-gaussian_pool_CN_deterministic-1222", "deterministic", 26, "contradicts 'CN'"),
        ("resnet18-nlp_noexp_nosigmoid-1222", "nlp_noexp_nosigmoid", 9, "with nowin where neither"),
        ("resnet18-nlpnoexp_nosigmoid-1222", "nlpnoexp_nosigmoid", 9, "with nowin where neither"),
        ("resnet18-nlp_nobn3-1222", "nobn3", 13, "did you mean 'nobn2' or 'nobn1'"),
        ("resnet18-nlpnoexp_noexp-1222", "noexp", 18, "is not an option of 'nlpnoexp'"),
        ("resnet18-nlp_reduced0011-1222", "nlp_reduced0011", 9, "positive where"),
        ("mobilenetv1-nlp_reduced-12222", "nlp_reduced", 12, "followed by 5 digits"),
    ],
)
def test_a_wrong_string_says_what_where_and_what_would_be_right(
    text: str, token: str, position: int, says: str
) -> None:
    with pytest.raises(SpecError) as caught:
        parse(text)
    assert (caught.value.token, caught.value.position) == (token, position)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"num_classes": 2.5}, "num_classes has to be positive, but got 2.5"),
        ({"width": "1"}, "width has to be positive"),
        ({"input_size": 32}, "input_size has to be"),
        ({"strides": [1, 2, 2, 2, 1, 2, 1]}, "strides has to be a tuple"),
        ({"pool": "nlp"}, "pool has to be a PoolSpec"),
        ({"num_classes": 0}, "num_classes has to be positive, but got 0"),
        ({"in_channels": 2}, "in_channels has to be 1 or 3, but got 2"),
        ({"width": 0.0}, "width has to be positive"),
        ({"dropout": 1.0}, "dropout has to be at least 0 and below 1"),
        ({"placement": "after"}, "placement has to be one of before, after_first, end"),
        ({"input_size": (0, 32)}, "input_size has to be"),
        ({"patch_sizes": (1, 1)}, "patches has to be one for each of the 7 stages"),
        ({"patch_sizes": (1, 2, 1, 1, 1, 1, 1)}, "average pooling"),
        ({"prepool_stride": 4}, "prepool_stride has to be"),
    ],
)
def test_a_wrong_setting_says_what_would_be_right(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        parse("mobilenet_v2-nlp-1222121", **fields)


def test_a_backbone_of_one_width_says_so() -> None:
    with pytest.raises(SpecError, match=r"width has to be 1\.0, the one width of 'convnext_atto'"):
        parse("convnext_atto-nlp-1222", width=0.5)


def test_only_a_string_is_parsed() -> None:
    with pytest.raises(SpecError, match="has to be a string"):
        parse(18)  # type: ignore[arg-type]
