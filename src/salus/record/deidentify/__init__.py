"""De-identification at intake: what is replaced, by which key, in which format, and the check that nothing was left."""
