"""Pure signal functions: front ends, mixing, masks."""
