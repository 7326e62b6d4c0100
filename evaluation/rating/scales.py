"""What is asked: dimensions, and a descriptor for each of their five levels."""

from __future__ import annotations

from dataclasses import dataclass

KINDS = ("mos", "gsb")


@dataclass(frozen=True)
class Dimension:
    """One question about a video.

    Args:
        name: as in ratings.dimension.
        title: for people.
        question: what to judge, and what not.
        levels: descriptors of 1 to 5.
    """

    name: str
    title: str
    question: str
    levels: tuple[str, str, str, str, str]


DIMENSIONS = {
    one.name: one
    for one in (
        Dimension(
            "text_alignment",
            "Text",
            "Does the video show what the text says: things, number, colours, places, actions, camera?",
            (
                "shows something else",
                "shows little of it",
                "main thing right, parts missing or wrong",
                "a small part missing or wrong",
                "shows all of it",
            ),
        ),
        Dimension(
            "image_alignment",
            "Picture",
            "Does the video go on from the given picture, and keep its things, faces and style?",
            (
                "has nothing of it",
                "begins with it and loses it",
                "keeps the whole, changes clear parts",
                "changes a small part",
                "keeps all of it",
            ),
        ),
        Dimension(
            "visual_quality",
            "Look",
            "Is each picture clear and sound: sharp, no artefacts, malformed bodies or flicker? Leave motion aside.",
            (
                "hard to look at",
                "clear faults most of the time",
                "faults now and then",
                "a fault if you look for it",
                "like a good recording",
            ),
        ),
        Dimension(
            "motion_quality",
            "Motion",
            "Is there motion, and is it smooth, as bodies and things really move? A still video is poor here.",
            (
                "still, or impossible throughout",
                "mostly wrong or jerky",
                "believable with clear faults",
                "a slight fault",
                "natural and smooth",
            ),
        ),
        Dimension(
            "overall",
            "Overall",
            "All in all: how good is this video as an answer to the request?",
            ("bad", "poor", "fair", "good", "excellent"),
        ),
    )
}
"""The report's dimensions (5.1); `image_alignment` is asked where a picture was given."""

TEXT = ("text_alignment", "visual_quality", "motion_quality", "overall")
IMAGE = ("image_alignment", *TEXT)


def is_asked(dimension: str, task: str, prompt: str) -> bool:
    """Return whether a dimension is asked about a video: the picture's, or the text's, only where one was given."""
    if dimension == "image_alignment":
        return task != "t2v"
    return dimension != "text_alignment" or bool(prompt.strip())


CHECK = "check"
"""Kind of a rating that is an attention check's answer, in place of the study's kind."""

PREFERENCES = {1: "better", 0: "same", -1: "worse"}
"""Values of a pair's answer, of the first model against the other."""
