"""The kinds of findings, one row each: name, severity, sentence, way out. The table's order is the report's, worst first."""
from __future__ import annotations

__all__ = ["KINDS", "Kind", "Severity"]

import enum
from dataclasses import dataclass


class Severity(enum.IntEnum):
    """How bad a finding is; the number of the worst one is the exit code of ``torchreid-nas doctor``."""

    NOTE = 0
    WARNING = 1
    ERROR = 2


@dataclass(frozen=True)
class Kind:
    """What a finding says.

    Attributes:
        name: in JSON.
        severity: an error makes figures wrong or stops a training; a warning makes figures worse or hard to compare.
        title: in few words, for headings.
        says: the sentence; fields in braces are the words of the finding.
        way_out: what to do, likewise.
    """

    name: str
    severity: Severity
    title: str
    says: str
    way_out: str


_NOTE, _WARNING, _ERROR = Severity

_ROWS = (
    # -- errors: figures are wrong, or a training stops ------------------------
    Kind(
        "incomplete", _ERROR, "Incomplete copy", "{missing} of {expected} {what} are missing{names}.",
        "Unpack the data set again from {source}. Figures of this copy do not compare with published ones.",
    ),
    Kind(
        "shared_person", _ERROR, "Persons on both sides", "{persons} of the training part {verb} in the test part too: {names}.",
        "Remove these persons from one part. The network has seen them, so the figures are too high.",
    ),
    Kind(
        "shared_file", _ERROR, "Files in training and test", "{files} {verb} listed both for training and for test.",
        "Remove these files from one part. The network has seen them, so the figures are too high.",
    ),
    Kind(
        "leaked_image", _ERROR, "Test images in training", "{images} of the test part {verb} in the training part too, {how}.",
        "Remove these images from one part. The network has seen them, so the figures are too high.",
    ),
    Kind(
        "nothing_scored", _ERROR, "No query can be scored", "None of the {total} queries can be scored: {reason}.",
        "Give a gallery that shows the persons of the queries{apart}.",
    ),
    Kind(
        "swapped_modalities", _ERROR, "Modalities swapped",
        "The visible part is grey and the infrared part is coloured: {visible} visible and {infrared} infrared images disagree.",
        "Exchange the two folders, or the words in the list.",
    ),
    Kind(
        "colour_in_infrared", _ERROR, "Coloured images in the infrared part",
        "{images} of the infrared part {verb} coloured, where infrared images are grey.",
        "Move these images to the visible part, or restore the files.",
    ),
    Kind(
        "listed_missing", _ERROR, "Listed files that are missing", "{files} in {index} {verb} not on the disk.",
        "Unpack the data set again, or restore the list.",
    ),
    Kind(
        "bad_line", _ERROR, "Lines of lists that cannot be read", "{lines} of {index} cannot be read: {example}.",
        "Restore the list.",
    ),
    Kind(
        "list_disagrees", _ERROR, "Lists that disagree", "{what}.", "Restore the list.",
    ),
    Kind(
        "empty_file", _ERROR, "Empty files", "{files} {verb} empty.", "Restore the files, or unpack the data set again.",
    ),
    Kind(
        "truncated", _ERROR, "Truncated images", "{images} {verb} broken off in the middle: {example}.",
        "Restore the files, or unpack the data set again. A training stops at the first one.",
    ),
    Kind(
        "unreadable", _ERROR, "Files that cannot be read as images", "{files} cannot be read: {example}.",
        "Restore the files, change their permissions, or leave them out. A training stops at the first one.",
    ),
    Kind(
        "deep", _ERROR, "Images beyond 8 bits", "{images} {verb} more than 8 bits per value: {example}.",
        "Save these images again with the values that matter scaled to 8 bits, 0 to 255. A training stops at the first one.",
    ),
    Kind(
        "two_labels", _ERROR, "One picture, two persons", "{images} are copies of an image of another person, {how}: {names}.",
        "Look at each group and keep the right label. A network cannot learn both.",
    ),
    Kind(
        "camera_range", _ERROR, "Camera numbers out of range",
        "{images} {verb} a camera number that {name} does not have: {names}.",
        "Rename the files, or restore the list. Cameras of {name}: {expected}.",
    ),
    Kind(
        "person_range", _ERROR, "Person numbers out of range",
        "{images} {verb} a person number that {name} does not have: {names}.",
        "Rename the files, or restore the list. Persons of {name}: {expected}.",
    ),
    Kind(
        "bad_name", _ERROR, "Images with names that cannot be read",
        "{images} {verb} a name that tells no person or camera: {example}.",
        "Rename these images, or move them elsewhere.",
    ),
    # -- warnings: figures become worse, or hard to compare ---------------------
    Kind(
        "near_leak", _WARNING, "Near-copies across training and test",
        "{images} of the test part {verb} like an image of the training part, but for size, compression or brightness.",
        "Look at the pairs, and remove copies from one part.",
    ),
    Kind(
        "near_two_labels", _WARNING, "Near-copies with two persons", "{images} {verb} like an image of another person: {names}.",
        "Look at each pair and keep the right label.",
    ),
    Kind(
        "two_are_one", _WARNING, "Two persons who may be one", "{pairs} of persons look alike to {model}: {names}.",
        "Look at the pictures. Give both the same label where they show one person. "
        "Unlikeness is 0 as of one person, 1 as of two.",
    ),
    Kind(
        "one_is_two", _WARNING, "A person who may be two", "The images of {persons} fall into two groups for {model}: {names}.",
        "Look at the pictures. Give the second group a label of its own where it shows somebody else. "
        "Unlikeness is 0 as of one person, 1 as of two.",
    ),
    Kind(
        "surplus", _WARNING, "More than a complete copy", "There are {over} more {what} than the {expected} of a complete copy.",
        "Leave nothing but the data set's own files in its folder. Figures of other files do not compare with published ones.",
    ),
    Kind(
        "no_match", _WARNING, "Queries without a match", "{queries} of {total} cannot be scored: {reason}.",
        "Add images of these persons to the gallery{apart}, or remove the queries. Scores leave these queries out.",
    ),
    Kind(
        "unpaired", _WARNING, "Persons with one modality",
        "{persons} of the training part {verb} images of one modality only: {names}.",
        "Add the other modality, or leave these persons out of a cross-modality training.",
    ),
    Kind(
        "grey_in_visible", _WARNING, "Grey images in the visible part",
        "{images} of the visible part {verb} without colour, as infrared images are.",
        "Look at the images. Move those that are infrared to the infrared part.",
    ),
    Kind(
        "turned", _WARNING, "Images that the file says to turn",
        "{images} {verb} an EXIF orientation: viewers turn them, a training of torchreid does not.",
        "Save these images upright, for example with: mogrify -auto-orient FILE.",
    ),
    Kind(
        "wide", _WARNING, "Images wider than high", "{images} {verb} wider than high, where the others are upright.",
        "Turn the images, or cut the persons out of whole scenes.",
    ),
    Kind(
        "constant", _WARNING, "Images of one colour", "{images} {verb} the same value everywhere.",
        "Remove these images, or restore the files.",
    ),
    Kind(
        "one_bit", _WARNING, "Images of 1 bit", "{images} {verb} 1 bit per value, black and white alone.",
        "Get the images with 8 bits.",
    ),
    Kind(
        "huge", _WARNING, "Huge images", "{images} {verb} more than {limit}: {example}.",
        "Cut the persons out or shrink the images. Decoding them takes most of the time of an epoch.",
    ),
    Kind(
        "tiny", _WARNING, "Tiny images", "{images} {verb} less than {limit}: {example}.",
        "Remove these images. Nothing of a person is left in them.",
    ),
    Kind(
        "dark_or_bright", _WARNING, "Exposure unlike the camera's",
        "{images} {verb} far darker or brighter than the others of the camera.",
        "Look at the images, and remove those that show nothing.",
    ),
    Kind(
        "blurred", _WARNING, "Sharpness unlike the camera's", "{images} {verb} far less sharp than the others of the camera.",
        "Look at the images, and remove those that show nothing.",
    ),
    Kind(
        "duplicate", _WARNING, "Copies within a part",
        "{images} {verb} copies of another image of the same person and part, {how}.",
        "Remove the copies. They weigh their person more, and a query may find its own copy.",
    ),
    Kind(
        "query_in_gallery", _WARNING, "Queries that are in the gallery",
        "{images} of the query part {verb} in the gallery too, {how}.",
        "Remove the copies from the gallery, unless the protocol skips them.",
    ),
    Kind(
        "not_listed", _WARNING, "Images that no list names", "{files} on the disk {verb} in no list, the first: {example}.",
        "Restore the lists, or move the images elsewhere.",
    ),
    Kind(
        "one_image", _WARNING, "Persons with one training image",
        "{persons} of the training part {verb} a single image: {names}.",
        "Add images, or leave these persons out. A triplet needs two images of a person.",
    ),
    Kind(
        "one_camera", _WARNING, "Persons in one camera",
        "{persons} of the training part {verb} seen by one camera only: {names}.",
        "Add images of other cameras. The network cannot learn from these persons how cameras differ.",
    ),
    # -- notes ----------------------------------------------------------------
    Kind(
        "many_images", _NOTE, "Persons with far more images than others",
        "{persons} of the training part {verb} more than {times} times as many images as the median, {median}: {names}.",
        "Nothing, where batches draw persons and not images; otherwise thin these persons out.",
    ),
    Kind(
        "rare_camera", _NOTE, "Cameras with few images", "{cameras} {verb} less than {share} of all images: {names}.",
        "Nothing, where few images are meant; figures say little about these cameras.",
    ),
    Kind(
        "near_duplicate", _NOTE, "Near-copies of one person",
        "{images} {verb} like another image of the same person, as frames of a video do.",
        "Nothing, where the images come from a video; otherwise keep every tenth.",
    ),
    Kind(
        "other_files", _NOTE, "Other files", "{files} {verb} no images, the first: {example}.",
        "Nothing; the files are passed over.",
    ),
)

KINDS: dict[str, Kind] = {kind.name: kind for kind in _ROWS}
"""Kinds by name, the worst first."""
