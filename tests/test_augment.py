import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hgpose_utils.augment import Jitter, draw_jitter, no_jitter, warp
from hgpose_utils.skeleton import FLIP


def jitter(angle=0.0, scale=1.0, flip=False):
    return Jitter(
        *(np.array([v]) for v in (np.float32(np.deg2rad(angle)), np.float32(scale), flip)), np.ones((1, 3), "f4")
    )


def dots(joints, side=192):
    """A crop for each joint, with one blurred bright dot there, and the joints."""
    y, x = np.mgrid[:side, :side]
    pictures = [255 * np.exp(-((x - u) ** 2 + (y - v) ** 2) / 18) for u, v in joints]
    return torch.from_numpy(np.stack(pictures)).round().byte()[:, None].expand(-1, 3, -1, -1)


@given(st.floats(-30, 30), st.floats(0.75, 1.25), st.booleans())
@settings(max_examples=20, deadline=None)
def test_joints_land_where_the_picture_does(angle, scale, flip):
    joints = np.random.default_rng(0).uniform(60, 132, (16, 2))
    points = torch.from_numpy(joints).float()[None]
    for joint, picture in enumerate(dots(joints)[:4]):
        image, moved = warp(picture[None], points, jitter(angle, scale, flip), 128)
        bright = (image[0, 0] + 0.5).double()
        y, x = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
        seen = torch.stack([(x * bright).sum(), (y * bright).sum()]) / bright.sum()
        expected = moved[0, FLIP[joint] if flip else joint]
        if ((expected > 12) & (expected < 116)).all():
            assert torch.allclose(seen.float(), expected, atol=0.1)


def test_without_jitter_the_middle_of_the_crop_comes_back_unchanged(crops):
    images, joints = warp(crops.images([0]), torch.from_numpy(crops.joints[:1]).float(), no_jitter(1), 64)
    assert torch.allclose(images + 0.5, crops.images([0])[..., 16:80, 16:80] / 255, atol=1e-5)
    assert np.allclose(joints[0], crops.joints[0] - 16, atol=1e-4, equal_nan=True)


def test_mirroring_twice_is_the_identity(crops):
    points = torch.from_numpy(crops.joints[:1]).float()
    once, mirrored = warp(crops.images([0]), points, jitter(flip=True), 96)
    plain, unchanged = warp(crops.images([0]), points, jitter(), 96)
    assert torch.allclose(once.flip(-1), plain, atol=1e-5)
    back = mirrored[:, FLIP]
    back[..., 0] = 95 - back[..., 0]
    assert torch.allclose(back, unchanged, atol=1e-3, equal_nan=True)


def test_a_persons_jitter_depends_on_seed_and_epoch_alone():
    few, many = draw_jitter(5, 1, 2), draw_jitter(50, 1, 2)
    assert all(np.array_equal(a, b[:5]) for a, b in zip(few, many, strict=True))
    for other in (draw_jitter(5, 1, 3), draw_jitter(5, 2, 2)):
        assert not np.array_equal(few.angle, other.angle)


def test_jitter_stays_in_the_reports_ranges():
    drawn = draw_jitter(20_000, 0, 0)
    degrees = np.rad2deg(drawn.angle)
    assert -30 <= degrees.min() < -29 and 29 < degrees.max() <= 30
    assert 0.75 <= drawn.scale.min() < 0.76 and 1.24 < drawn.scale.max() <= 1.25
    assert drawn.flip.mean() == pytest.approx(0.5, abs=0.02)
