"""What a model is made of: layers in a graph, their arrays, and bound programs that run without Python."""
