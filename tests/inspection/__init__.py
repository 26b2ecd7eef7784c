"""Tests of the inspection of policies."""
