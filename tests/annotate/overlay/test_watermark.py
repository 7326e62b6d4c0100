import cv2
import numpy as np
import pyarrow as pa
import pytest

from reelwright.annotate import annotate_clip, load
from reelwright.annotate.overlay.evidence.persistence import median
from reelwright.annotate.overlay.watermark import LEAST_FRAMES
from tests.annotate.synth import encode, moved, noisy, texture

HEIGHT, WIDTH, NUM = 360, 640, 24
Place = tuple[int, int]


@pytest.fixture(scope="module")
def footage() -> dict[str, list[np.ndarray]]:
    """A picture that a camera pans over, and the same picture still."""
    picture = cv2.GaussianBlur(texture(HEIGHT + 80, WIDTH + 400), (0, 0), 2)
    pan = moved(picture, 9.0 * (np.arange(NUM) - NUM / 2), 1.5 * (np.arange(NUM) - NUM / 2), HEIGHT, WIDTH)
    return {"pan": pan, "still": noisy([pan[0]] * NUM, 2)}


def marked(frames: list[np.ndarray], place: Place, opacity: float, word: str = "STOCKPIX") -> tuple[list, list[int]]:
    """Frames with a word in a frame drawn over them, and its box."""
    x, y = place
    layer = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    (w, h), _ = cv2.getTextSize(word, cv2.FONT_HERSHEY_DUPLEX, 0.7, 2)
    box = [x, y, w + 20, h + 20]
    cv2.rectangle(layer, (x + 1, y + 1), (x + w + 18, y + h + 18), (255, 255, 255), 2, cv2.LINE_AA)
    cv2.putText(layer, word, (x + 10, y + h + 10), cv2.FONT_HERSHEY_DUPLEX, 0.7, (255, 255, 255), 2, cv2.LINE_AA)
    alpha = opacity * layer.astype(np.float32) / 255
    return [(f * (1 - alpha) + 255 * alpha).astype(np.uint8) for f in frames], box


def watermark(frames: list[np.ndarray]) -> dict:
    columns, failures = annotate_clip(encode(frames, crf=26), [load("watermark")])
    assert not failures
    return columns


def iou(a: list[float], b: list[float]) -> float:
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    inter = max(0, w) * max(0, h)
    return inter / (a[2] * a[3] + b[2] * b[3] - inter)


@pytest.mark.parametrize(
    ("place", "opacity"), [((20, 16), 0.7), ((470, 300), 0.4), ((240, 160), 0.5), ((20, 300), 0.3)]
)
def test_a_mark_over_a_moving_picture_is_found(footage, place, opacity):
    frames, box = marked(footage["pan"], place, opacity)
    columns = watermark(frames)
    assert columns["watermark_score"] > 0.5
    assert iou(columns["watermark_box"], box) >= 0.5


@pytest.mark.parametrize("kind", ["pan", "still"])
def test_nothing_is_claimed_without_a_mark(footage, kind):
    assert watermark(footage[kind])["watermark_box"] is None


def test_lettering_that_belongs_to_the_scene_is_no_mark(footage):
    """A sign in a still picture stays too; one in a moving picture moves along."""
    still, _ = marked(footage["still"], (240, 160), 1)
    assert watermark(still)["watermark_box"] is None
    sign, _ = marked(footage["pan"][:1], (240, 160), 1)
    wide = cv2.copyMakeBorder(sign[0], 0, 0, 200, 200, cv2.BORDER_REFLECT)
    walk = moved(wide, 7.0 * (np.arange(NUM) - NUM / 2), np.zeros(NUM), HEIGHT, WIDTH)
    assert watermark(walk)["watermark_box"] is None


def test_a_still_corner_is_less_sure_than_a_moving_one(footage):
    moving, _ = marked(footage["pan"], (20, 16), 0.7)
    still, _ = marked(footage["still"], (20, 16), 0.7)
    assert 0 < watermark(still)["watermark_score"] < watermark(moving)["watermark_score"]


def test_the_score_rises_with_opacity(footage):
    drawn = [marked(footage["pan"], (470, 300), opacity)[0] for opacity in (0, 0.08, 0.5)]
    scores = [watermark(frames)["watermark_score"] for frames in drawn]
    assert scores[0] <= scores[1] <= scores[2]
    assert scores[2] > scores[0] + 0.5


def test_a_mirrored_mark_has_a_mirrored_box(footage):
    frames, box = marked(footage["pan"], (470, 300), 0.6, word="OXOXO")
    turned = watermark([f[:, ::-1] for f in frames])["watermark_box"]
    assert iou([WIDTH - turned[0] - turned[2], *turned[1:]], watermark(frames)["watermark_box"]) > 0.6
    assert iou(turned, [WIDTH - box[0] - box[2], *box[1:]]) >= 0.5


