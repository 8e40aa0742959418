"""Pruning: what is tied together goes together; what is left computes what it did and is a checkpoint as any other."""

import json
import random
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import attnpool
from attnpool.cli import main
from attnpool.jobs.evaluate import evaluate
from attnpool.jobs.predict import predict
from attnpool.jobs.profile import profile_
from attnpool.jobs.prune import PruneResult, early_layers, prune
from attnpool.jobs.train import train
from attnpool.models.build import build, create_model
from attnpool.models.channels import keep_, numbers_of, resize_
from attnpool.models.checkpoint import Description, load, read_description, save
from attnpool.models.couplings import Coupling, Member, find_couplings
from attnpool.models.prune import prune_channels
from attnpool.models.removal import check_removal, without
from attnpool.pools._attention import SelfAttention
from attnpool.pools._position import PositionTable
from attnpool.pools.gaussian_pool import GaussianPool2d
from attnpool.registry import POOLS
from attnpool.spec import SpecError, parse

SIZE = (48, 48)
NETWORKS: dict[str, dict[str, Any]] = {
    **{f"resnet18-{name}-1222": {} for name in POOLS},
    "mobilenet-nlp_headfix2-1222121": {},
    "mobilenet_v2-nlp_headfix2_nowin_reduced-1222121": {},
    "mobilenetv3_small-nlp_headfix2-22111211111": {},
    "mobilenetv1-dfmixp_headfix4-12222": {},
    "resnet50-nlp-1222": {},
    "resnext50-lip-1222": {"width": 1.0},
    "dyresnet18-nlp_headfix2-1222": {},
    "dymobilenet_v2-maxp-1222121": {},
    "prepool-nlp_headfix2-4-resnet18-skip-1222": {},
    "prepool-nlp_headfix2_nowin_reduced-2-mobilenet-rnnpool_hidden8-1222121": {},
    "resnet18-avgp-1222": {"attention": "after:layer1.1,replace:layer2.1:8"},
    "efficientnet_b0-skip-1222222": {"width": 1.0},
}
every_network = pytest.mark.parametrize(("architecture", "settings"), NETWORKS.items())


def make(architecture: str, **settings: Any) -> Any:
    return create_model(architecture, **{"num_classes": 5, "width": 0.25, **settings}).eval()


def image(net: Any, count: int = 2, size: tuple[int, int] = SIZE) -> Tensor:
    return torch.randn(count, net.spec.in_channels, *size)


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def shapes(net: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in net.state_dict().items()}


