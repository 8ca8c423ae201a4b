"""Which gallery images a query does not rank."""
import numpy as np
import pytest

from torchreid_nas.metrics import PROTOCOLS
from torchreid_nas.metrics.skipping import skipped_images


@pytest.mark.parametrize("name", [name for name, protocol in PROTOCOLS.items() if not protocol.transposed])
def test_the_nearest_image_that_is_not_skipped_gives_rank_1(name):
    protocol, generator = PROTOCOLS[name], np.random.default_rng(7)
    pids, cameras = 5, min(protocol.num_cameras or 6, 6)
    labels = [generator.integers(0, high, size) for size, high in ((40, pids), (60, pids), (40, cameras), (60, cameras))]
    q_pids, g_pids, q_camids, g_camids = labels
    distances = generator.random((40, 60))
    result = protocol.evaluate(distances, q_pids, g_pids, q_camids, g_camids)
    nearest = np.where(skipped_images(protocol, *labels), np.inf, distances).argmin(axis=1)
    valid = result.queries.valid
    assert result.queries.score("rank1")[valid].tolist() == (g_pids[nearest] == q_pids)[valid].tolist()
