"""How often a joint is found: PCK in its variants, added up over people and processes before anything is divided.

All of them are one `PCK`: the share of annotated joints whose error is at most a fraction of a reference length.
They differ in the reference, and in which joints they count, so never compare one with another.

    ==============  ==================================  ========  =============================================
    name            reference length                    fraction  joints
    ==============  ==================================  ========  =============================================
    the report's    a tenth of the heatmap's side       0.5       10: ankles, knees, hips, wrists, elbows
    PCKh            0.6 × the head box's diagonal       0.5       14: all but pelvis and thorax
    PCK of torso    left shoulder to right hip          0.2       all that are annotated
    ==============  ==================================  ========  =============================================
"""

import torch
from torchmetrics import Metric

from hgpose_utils.heatmaps import decode, to_heatmap_pixels
from hgpose_utils.skeleton import INDEX, JOINTS, PCKH_JOINTS, REPORT_JOINTS

ALL_JOINTS = tuple(range(len(JOINTS)))


class PCK(Metric):
    """Counts found joints over batches and processes. ``joints``: the numbers of those that are averaged."""

    full_state_update = False

    def __init__(self, joints=ALL_JOINTS, fraction: float = 0.5):
        super().__init__()
        self.joints, self.fraction = list(joints), fraction
        for name in ("found", "annotated"):
            self.add_state(name, torch.zeros(len(JOINTS), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, pred, truth, reference, annotated=None):
        """``pred``, ``truth`` [N, 16, 2]; ``reference`` [N] or a number, all in the same pixels; ``annotated`` [N, 16].

        Joints that are NaN in ``truth``, or of people with an unknown (NaN) reference, do not count.
        """
        pred, truth, reference = (torch.as_tensor(v, device=self.device) for v in (pred, truth, reference))
        reference = reference.expand(len(truth))[:, None]
        counts = ~(torch.isnan(truth).any(-1) | torch.isnan(reference))
        if annotated is not None:
            counts &= torch.as_tensor(annotated, device=self.device).bool()
        error = torch.linalg.vector_norm(pred.double() - truth.double(), dim=-1)
        self.found += (counts & (error <= self.fraction * reference)).sum(0)
        self.annotated += counts.sum(0)

    def per_joint(self) -> torch.Tensor:
        """[16] shares; NaN for a joint that was never annotated."""
        return self.found / self.annotated

    def compute(self) -> torch.Tensor:
        """The mean over the joints that were annotated at all."""
        return self.per_joint()[self.joints].nanmean()


class ReportPCK(PCK):
    """The report's accuracy, which is PyTorch-Pose's: computed on heatmaps, highest pixel against highest pixel."""

    def __init__(self):
        super().__init__(REPORT_JOINTS, 0.5)

    def update(self, heatmaps, targets, weights):
        """``heatmaps``, ``targets`` [B, 16, h, w]; ``weights`` [B, 16] as from `heatmaps.encode`."""
        pred, truth = (to_heatmap_pixels(decode(maps)[0]) for maps in (heatmaps, targets))
        super().update(pred, truth, torch.tensor(heatmaps.shape[-1] / 10), weights > 0)


class TorsoPCK(PCK):
    """PCK@0.2, LSP's usual metric: within a fifth of the distance from the left shoulder to the right hip."""

    def __init__(self):
        super().__init__(fraction=0.2)

    def update(self, pred, truth, annotated=None):
        truth = torch.as_tensor(truth)
        torso = truth[:, INDEX["l_shoulder"]] - truth[:, INDEX["r_hip"]]
        super().update(pred, truth, torch.linalg.vector_norm(torso, dim=-1), annotated)


def pck(pred, truth, reference, annotated=None, fraction: float = 0.5, joints=tuple(REPORT_JOINTS)) -> float:
    """Share of joints found, averaged over ``joints``. Shapes and units as in `PCK.update`."""
    metric = PCK(joints, fraction)
    metric.update(pred, truth, reference, annotated)
    return float(metric.compute())


def pckh(pred, truth, head_size, annotated=None, fraction: float = 0.5) -> float:
    """PCKh@0.5 (Andriluka et al. 2014): ``pred``, ``truth`` [N, 16, 2], ``head_size`` [N], ``annotated`` [N, 16]."""
    return pck(pred, truth, head_size, annotated, fraction, PCKH_JOINTS)
