"""Learns: pictures in, classes out."""
