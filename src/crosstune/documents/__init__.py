"""Documents in many formats to passages: read, cut by tokens with overlap, headings kept."""
