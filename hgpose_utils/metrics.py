"""How often a joint is found: PCK in its variants, added up over people and processes before anything is divided.

All of them are one `PCK`: the share of annotated joints whose error is at most a fraction of a reference length.
They differ in the reference, and in which joints they count, so never compare one with another.

    =========  ==================  ==================================  ========  ====================================
    name       metric              reference length                    fraction  joints
    =========  ==================  ==================================  ========  ====================================
    pck        the report's PCK    a tenth of the heatmap's side       0.5       10: ankles, knees, hips, wrists,
                                                                                 elbows
    pck_torso  PCK@0.2 of torso    left shoulder to right hip          0.2       all that are annotated
    pckh       PCKh@0.5            0.6 × the head box's diagonal       0.5       14: all but pelvis and thorax
    pckh_0.1   PCKh@0.1            the same                            0.1       the same
    pckh_auc   AUC of PCKh         the same                            0 … 0.5   the same
    =========  ==================  ==================================  ========  ====================================

Each has two averages. `PCK.compute` is the mean of the joints' shares, as PyTorch-Pose's accuracy has it; `PCK.total`
is the share of all joints of all people, which MPII's own evaluation (and so every paper) prints as PCKh's "Total".
They are equal where every joint is annotated equally often.

Sources: PCK, Yang and Ramanan 2013, and its reference the torso, Sapp and Taskar 2013; PCKh, Andriluka et al. 2014,
and MPII's evaluatePCKh.m; the report's, PyTorch-Pose's ``accuracy``.
"""

import numpy as np
import torch
from torchmetrics import Metric

from hgpose_utils.heatmaps import decode, nearest_pixel, to_heatmap_pixels
from hgpose_utils.skeleton import FLIP, INDEX, JOINTS, PCKH_JOINTS, REPORT_JOINTS

ALL_JOINTS = tuple(range(len(JOINTS)))


