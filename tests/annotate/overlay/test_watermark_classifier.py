import numpy as np
import pytest
import torch

from reelwright.annotate import annotate_clip, annotate_clips, load
from reelwright.annotate.backends.classifier import Classifier, ImageClassifier
from reelwright.annotate.errors import AnnotatorError
from reelwright.curation.media.frames import sample
from tests.annotate.checkpoints_clip import classifier_folder  # noqa: F401
from tests.annotate.synth import encode, texture


@pytest.fixture(scope="module")
def expect(classifier_folder):  # noqa: F811
    """transformers' own classes on the frames of a clip: probabilities [T, classes]."""
    from transformers import ViTForImageClassification, ViTImageProcessorPil

    kinds = (ViTForImageClassification, ViTImageProcessorPil)
    model, processor = (kind.from_pretrained(classifier_folder) for kind in kinds)

    def of(frames):
        with torch.no_grad():
            return model(**processor(images=list(frames), return_tensors="pt")).logits.softmax(-1).numpy()

    return of


@pytest.mark.parametrize(("label", "column"), [("watermark", 1), ("unsure", 2)])
def test_it_is_the_mean_probability_of_the_named_class(classifier_folder, expect, label, column):  # noqa: F811
    which = {"model": str(classifier_folder), "label": label, "batch": 2}
    annotator = load("watermark_classifier", {"classifier": which, "frames": 5})
    mp4 = encode([texture(72, 128, seed=k) for k in range(7)])
    columns, failures = annotate_clip(mp4, [annotator])
    assert not failures
    probabilities = expect(sample(mp4, [annotator.needs])[0])
    assert probabilities[:, column].std() > 0.002  # the frames differ, so that a mean is one
    assert columns["watermark_classifier_score"] == pytest.approx(probabilities[:, column].mean(), abs=1e-5)


def test_clips_of_a_batch_do_not_mix(classifier_folder):  # noqa: F811
    annotator = load("watermark_classifier", {"classifier": {"model": str(classifier_folder)}})
    clips = [encode([texture(72, 128, seed=k)] * n) for k, n in enumerate((2, 6, 1))]
    together = [columns["watermark_classifier_score"] for columns, _ in annotate_clips(clips, [annotator])]
    alone = [annotate_clip(clip, [annotator])[0]["watermark_classifier_score"] for clip in clips]
    assert together == pytest.approx(alone, abs=1e-5)
    assert np.ptp(together) > 0.002


def test_classes_that_do_not_exclude_each_other_have_probabilities_of_their_own(classifier_folder, tmp_path):  # noqa: F811
    import shutil

    from transformers import ViTForImageClassification

    several = shutil.copytree(classifier_folder, tmp_path / "several")
    config = (several / "config.json").read_text().replace("{", '{"problem_type": "multi_label_classification",', 1)
    (several / "config.json").write_text(config)
    frame = texture(32, 32)
    model = ViTForImageClassification.from_pretrained(several)
    pixels = torch.from_numpy(frame.copy()).permute(2, 0, 1)[None] / 127.5 - 1
    expected = model(pixels).logits.sigmoid()[0, 1].item()
    assert Classifier(ImageClassifier(str(several)))([frame])[0] == pytest.approx(expected, abs=1e-5)


def test_what_is_wrong_is_one_sentence(classifier_folder, tmp_path):  # noqa: F811
    frame = texture(32, 32)
    with pytest.raises(AnnotatorError, match=r"no image classifier is named; set classifier\.model"):
        Classifier(ImageClassifier())([frame])
    with pytest.raises(AnnotatorError, match=r"label = 'logo' is no class of .*it has 'clean', 'watermark', 'unsure'"):
        Classifier(ImageClassifier(str(classifier_folder), label="logo"))([frame])
    with pytest.raises(AnnotatorError, match=r"holds no config\.json; set classifier\.model"):
        Classifier(ImageClassifier(str(tmp_path)))([frame])


def test_the_checkpoint_is_in_the_fingerprint():
    named = [load("watermark_classifier", {"classifier": c}) for c in ({}, {"model": "a/b"}, {"model": "a/c"})]
    assert len({a.fingerprint for a in named}) == 3
    assert named[1].models == ("a/b@main",)
