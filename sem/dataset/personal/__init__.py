"""Personal data, kind by kind: found by label, shape and checksum."""