@every_network
def test_a_pruned_network_is_that_of_its_spec_and_trains_saves_and_loads(
    architecture: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    net = make(architecture, **settings)
    found = prune_channels(net, 0.5, input_size=SIZE)
    small = found.net
    assert count(small) < 0.5 * count(net)
    assert parse(str(small.spec), **small.spec.settings) == small.spec != net.spec
    with torch.device("meta"):
        assert shapes(build(small.spec)) == shapes(small)
    assert not any("unseen" in why or "other" in why for why in found.left.values())
    for module in small.modules():
        if isinstance(module, SelfAttention):
            assert module.qkv.out_features % (3 * module.num_heads) == 0
    save(small, Description(small.spec, tuple("abcde"), {}), tmp_path)
    loaded: Any = load(tmp_path)
    x = image(small)
    assert loaded.spec == small.spec
    assert torch.equal(loaded(x), small(x))
    small.train()(image(small, 4)).square().mean().backward()
    reached = {name for name, p in small.named_parameters() if p.grad is not None}
    net.train()(image(net, 4)).square().mean().backward()
    assert reached == {name for name, p in net.named_parameters() if p.grad is not None}


def lively(net: nn.Module) -> None:
    """No parameter or statistic at its start, where many of them do nothing."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            assert isinstance(module.running_mean, Tensor)
            assert isinstance(module.running_var, Tensor)
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
        if isinstance(module, GaussianPool2d):
            module.eps = 0.0  # or else a channel of zeros has a spread
    for parameter in net.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)


def draw(coupling: Coupling) -> list[int]:
    """Half of the channels of every block, at random."""
    size = coupling.size // coupling.blocks
    return [b * size + i for b in range(coupling.blocks) for i in random.sample(range(size), size // 2)]


@torch.no_grad()
def silence(net: nn.Module, coupling: Coupling, channels: list[int]) -> None:
    """Zeros for all that writes or scales the channels."""
    for member in coupling.members:
        gone = [i for i, root in zip(member.indices, member.roots, strict=True) if root in channels]
        module: Any = net.get_submodule(member.path)
        if member.side == "in":
            continue
        if isinstance(module, PositionTable):
            half = module.col.shape[1]
            module.col[:, [i for i in gone if i < half]] = 0
            module.row[:, [i - half for i in gone if i >= half]] = 0
        elif isinstance(module, attnpool.DynamicConv2d):
            module.weight.view(4, module.out_channels, -1)[:, gone] = 0
            if module.bias is not None:
                module.bias[:, gone] = 0
        else:
            for parameter in module.parameters(recurse=False):
                parameter[gone] = 0


@every_network
@torch.no_grad()
def test_channels_that_carry_nothing_can_go_and_the_outputs_stay(architecture: str, settings: dict[str, Any]) -> None:
    net = make(architecture, **settings)
    random.seed(0)
    lively(net)
    removal = [(c, draw(c)) for c in find_couplings(net, SIZE) if c.writers and not c.fixed]
    for coupling, channels in removal:
        silence(net, coupling, channels)
    small = without(net, removal)
    for module in small.modules():
        if isinstance(module, GaussianPool2d):
            module.eps = 0.0
    x = image(net)
    expected = net(x)
    assert count(small) < 0.5 * count(net)
    assert expected.std() > 0.002
    assert (small(x) - expected).abs().max() < 1e-4 * expected.abs().max()


@torch.no_grad()
def test_the_coarser_grid_of_keys_is_cut_with_its_tokens() -> None:
    net = make("resnet18-nlp_kv2_headfix2-1222")
    small: Any = prune_channels(net, 0.5, input_size=SIZE).net
    context = small.layer2.pool.attend.context
    assert numbers_of(context.conv)[:2] == (16, 16)
    assert numbers_of(context.norm) == (16,)


def test_the_lightest_channels_go() -> None:
    net = make("resnet18-maxp-1222")
    with torch.no_grad():
        net.layer1[0].conv1.weight[3] = 0
        net.layer1[0].conv1.weight[5] *= 2
        net.layer1[0].bn1.bias.copy_(torch.arange(16))
    small: Any = prune_channels(net, 0.25, input_size=SIZE).net
    left = small.layer1[0].bn1.bias.tolist()
    assert len(left) == 12
    assert 3.0 not in left
    assert 5.0 in left


@pytest.mark.parametrize(
    ("ratio", "round_to", "width"), [(0.5, 4, 16), (0.3, 4, 24), (0.3, 8, 24), (0.9, 8, 8), (0.3, 1, 22)]
)
def test_what_stays_is_the_nearest_multiple(ratio: float, round_to: int, width: int) -> None:
    small: Any = prune_channels(make("resnet18-maxp-1222"), ratio, round_to=round_to, input_size=SIZE).net
    assert small.layer2[0].conv1.out_channels == width
    assert small.fc.out_features == 5
    assert small.conv1.in_channels == 3


def test_a_pruned_network_can_be_pruned_again_also_where_a_group_has_one_channel_left() -> None:
    torch.manual_seed(3)  # rounding of float32 grew to 9 % of the outputs here, through fifty norms of few values
    net = make("resnext50-maxp-1222", width=1.0)
    once: Any = prune_channels(net, 0.75, input_size=SIZE).net
    assert numbers_of(once.layer1[0].conv2) == (32, 32, 32)
    twice: Any = prune_channels(once, 0.5, input_size=SIZE).net
    assert count(twice) < 0.5 * count(once)
    assert shapes(build(twice.spec)) == shapes(twice)
    twice(image(twice))


def test_stage_features_have_the_channels_that_are_left() -> None:
    small: Any = prune_channels(make("resnet18-nlp-1222"), 0.5, input_size=SIZE).net
    features: Any = create_model(small.spec, features_only=True)
    assert features.channels == [m.shape[1] for m in features(image(small))] == [8, 16, 32, 64]


def test_fused_attention_of_a_pruned_network_computes_the_same() -> None:
    small: Any = prune_channels(make("resnet18-nlp-1222"), 0.5, input_size=SIZE, where=lambda p: p.endswith("qkv")).net
    x = image(small)
    expected = small(x)
    attnpool.fuse_(small, input_size=SIZE)
    assert (small(x) - expected).abs().max() < 1e-4 * expected.abs().max()


def test_early_leaves_later_layers_alone_apart_from_what_they_read() -> None:
    net = make("mobilenet_v2-nlp_headfix2-1222121")
    early = early_layers(net, SIZE)
    assert {"conv_stem", "blocks.1.0.conv_pw"} <= early
    assert not {path for path in early if path.startswith("blocks.3")}
    small: Any = prune_channels(net, 0.5, input_size=SIZE, where=lambda path: path in early).net
    changed = {path for path, *_ in small.spec.channels}
    assert {"conv_stem", "bn1", "blocks.1.0.conv_pw"} <= changed
    for path, module in net.named_modules():
        numbers = numbers_of(module)
        outputs = numbers[1:2] or numbers
        if path.startswith(("blocks.3", "blocks.4", "blocks.5", "blocks.6", "conv_head", "classifier")):
            assert path not in changed or numbers_of(small.get_submodule(path))[1:2] == outputs
    assert not [path for path in changed if path.startswith(("blocks.4", "blocks.5", "blocks.6"))]


class Shuffled(nn.Module):
    """Mixes channels in a way that a graph of operations does not show."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flip(1)


def test_a_layer_that_mixes_channels_unseen_is_refused() -> None:
    net = make("resnet18-maxp-1222")
    couplings = [c for c in find_couplings(net, SIZE) if c.writers == ["layer2.0.conv1"]]
    removal = [(c, draw(c)) for c in couplings]
    assert len(removal) == 1
    check_removal(net, removal, SIZE)
    net.layer2[0].act1 = Shuffled()
    with pytest.raises(ValueError, match="mixes channels"):
        check_removal(net, removal, SIZE)


def test_an_unknown_kind_of_layer_keeps_its_channels_and_is_named() -> None:
    class Scaled(nn.Conv2d):
        pass

    net = make("resnet18-maxp-1222")
    net.layer2[0].conv2 = Scaled(32, 32, 3, padding=1, bias=False)
    found = prune_channels(net, 0.5, input_size=SIZE)
    assert found.left["layer2.0.conv1"] == "layer2.0.conv2 has to keep its channels"
    assert "layer2.1.conv2" in found.left
    assert found.net.layer2[0].conv1.out_channels == 32


@pytest.mark.parametrize("network", ["cspresnet50-skip-1222", "res2net50_26w_4s-skip-1222"])
def test_networks_whose_channels_are_split_are_refused(network: str) -> None:
    with pytest.raises(ValueError, match=f"{network} cannot be pruned"):
        prune_channels(make(network, width=1.0), 0.5, input_size=SIZE)


def test_groups_of_a_convolution_keep_equal_numbers() -> None:
    conv = nn.Conv2d(8, 4, 1, groups=2)
    with pytest.raises(ValueError, match="equal numbers"):
        keep_(conv, [0, 1, 4], [0, 2])
    x = torch.randn(1, 8, 3, 3)
    x[:, [0, 3, 4, 5]] = 0
    expected = conv(x)[:, [1, 2]]
    keep_(conv, [1, 2, 6, 7], [1, 2])
    assert torch.allclose(conv(x[:, [1, 2, 6, 7]]), expected, atol=1e-6)


@pytest.mark.parametrize("ratio", [0.0, 1.0, 1.5, -1.0])
def test_a_ratio_has_to_leave_something_and_remove_something(ratio: float) -> None:
    with pytest.raises(ValueError, match=f"ratio has to be above 0 and below 1, but got {ratio}"):
        prune_channels(make("resnet18-maxp-1222"), ratio)


def test_nothing_to_remove_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"leave something to remove, but 0\.5 and 999"):
        prune_channels(make("resnet18-maxp-1222"), round_to=999, input_size=SIZE)
    with pytest.raises(ValueError, match="round_to has to be a positive integer, but got 0"):
        prune_channels(make("resnet18-maxp-1222"), round_to=0)


