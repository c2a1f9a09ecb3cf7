"""Writers of records in the formats of others."""
