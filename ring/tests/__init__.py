"""Tests of the Ring library: against a real HTTP server on loopback, without Django."""