@pytest.mark.parametrize(
    ("channels", "says"),
    [
        ("fc 5", "channels has to be"),
        ([["fc"]], "channels has to be"),
        ([["fc", 0, 5]], "positive numbers"),
        ([["fc", 1.5, 5]], "positive numbers"),
        ([["bn1", 8], ["bn1", 4]], "one entry for each module"),
        ([["layer1.0.conv3", 8, 8, 1]], r"did you mean 'layer1.0.conv\d'"),
        ([["bn1", 8, 8]], r"channels of 'bn1' have to be 1 numbers up to \(16,\), but got \(8, 8\)"),
        ([["bn1", 32]], "up to"),
        ([["bn1", 8]], "channels have to fit together"),
        ([["conv1", 3, 16, 2]], "channels of 'conv1' have to be"),
        ([["conv1", 3, 0, 1]], "positive numbers"),
    ],
)
def test_channels_that_no_network_has_are_refused(channels: Any, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        make("resnet18-maxp-1222", channels=channels)


def test_channels_survive_json_and_are_written_in_one_way() -> None:
    small: Any = prune_channels(make("resnet18-maxp-1222"), 0.5, input_size=SIZE).net
    again = replace(small.spec, channels=json.loads(json.dumps(small.spec.channels))[::-1])
    assert again == small.spec
    assert hash(again) == hash(small.spec)


def test_pretrained_weights_are_not_those_of_a_pruned_network() -> None:
    with pytest.raises(SpecError, match="pretrained"):
        build(replace(parse("resnet18-maxp-1222"), channels=(("bn1", 8),)), pretrained=True)


def test_resizing_names_what_is_wrong() -> None:
    net = nn.Sequential(nn.Conv2d(8, 8, 1, groups=4))
    with pytest.raises(SpecError, match="channels of '0' cannot be"):
        resize_(net, (("0", 2, 4, 4),))


def test_members_name_a_module_of_the_network() -> None:
    net = make("dyresnet18-dfmixp_headfix2-1222", attention="after:layer1.1")
    members: list[Member] = [m for c in find_couplings(net, SIZE) for m in c.members]
    modules = dict(net.named_modules())
    sides = {(m.path, m.side) for m in members}
    assert {m.path for m in members} <= modules.keys()
    assert {("layer2.pool", "both"), ("layer2.pool.offset", "in"), ("layer2.pool.attend.embed.mask", "in")} <= sides
    assert {("layer1.attention.conv_point", "in"), ("conv1.attention.fc1", "in")} - sides == {
        ("conv1.attention.fc1", "in")
    }


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny network trained for an epoch on the embedded data, a part of it."""
    output = tmp_path_factory.mktemp("runs") / "tiny"
    options: dict[str, Any] = {"accelerator": "cpu", "progress": False, "workers": 0, "seed": 3, "val_fraction": 0.2}
    train("resnet18-nlp_headfix2-1222", output=str(output), width=0.125, epochs=1, batch_size=128, **options)
    return output


def run(checkpoint: Path, output: Path | None, **options: Any) -> PruneResult:
    fixed: dict[str, Any] = {"accelerator": "cpu", "progress": False, "workers": 0, "batch_size": 128}
    return prune(str(checkpoint), output=None if output is None else str(output), **{**fixed, **options})


def test_a_checkpoint_is_pruned_trained_on_and_taken_by_every_command(checkpoint: Path, tmp_path: Path) -> None:
    kept = {file.name: file.read_bytes() for file in checkpoint.iterdir() if file.is_file()}
    output, state = tmp_path / "pruned", torch.get_rng_state()
    result = run(checkpoint, output, finetune_epochs=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.are_deterministic_algorithms_enabled()
    assert result.finetuned is not None
    assert result.before.accuracy == read_description(checkpoint).metrics["test_accuracy"]
    assert result.finetuned.accuracy > result.pruned.accuracy + 0.1
    for measure in ("params", "macs", "peak", "in_out", "largest"):
        assert getattr(result.finetuned, measure) == getattr(result.pruned, measure) < getattr(result.before, measure)
    about = read_description(output)
    assert about.spec.channels
    assert about.metrics["test_accuracy"] == result.finetuned.accuracy
    assert about.training["pruned"]["ratio"] == 0.5
    assert json.loads((output / "results.json").read_text())["before"]["macs"] == result.before.macs
    assert evaluate(str(output), progress=False, accelerator="cpu").report.top1 == result.finetuned.accuracy
    assert evaluate(str(output / "last"), progress=False, accelerator="cpu").report.images == 2000
    (cost,) = profile_(str(output), latency=False).profiles
    assert (cost.params, cost.macs, cost.memory.peak) == (
        result.finetuned.params,
        result.finetuned.macs,
        result.finetuned.peak,
    )
    assert cost.training is not None
    picture = tmp_path / "grey.png"
    Image.new("L", (32, 32), 99).save(picture)
    assert len(predict(str(output), [str(picture)]).images) == 1
    again = run(output, tmp_path / "again", finetune_epochs=0)
    assert again.pruned.params < result.pruned.params
    assert {file.name: file.read_bytes() for file in checkpoint.iterdir() if file.is_file()} == kept


def test_without_training_the_default_folder_stands_beside_the_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    mine = shutil.copytree(checkpoint, tmp_path / "mine")
    result = run(mine, None, finetune_epochs=0, where="early")
    assert result.output == str(tmp_path / "mine-pruned")
    assert result.pruned.peak < result.before.peak
    assert (result.finetuned, result.history) == (None, [])
    assert load(result.output).spec.channels
    with pytest.raises(FileExistsError, match="--overwrite"):
        run(mine, None, finetune_epochs=0)
    run(mine, None, finetune_epochs=0, overwrite=True)


@pytest.mark.parametrize("where", [".", "..", "last/..", "last"])
def test_the_checkpoint_is_never_overwritten(checkpoint: Path, where: str) -> None:
    source = checkpoint / "last" if where == ".." else checkpoint
    with pytest.raises(ValueError, match="output has to be another folder"):
        run(source, source / where if where != "last" else checkpoint, overwrite=True, finetune_epochs=0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"ratio": 0.0}, "ratio has to be"),
        ({"ratio": 1.0}, "ratio has to be"),
        ({"ratio": 1.5}, "ratio has to be"),
        ({"finetune_epochs": -1}, "finetune_epochs has to be at least 0"),
        ({"lr": 0.0}, "lr has to be"),
        ({"round_to": 999}, "something to remove"),
        ({"data": "nope"}, "unknown data source"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_bad_arguments_are_named_before_anything_is_written(
    checkpoint: Path, tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        run(checkpoint, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_without_torch_pruning_the_extra_is_named(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    words = ["prune", str(checkpoint), "--output", str(tmp_path / "out"), "--accelerator", "cpu", "--no-progress"]
    assert main(words) == 2
    assert "pip install attnpool[prune]" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