def test_a_subject_behind_the_mark_tells_it_from_a_still_scene(footage):
    frames = []
    for k, scene in enumerate(footage["still"]):
        frame = scene.copy()
        left = 30 * k - 60
        subject = footage["pan"][0][60:340, 100:360]
        shown = frame[60:340, max(0, left) : max(0, left + 260)]
        shown[:] = subject[:, max(0, -left) : max(0, -left) + shown.shape[1]]
        frames.append(frame)
    assert watermark(frames)["watermark_box"] is None
    over, box = marked(frames, (240, 170), 0.4)
    assert iou(watermark(over)["watermark_box"], box) >= 0.5


def test_a_change_of_exposure_is_no_change_of_the_picture(footage):
    """Over a lettered scene before which a subject passes, it has been taken for a moving camera."""
    scene, _ = marked(footage["still"], (240, 160), 1)
    frames = []
    for k, picture in enumerate(scene):
        frame = picture.copy()
        frame[80:300, 16 * k : 16 * k + 120] = footage["pan"][0][80:300, 400:520]
        gain, offset = (0.5, 1.7, 1.0)[k // 4 % 3], (0, 20, -15, 5)[k % 4]
        frames.append(np.clip(frame.astype(np.float32) * gain + offset, 0, 255).astype(np.uint8))
    assert watermark(frames)["watermark_box"] is None


def test_the_centre_of_a_zoom_is_no_mark(footage):
    """A sign about which the camera zooms keeps its place while all around it moves."""
    sign, box = marked(footage["pan"][:1], (240, 150), 1, word="MUSEUM")
    centre = box[0] + box[2] / 2, box[1] + box[3] / 2
    warps = [cv2.getRotationMatrix2D(centre, 0, scale) for scale in np.linspace(1, 1.2, NUM)]
    zoomed = [cv2.warpAffine(sign[0], w, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT) for w in warps]
    assert watermark(zoomed)["watermark_box"] is None
    plain = [cv2.warpAffine(footage["pan"][0], w, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT) for w in warps]
    over, true = marked(plain, (240, 150), 0.7, word="MUSEUM")
    assert iou(watermark(over)["watermark_box"], true) >= 0.5


def test_a_speck_of_the_scene_is_no_mark_when_a_subject_passes():
    """A plain road with a bright spot, a detailed subject goes by beside it."""
    road = np.full((HEIGHT, WIDTH, 3), 110, np.uint8)
    cv2.circle(road, (60, 250), 9, (230, 230, 230), -1, cv2.LINE_AA)
    subject = texture(160, 120, seed=3)
    frames = []
    for k in range(NUM):
        frame = road.copy()
        top = 200 - 16 * k
        shown = frame[max(0, top) : max(0, top + 160), 260:380]
        shown[:] = subject[160 - shown.shape[0] :]
        frames.append(frame)
    assert watermark(noisy(frames, 2))["watermark_box"] is None


def test_the_box_is_in_pixels_of_the_clip(footage):
    frames, box = marked(footage["pan"], (470, 300), 0.6)
    double = [cv2.resize(f, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC) for f in frames[::2]]
    columns = watermark(double)
    assert iou(columns["watermark_box"], [2 * v for v in box]) >= 0.5
    assert pa.scalar(columns["watermark_box"], load("watermark").columns["watermark_box"].type).is_valid


def test_a_subtitle_is_no_mark(footage):
    frames = [f.copy() for f in footage["pan"]]
    for frame in frames:
        for colour, thickness in (((0, 0, 0), 6), ((255, 255, 255), 2)):
            at = (110, 335)
            cv2.putText(frame, "We should have left earlier today", at, 2, 0.8, colour, thickness, cv2.LINE_AA)
    assert watermark(frames)["watermark_box"] is None


def test_too_few_frames_say_nothing(footage):
    frames, _ = marked(footage["pan"], (20, 16), 0.7)
    columns = watermark(frames[: LEAST_FRAMES - 1])
    assert (columns["watermark_score"], columns["watermark_box"]) == (0, None)


@pytest.mark.parametrize("count", [1, 2, 5, 6, 13, 16])
def test_the_sorting_network_gives_the_median(count):
    frames = np.random.default_rng(count).integers(0, 256, (count, 7, 9), dtype=np.uint8)
    np.testing.assert_array_equal(median(frames), np.sort(frames, axis=0)[count // 2])


def test_a_threshold_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"claim_from = 0"):
        load("watermark", {"claim_from": 0})
