"""Watches: frames in, alerts out."""

VERSION = "0.1.0"
