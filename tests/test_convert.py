"""A PyTorch-Pose `hg` checkpoint, built here by names and shapes, gives the same heatmaps through our network."""

import pytest
import torch
import torch.nn.functional as F

from hgpose_utils.convert import from_pytorch_pose
from hgpose_utils.files import HgposeError
from hgpose_utils.models import build_model

STACKS, DEPTH, C = 2, 4, 32


def peer_weights(seed=0):
    """Names and shapes as PyTorch-Pose writes them, random values."""
    random, weights = torch.Generator().manual_seed(seed), {}

    def conv(name, cin, cout, kernel=1):
        weights[f"{name}.weight"] = torch.randn(cout, cin, kernel, kernel, generator=random) / (cin * kernel**2) ** 0.5
        weights[f"{name}.bias"] = torch.randn(cout, generator=random) / 10

    def norm(name, channels):
        for kind in ("weight", "bias", "running_mean", "running_var"):
            weights[f"{name}.{kind}"] = torch.rand(channels, generator=random) + 0.5
        weights[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def unit(name, cin, cout):
        norm(f"{name}.bn1", cin), conv(f"{name}.conv1", cin, cout // 2)
        norm(f"{name}.bn2", cout // 2), conv(f"{name}.conv2", cout // 2, cout // 2, 3)
        norm(f"{name}.bn3", cout // 2), conv(f"{name}.conv3", cout // 2, cout)
        if cin != cout:
            conv(f"{name}.downsample.0", cin, cout)

    conv("conv1", 3, 64, 7), norm("bn1", 64)
    unit("layer1.0", 64, C // 2), unit("layer2.0", C // 2, C), unit("layer3.0", C, C)
    for i in range(STACKS):
        for level in range(DEPTH):
            for position in range(4 if level == 0 else 3):
                unit(f"hg.{i}.hg.{level}.{position}.0", C, C)
        unit(f"res.{i}.0", C, C)
        conv(f"fc.{i}.0", C, C), norm(f"fc.{i}.1", C), conv(f"score.{i}", C, 16)
        if i < STACKS - 1:
            conv(f"fc_.{i}", C, C), conv(f"score_.{i}", 16, C)
    return weights


def peer_forward(w, x):
    """What that network computes, in evaluation mode, written down anew."""

    def conv(name, x, **options):
        return F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], **options)

    def norm_relu(name, x):
        mean, var, scale, shift = (w[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        return F.relu(F.batch_norm(x, mean, var, scale, shift))

    def unit(name, x):
        y = conv(f"{name}.conv1", norm_relu(f"{name}.bn1", x))
        y = conv(f"{name}.conv2", norm_relu(f"{name}.bn2", y), padding=1)
        y = conv(f"{name}.conv3", norm_relu(f"{name}.bn3", y))
        return y + (conv(f"{name}.downsample.0", x) if f"{name}.downsample.0.weight" in w else x)

    def hourglass(name, n, x):
        skip = unit(f"{name}.{n - 1}.0.0", x)
        low = unit(f"{name}.{n - 1}.1.0", F.max_pool2d(x, 2))
        low = hourglass(name, n - 1, low) if n > 1 else unit(f"{name}.0.3.0", low)
        return skip + F.interpolate(unit(f"{name}.{n - 1}.2.0", low), scale_factor=2)

    x = unit("layer1.0", norm_relu("bn1", conv("conv1", x, stride=2, padding=3)))
    x = unit("layer3.0", unit("layer2.0", F.max_pool2d(x, 2)))
    out = []
    for i in range(STACKS):
        y = unit(f"res.{i}.0", hourglass(f"hg.{i}.hg", DEPTH, x))
        y = norm_relu(f"fc.{i}.1", conv(f"fc.{i}.0", y))
        out.append(conv(f"score.{i}", y))
        if i < STACKS - 1:
            x = x + conv(f"fc_.{i}", y) + conv(f"score_.{i}", out[-1])
    return out


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_peers_weights_give_the_peers_heatmaps(prefix):
    weights = peer_weights()
    model = build_model("hg", STACKS, channels=C).eval()
    model.load_state_dict(from_pytorch_pose({prefix + name: tensor for name, tensor in weights.items()}))
    images = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        for ours, theirs in zip(model(images), peer_forward(weights, images), strict=True):
            assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4 * theirs.abs().max())


@pytest.mark.parametrize("name", ["fc.weight", "layer1.0.conv4.weight", "layer1.1.conv1.weight"])
def test_another_networks_weights_are_named(name):
    with pytest.raises(HgposeError, match=name):
        from_pytorch_pose({name: torch.zeros(1)})
