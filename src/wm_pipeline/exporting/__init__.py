"""What leaves the house: agents and dreams as ONNX files."""
