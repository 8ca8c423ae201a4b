"""Names of camera-style images: one file per image and camera, or the images that would share one are named."""
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchreid_nas.data.camstyle import CamstyleNames, FileStyler, camstyle_folder, camstyle_name
from torchreid_nas.data.camstyle.names import shared_camstyle_file
from torchreid_nas.errors import InputError

STEMS = st.sampled_from(["1", "0001", "a_fake_1", "a", "a_fake_1to2", "0002_c1s1_000451_03", "ä b"])
FOLDERS = st.sampled_from(["bounding_box_train", "train/0001", "train/0002", "train"])
ITEMS = st.lists(
    st.builds(
        lambda folder, stem, suffix, camid: (f"root/{folder}/{stem}{suffix}", 0, camid, 0),
        FOLDERS, STEMS, st.sampled_from([".jpg", ".png"]), st.integers(0, 3),
    ), min_size=1, max_size=8, unique=True,
)


def files(items, msmt17):
    """Every camera-style file of every image: (folder, name), with repetitions."""
    cameras = {item[2] for item in items}
    return Counter(
        (camstyle_folder(path), camstyle_name(path, own, new, msmt17))
        for path, _, own, _ in items for new in cameras - {own}
    )


@given(ITEMS, st.booleans())
def test_images_that_share_a_file_are_found_before_an_identity_gets_anothers(items, msmt17):
    shared = shared_camstyle_file(items, msmt17)
    twice = [place for place, count in files(items, msmt17).items() if count > 1]
    if twice:
        assert shared is not None and shared[2] > 1
    if shared:
        folder, stem, count = shared
        same = [item for item in items if camstyle_folder(item[0]) == folder and Path(item[0]).stem == stem]
        assert len(same) >= count > 1


@given(ITEMS, st.booleans())
def test_a_styler_takes_any_names_or_says_in_one_sentence_why_not(tmp_path_factory, items, msmt17):
    root = tmp_path_factory.getbasetemp()
    items = [(str(root / path), *rest) for path, *rest in items]
    with pytest.raises(InputError) as caught:
        FileStyler(items, [CamstyleNames(msmt17)])
    assert "\n" not in str(caught.value)
    assert any(part in str(caught.value) for part in ("does not exist", "would share a file", "at least 2 cameras"))


@given(STEMS, st.integers(0, 20), st.integers(0, 20))
def test_a_name_tells_image_and_cameras_counted_from_one(stem, own, new):
    assert camstyle_name(f"{stem}.png", own, new) == f"{stem}_fake_{own + 1}to{new + 1}.jpg"
    assert camstyle_name(f"{stem}.png", own, new, msmt17=True) == f"{stem}_fake_{new + 1}.jpg"
