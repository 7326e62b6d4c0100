import numpy as np

from reelwright.annotate.backends.onnx_cpu import NEGLIGIBLE, _fields, model_id, open_session, without_denormals
from reelwright.annotate.backends.text_detector import _model_path
from tests.annotate.synth import texture


def test_negligible_weights_are_zeroed_in_place_and_nothing_else_changes():
    model = _model_path().read_bytes()
    before, after = np.frombuffer(model, np.uint8), np.frombuffer(without_denormals(model), np.uint8)
    assert len(before) == len(after)
    changed = before != after
    assert changed.any()
    assert (after[changed] == 0).all()
    graph = next(_fields(bytearray(model), 0, len(model), 7))
    assert changed[: graph[0]].sum() == changed[graph[1] :].sum() == 0
    assert without_denormals(after.tobytes()) == after.tobytes()
    assert NEGLIGIBLE < 1e-12


def test_the_output_keeps_every_bit():
    import onnxruntime

    path = _model_path()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    raw = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    clean = open_session(path)
    picture = texture(128, 256).transpose(2, 0, 1)[None].astype(np.float32) / 127.5 - 1
    name = clean.get_inputs()[0].name
    np.testing.assert_array_equal(clean.run(None, {name: picture})[0], raw.run(None, {name: picture})[0])


def test_a_model_id_names_file_and_content(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"weights")
    assert model_id(tmp_path / "net.onnx").startswith("net@")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "net.onnx").write_bytes(b"others")
    assert model_id(tmp_path / "net.onnx") != model_id(tmp_path / "b" / "net.onnx")
