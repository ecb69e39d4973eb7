"""The core of a model: layers in a graph, their arrays, and bound programs that run without Python."""
