"""A trained model outside PyTorch: its towers as ONNX, its item side as a FAISS index."""
