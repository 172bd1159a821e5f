"""Measurements: scripts to run from a checkout, and what they share. No part of the installed package."""
