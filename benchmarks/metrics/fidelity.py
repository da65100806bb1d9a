"""torch-fidelity's Frechet distance, kernel distance, precision and recall on features that are given, for comparison.

The features pass through a registered extractor that returns its input, so that no Inception weights are needed. The
cache is off: it is keyed by a name the caller gives, and a second set of features under the first one's name would
silently score as the first. Of its kernel distance only the mean over subsets is returned: what it prints as "std" is
the spread over random overlapping subsets, which is not a standard error and must not be shown as one.
"""

from __future__ import annotations

from functools import cache

from torch import Tensor

EXTRACTOR = "given-features"
LAYER = "given"


@cache
def _registered() -> str:
    """Registers the extractor with torch-fidelity, once per process, and returns its name."""
    from torch_fidelity import FeatureExtractorBase, register_feature_extractor

    class Given(FeatureExtractorBase):
        """Returns what it is given, in the given precision."""

        def __init__(self, name, features_list, **kwargs):
            super().__init__(name, features_list)

        @staticmethod
        def get_provided_features_list():
            return (LAYER,)

        @staticmethod
        def get_default_feature_layer_for_metric(metric):
            return LAYER

        def forward(self, rows):
            return (rows,)

    register_feature_extractor(EXTRACTOR, Given)
    return EXTRACTOR


def scores(
    generated: Tensor, reference: Tensor, *, subsets: int = 1, subset_size: int | None = None
) -> dict[str, float]:
    """frechet (plug-in), kid, precision, recall of features [n,d] and [m,d], float64.

    subset_size: of the kernel distance; by default all rows (n = m), where the unbiased estimate needs no subsets.
    """
    import torch_fidelity
    from torch.utils.data import Dataset

    class Rows(Dataset):
        def __init__(self, rows: Tensor):
            self.rows = rows

        def __len__(self) -> int:
            return len(self.rows)

        def __getitem__(self, index: int) -> Tensor:
            return self.rows[index]

    found = torch_fidelity.calculate_metrics(
        input1=Rows(generated), input2=Rows(reference), fid=True, kid=True, prc=True, feature_extractor=_registered(),
        kid_subsets=subsets, kid_subset_size=subset_size or len(generated), batch_size=len(generated),
        cache=False, cuda=False, save_cpu_ram=True, verbose=False,
    )  # fmt: skip
    return {
        "frechet": found["frechet_inception_distance"],
        "kid": found["kernel_inception_distance_mean"],
        "precision": found["precision"],
        "recall": found["recall"],
    }
