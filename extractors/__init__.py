"""From seller text and pictures to attribute values, and from query text to demands."""
