"""An RTSP server for the tests: rtsp_server.py PORT {"/path": {"launch": ..., "password": ...}, ...}.

Run by the system's Python, which has GStreamer's bindings. A line `/path ELEMENT PROPERTY VALUE` on standard input
sets a property of a running pipeline.
"""

import json
import sys
import threading

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(sys.argv[1])
pipelines = {}


def add(path, launch, password=None):
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(f"( {launch} )")
    factory.set_shared(path != "/camera")  # the clip is played to each client from its start
    factory.connect("media-configure", lambda _, media: pipelines.__setitem__(path, media.get_element()))
    if password is not None:
        protect(factory, password)
    server.get_mount_points().add_factory(path, factory)


def protect(factory, password):
    auth, token = GstRtspServer.RTSPAuth(), GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "user")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic("user", password), token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_permission_for_role("user", "media.factory.access", True)  # noqa: FBT003
    permissions.add_permission_for_role("user", "media.factory.construct", True)  # noqa: FBT003
    factory.set_permissions(permissions)


def obey():
    for line in sys.stdin:
        path, element, name, value = line.strip().split(" ", 3)
        Gst.util_set_object_arg(pipelines[path].get_by_name(element), name, value)


for path, made in json.loads(sys.argv[2]).items():
    add(path, **made)
threading.Thread(target=obey, daemon=True).start()
server.attach(None)
GLib.MainLoop().run()
