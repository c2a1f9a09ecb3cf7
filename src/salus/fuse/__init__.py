"""Many modalities to one token sequence; missing ones marked, never zero-filled."""
