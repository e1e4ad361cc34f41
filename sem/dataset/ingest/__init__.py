"""Files of others: read, unpacked, decoded, mapped, fetched."""
