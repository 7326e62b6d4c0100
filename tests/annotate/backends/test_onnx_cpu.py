from reelwright.annotate.backends.onnx_cpu import model_id


def test_a_model_id_names_network_and_content(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"weights")
    assert model_id("PP", tmp_path / "net.onnx").startswith("PP@")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "net.onnx").write_bytes(b"others")
    assert model_id("PP", tmp_path / "net.onnx") != model_id("PP", tmp_path / "b" / "net.onnx")
