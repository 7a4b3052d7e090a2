"""Site acceptance: an operator's own recordings, judged camera by camera, on one sheet for the road agency to sign."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from adapters.errors import InputError
from monitor.cameras.stream import Source
from monitor.pipeline import Pipeline
from monitor.replay import SUFFIXES, is_clip, replay
from monitor.report import Album
from monitor.truth import read_truth, truth_of

SourceOf = Callable[[str, Path], Source]  # a camera's name and a recording of it -> how it is read
ProgressOf = Callable[[str], AbstractContextManager[Callable[[float], None]]]


def recordings_of(site: Path) -> dict[str, list[Path]]:
    """Return the recordings of each camera: those in the folder of its name.

    Raises:
        InputError: the folder has none, or one has no truth file: whether an animal passed must be said, not guessed.
    """
    if not site.is_dir():
        raise InputError(f"{site}: no such folder; expected a folder for each camera, with its recordings")
    folders = sorted(folder for folder in site.iterdir() if folder.is_dir())
    found = {folder.name: sorted(filter(is_clip, folder.iterdir())) for folder in folders}
    found = {camera: clips for camera, clips in found.items() if clips}
    if not found:
        raise InputError(f"{site}: expected a folder for each camera, with recordings ({', '.join(sorted(SUFFIXES))})")
    if silent := [clip for clips in found.values() for clip in clips if not truth_of(clip).exists()]:
        more = f" and {len(silent) - 1} more" if len(silent) > 1 else ""
        raise InputError(
            f"{silent[0]}{more}: no truth file {truth_of(silent[0]).name} beside it; "
            'one without animals has "events": []'
        )
    return found


def accept(
    recordings: Mapping[str, Sequence[Path]],
    build: Callable[[str], Pipeline],
    source_of: SourceOf,
    progress_of: ProgressOf,
) -> dict[str, list[Album]]:
    """Replay every recording as its camera, and return what came of each camera's.

    Args:
        recordings: of each camera.
        build: makes a fresh pipeline for a camera's name.
        source_of: how a camera's recording is read: with its rate, masks and times.
        progress_of: shows how far a recording is.

    Raises:
        InputError: a recording or a truth file can't be read; a sheet of a part would pass for the whole.
    """
    albums: dict[str, list[Album]] = {camera: [] for camera in recordings}
    for camera, clips in recordings.items():
        for clip in clips:
            album = Album(read_truth(truth_of(clip)))
            with progress_of(f"{camera}/{clip.name}") as progress:
                album.replayed = replay(source_of(camera, clip), build, watch=album.watch, progress=progress)
            albums[camera].append(album)
    return albums
