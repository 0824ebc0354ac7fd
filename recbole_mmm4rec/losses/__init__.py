"""Losses: the formulas, their chunked forms, and which one a run takes."""