class PCK(Metric):
    """Counts found joints over batches and processes. ``joints``: the numbers of those that are averaged."""

    full_state_update = False

    def __init__(self, joints=ALL_JOINTS, fraction: float = 0.5):
        super().__init__()
        self.joints = list(joints)
        self.fraction = torch.as_tensor(fraction, dtype=torch.float64)
        self.add_state(
            "found", torch.zeros(*self.fraction.shape, len(JOINTS), dtype=torch.float64), dist_reduce_fx="sum"
        )
        self.add_state("annotated", torch.zeros(len(JOINTS), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, pred, truth, reference, annotated=None):
        """``pred``, ``truth`` [N, 16, 2]; ``reference`` [N] or a number, all in the same pixels; ``annotated`` [N, 16].

        Joints that are NaN in ``truth``, or of people with an unknown (NaN) reference, do not count.
        """
        pred, truth, reference = (_double(values, self.device) for values in (pred, truth, reference))
        reference = reference.expand(len(truth))[:, None]
        counts = ~(torch.isnan(truth).any(-1) | torch.isnan(reference))
        if annotated is not None:
            counts &= torch.as_tensor(annotated, device=self.device).bool()
        error = torch.linalg.vector_norm(pred - truth, dim=-1)
        allowed = self.fraction.to(self.device)[..., None, None] * reference
        self.found += (counts & (error <= allowed)).sum(-2)
        self.annotated += counts.sum(0)

    def per_joint(self) -> torch.Tensor:
        """[16] scores; NaN for a joint that was never annotated."""
        return self.score(self.found, self.annotated)

    def compute(self) -> torch.Tensor:
        """The mean over the joints that were annotated at all."""
        return self.per_joint()[self.joints].nanmean()

    def total(self) -> torch.Tensor:
        """All joints of all people in one share, as MPII's "Total": a joint counts as often as it was annotated."""
        return self.score(self.found[..., self.joints].sum(-1), self.annotated[self.joints].sum())

    def score(self, found, annotated) -> torch.Tensor:
        """From the counts to what the metric is."""
        return found / annotated


def _double(values, device) -> torch.Tensor:
    """Float64; arrays are copied, because pandas gives out read-only ones, of which torch would warn."""
    return torch.as_tensor(values if torch.is_tensor(values) else np.array(values), device=device).double()


class PCKhAUC(PCK):
    """The area under PCKh's curve from fraction 0 to 0.5, as a share of the whole area (1: no error at all).

    As MPII's evaluatePCKh.m: PCKh at 0, 0.01, …, 0.5, joined by straight lines.
    """

    def __init__(self):
        super().__init__(PCKH_JOINTS, [hundredths / 100 for hundredths in range(51)])

    def score(self, found, annotated) -> torch.Tensor:
        """The mean height of the curve."""
        return torch.trapezoid(found / annotated, dx=1 / (len(found) - 1), dim=0)


class ReportPCK(PCK):
    """The report's accuracy, which is PyTorch-Pose's: computed on heatmaps, highest pixel against highest pixel."""

    def __init__(self):
        super().__init__(REPORT_JOINTS, 0.5)

    def update(self, heatmaps, targets, weights):
        """``heatmaps``, ``targets`` [B, 16, h, w]; ``weights`` [B, 16] as from `heatmaps.encode`."""
        pred, truth = (to_heatmap_pixels(decode(maps)[0]) for maps in (heatmaps, targets))
        super().update(pred, truth, heatmaps.shape[-1] / 10, weights > 0)


class TorsoPCK(PCK):
    """PCK@0.2, LSP's usual metric: within a fifth of the distance from the left shoulder to the right hip."""

    def __init__(self):
        super().__init__(fraction=0.2)

    def update(self, pred, truth, annotated=None):
        """``pred``, ``truth`` [N, 16, 2]; ``annotated`` [N, 16]. People without those two joints do not count."""
        truth = torch.as_tensor(truth)
        torso = truth[:, INDEX["l_shoulder"]] - truth[:, INDEX["r_hip"]]
        super().update(pred, truth, torch.linalg.vector_norm(torso, dim=-1), annotated)


def score_people(pred, truth, head_size, size: int) -> dict[str, PCK]:
    """Every metric of the table above over N people, those left out that count nobody.

    ``pred``, ``truth`` [N, 16, 2] and ``head_size`` [N], NaN where unknown, in pixels of the network's input, which is
    ``size`` pixels wide: a tenth of it is the report's reference. The report's is defined for highest pixels, so its
    truth is that of the target's: a quarter pixel's offset in ``pred`` helps the other metrics, but not this one.
    """
    truth = torch.as_tensor(truth)
    scores = {
        "pck": PCK(REPORT_JOINTS, 0.5),
        "pck_torso": TorsoPCK(),
        "pckh": PCK(PCKH_JOINTS, 0.5),
        "pckh_0.1": PCK(PCKH_JOINTS, 0.1),
        "pckh_auc": PCKhAUC(),
    }
    scores["pck"].update(pred, nearest_pixel(truth, size), size / 10)
    scores["pck_torso"].update(pred, truth)
    for name in ("pckh", "pckh_0.1", "pckh_auc"):
        scores[name].update(pred, truth, head_size)
    return {name: metric for name, metric in scores.items() if metric.annotated.sum()}


def pck(pred, truth, reference, annotated=None, fraction: float = 0.5, joints=tuple(REPORT_JOINTS)) -> float:
    """Share of joints found, averaged over ``joints``. Shapes and units as in `PCK.update`."""
    metric = PCK(joints, fraction)
    metric.update(pred, truth, reference, annotated)
    return float(metric.compute())


def pckh(pred, truth, head_size, annotated=None, fraction: float = 0.5) -> float:
    """PCKh@0.5 (Andriluka et al. 2014): ``pred``, ``truth`` [N, 16, 2], ``head_size`` [N], ``annotated`` [N, 16]."""
    return pck(pred, truth, head_size, annotated, fraction, PCKH_JOINTS)


def swapped(pred, truth, reference, fraction: float = 0.5) -> np.ndarray:
    """[N, 16] bool: joints that are not found, but lie where the same joint of the other side is. Units as in `PCK`."""
    pred, truth = np.asarray(pred, float), np.asarray(truth, float)
    limit = fraction * np.broadcast_to(reference, len(truth))[:, None]
    away = [np.linalg.norm(pred - place, axis=-1) <= limit for place in (truth, truth[:, FLIP])]
    return ~away[0] & away[1] & ~np.isnan(truth).any(-1)
