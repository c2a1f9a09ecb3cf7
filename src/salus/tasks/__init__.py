"""Task plug-ins, one file each, found by entry point and imported by nobody."""
