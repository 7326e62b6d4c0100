"""How a clip is filmed and made, in field terms: the vocabularies of `cinematography` and of the camera's motions.

A term is the value stored in the column. `UNCLEAR` is in every vocabulary, so that a model is never forced to guess.
"""

from __future__ import annotations

from collections.abc import Mapping

from reelwright.annotate.chat.vocabulary import Term

UNCLEAR = "unclear"


_UNCLEAR = {UNCLEAR: Term("it cannot be told, or no other term applies")}

VOCABULARIES: Mapping[str, Mapping[str, Term]] = {
    "shot_size": {
        "extreme_wide": Term("the place dominates; people are tiny or absent", "extreme wide shot", "大远景"),
        "wide": Term("the whole subject with much of its surroundings", "wide shot", "远景"),
        "full": Term("the subject from head to foot fills the height of the frame", "full shot", "全景"),
        "medium_wide": Term("a person from about the knees up", "medium wide shot", "中远景"),
        "medium": Term("a person from about the waist up", "medium shot", "中景"),
        "medium_close_up": Term("a person from about the chest up", "medium close-up", "中近景"),
        "close_up": Term("a face, a hand or one object fills the frame", "close-up", "特写"),
        "extreme_close_up": Term("a detail, such as an eye or a texture, fills it", "extreme close-up", "大特写"),
        **_UNCLEAR,
    },
    "lens_type": {
        "fisheye": Term("straight lines bulge strongly outwards", "fisheye lens", "鱼眼镜头"),
        "wide_angle": Term("wide field of view; near things loom, depth looks stretched", "wide-angle lens",
                           "广角镜头"),
        "standard": Term("perspective as the eye sees it, without visible distortion", "standard lens", "标准镜头"),
        "telephoto": Term("narrow field of view; depth looks flattened, background blurred", "telephoto lens",
                          "长焦镜头"),
        "macro": Term("tiny things large, in a very thin plane of focus", "macro lens", "微距镜头"),
        "tilt_shift": Term("a band of sharpness makes the scene look like a miniature", "tilt-shift lens", "移轴镜头"),
        **_UNCLEAR,
    },
    "camera_angle": {
        "eye_level": Term("level with the subject's eyes or middle", "eye-level angle", "平视角度"),
        "low_angle": Term("from below, looking up at the subject", "low angle", "仰视角度"),
        "high_angle": Term("from above, looking down at the subject", "high angle", "俯视角度"),
        "overhead": Term("straight down from above, from near", "overhead angle", "顶视角度"),
        "aerial": Term("from high in the air, as from a drone or aircraft", "aerial view", "航拍视角"),
        "ground_level": Term("the camera stands on or just above the ground", "ground-level angle", "贴地视角"),
        "dutch": Term("the horizon is tilted on purpose", "Dutch angle", "倾斜角度"),
        "over_the_shoulder": Term("past the shoulder of a person in front", "over-the-shoulder view", "过肩视角"),
        "point_of_view": Term("through a person's own eyes, such as with their hands seen", "point-of-view shot",
                              "第一人称视角"),
        **_UNCLEAR,
    },
    "visual_style": {
        "realistic": Term("live action: real things filmed by a camera", "realistic live-action style", "写实风格"),
        "2d_anime": Term("drawn in the style of Japanese animation", "2D anime style", "二维动漫风格"),
        "2d_cartoon": Term("other drawn or flat vector animation", "2D cartoon style", "二维卡通风格"),
        "3d_cartoon": Term("computer-made in three dimensions, stylised as in animated films", "3D cartoon style",
                           "三维卡通风格"),
        "3d_realistic": Term("computer-made in three dimensions, meant to look real", "photorealistic CGI style",
                             "写实三维风格"),
        "video_game": Term("recorded from a video game, often with its displays", "video game style", "电子游戏风格"),
        "stop_motion": Term("puppets, clay or objects moved frame by frame", "stop-motion style", "定格动画风格"),
        "painting": Term("looks painted or sketched by hand: oil, water colour, ink, pencil", "painted style",
                         "绘画风格"),
        "pixel_art": Term("made of visible coarse pixels", "pixel art style", "像素风格"),
        "motion_graphics": Term("animated shapes, diagrams, titles or logos", "motion graphics style",
                                "动态图形风格"),
        "screen_recording": Term("a computer or phone screen in use", "screen recording style", "录屏风格"),
        **_UNCLEAR,
    },
    "color_tone": {
        "warm": Term("reds, oranges and yellows prevail", "warm tones", "暖色调"),
        "cool": Term("blues, cyans and cold greens prevail", "cool tones", "冷色调"),
        "neutral": Term("natural balance, no cast and medium saturation", "neutral tones", "中性色调"),
        "vivid": Term("strongly saturated colours of several hues", "vivid colors", "鲜艳色彩"),
        "muted": Term("greyish colours of low saturation", "muted colors", "低饱和色调"),
        "pastel": Term("pale, light, soft colours", "pastel colors", "粉彩色调"),
        "black_and_white": Term("shades of grey only", "black and white", "黑白影调"),
        "sepia": Term("one brownish tint, as in old photographs", "sepia tones", "怀旧棕褐色调"),
        "neon": Term("glowing, artificial colours against darkness", "neon colors", "霓虹色调"),
        **_UNCLEAR,
    },
    "lighting": {
        "daylight": Term("outdoors in the sun, with clear shadows", "bright daylight", "明亮日光"),
        "overcast": Term("outdoors under cloud or in shade, soft and without clear shadows", "soft overcast light",
                         "柔和的阴天光线"),
        "golden_hour": Term("low warm sun near sunrise or sunset", "golden-hour light", "黄金时刻的光线"),
        "night": Term("outdoors in the dark, under moon, street or city lights", "night lighting", "夜间光线"),
        "window_light": Term("indoors, lit by daylight through windows", "window light", "窗边自然光"),
        "indoor": Term("indoors under ordinary lamps", "indoor lighting", "室内灯光"),
        "studio": Term("even, arranged light of a studio or a product shot", "studio lighting", "影棚灯光"),
        "low_key": Term("mostly dark on purpose, with few lit parts and deep shadows", "low-key lighting", "低调光"),
        "backlit": Term("the light is behind the subject: rim light or silhouette", "backlighting", "逆光"),
        "colored": Term("light of obvious colours: stage, neon, fire, screens", "colored lighting", "彩色灯光"),
        "flat": Term("drawn or graphic, with no light to speak of"),
        **_UNCLEAR,
    },
}  # fmt: skip

QUESTIONS: Mapping[str, str] = {
    "shot_size": "how much of the main subject the frame holds; compare animals and things with a person",
    "lens_type": "what the perspective and the depth of focus look like",
    "camera_angle": "from where the camera looks at the main subject; take the most special term that applies",
    "visual_style": "how the picture was made",
    "color_tone": "what the colours of the whole picture have in common",
    "lighting": "the light on the main subject",
}
"""The question about each property."""

CAMERA_MOTIONS: Mapping[str, Term] = {
    "static": Term("", "the camera holds still", "镜头静止不动"),
    "pan_left": Term("", "the camera pans left", "镜头向左摇"),
    "pan_right": Term("", "the camera pans right", "镜头向右摇"),
    "tilt_up": Term("", "the camera tilts up", "镜头向上摇"),
    "tilt_down": Term("", "the camera tilts down", "镜头向下摇"),
    "zoom_in": Term("", "the camera zooms in", "镜头推近"),
    "zoom_out": Term("", "the camera zooms out", "镜头拉远"),
    "roll": Term("", "the camera rolls", "镜头旋转"),
    "shake": Term("", "the camera shakes", "镜头晃动"),
}
"""Phrases of captions for the classes of `camera_motion` (measured, never asked); of other classes they say nothing."""
