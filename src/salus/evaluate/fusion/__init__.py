"""The tasks on which fusion strategies are compared: one file each, found by entry point (`salus.fusion_tasks`)."""
