"""A centre that gives sites their releases, for tests."""

from __future__ import annotations

import functools
import hashlib
import http.server
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adapters.class_file import write_classes
from adapters.class_set import ClassSetStore
from adapters.classes import ClassAttributes
from adapters.classifier import Classifier
from adapters.crops import LabelledCrop
from adapters.runtime import MODELS, SHIPPED, write_manifest
from adapters.starter import hand_on
from adapters.teaching import teach
from monitor.fleet.releases import Releases
from monitor.fleet.updates import Updates


class PowerCut(BaseException):
    """The end of a program at this very place."""


def key(folder: Path, name: str) -> Path:
    path = folder / f"{name}.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(path)], check=True)
    return path


class Centre:
    """A folder of releases behind a real web server."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.key = folder / "releases", key(folder, "releases")
        self.releases = Releases.create(self.folder, key(folder, "root"), self.key)
        self.root_file = shutil.copy(self.folder / "metadata/1.root.json", folder / "root.json")
        self._web = ExitStack()
        self.url = self._web.enter_context(served(self.folder))
        self.close = self._web.close

    def updates(self, state: Path) -> Updates:
        return Updates(self.url, Path(self.root_file), state)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder by a real web server."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def altered_model(folder: Path, name: str) -> Path:
    """Copy the shipped model, and give its encoders another hash by a field of metadata, which computes nothing."""
    shutil.copytree(MODELS, folder)
    entry = b"\x0a\x04name\x12" + bytes([len(name)]) + name.encode()  # onnx.proto3: StringStringEntryProto
    for graph in folder.glob("encode*.onnx"):
        graph.write_bytes(graph.read_bytes() + b"\x72" + bytes([len(entry)]) + entry)  # ModelProto.metadata_props
    encoder = f"sha256:{hashlib.sha256((folder / 'encode.onnx').read_bytes()).hexdigest()}"
    hand_on(MODELS, folder, encoder)
    write_manifest(folder, SHIPPED)
    return folder


def class_file(folder: Path, name: str, crop: NDArray[np.uint8], classifier: Classifier) -> Path:
    """Make a class-set file of one animal, as another site would."""
    path = folder / f"{name}.classes"
    with closing(ClassSetStore(folder / f"maker-{name}")) as store:
        attributes = ClassAttributes(name=name, size="large", origin="wild")
        crops = [LabelledCrop(crop), LabelledCrop(crop[4:-4, 4:-4].copy())]
        teach(store, classifier, attributes, ["a", "b"], crops)
        write_classes(path, store.kept(classifier, [name]), {}, classifier.encoder_hash)
    return path
