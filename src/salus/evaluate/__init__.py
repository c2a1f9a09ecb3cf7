"""Tasks scored with intervals and calibration."""
