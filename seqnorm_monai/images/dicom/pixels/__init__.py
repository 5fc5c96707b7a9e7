"""The bytes of a frame to values: JPEG, JPEG-LS, JPEG 2000, RLE, colour, palettes, lookup tables."""
