"""Modalities on one unit sphere: what belongs together lies close, so that one can be searched by the other, and by words."""
