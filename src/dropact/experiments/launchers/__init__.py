"""Runs trained by other processes: of this machine (`local`), or of a Ray cluster (`ray_cluster`)."""
